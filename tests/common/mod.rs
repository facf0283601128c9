//! Real servers and a lean client for the Rust tests: everything a test starts or makes is gone at its end, also when it fails.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod model;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prost::Message;
use shoaldb::gateway::client::Client;
use shoaldb::ipc::method::Method;
use shoaldb::proto::{common, milvus, schema};

/// How long a test waits for anything: much longer than it takes on a slow, busy machine. An end to what would never come, no claim.
pub const DEADLINE: Duration = Duration::from_secs(600);

/// Waits until a claim is true.
pub fn wait_until(what: &str, mut claim: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !claim() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Tells threads beside a test that it is over, also when it fails: a scope waits for them.
pub struct Over(AtomicBool);

impl Over {
    pub fn new() -> Over {
        Over(AtomicBool::new(false))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// It is set when the guard is dropped.
    pub fn at_end(&self) -> impl Drop + '_ {
        struct Guard<'a>(&'a Over);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.0.store(true, Ordering::Release);
            }
        }
        Guard(self)
    }
}

/// One `shoal serve` on a directory of its own.
pub struct Server {
    pub data_dir: PathBuf,
    pub address: String,
    pub first_line: String,
    arguments: Vec<String>,
    mounts: String,
    fail_points: String,
    child: Option<Child>,
    home: tempfile::TempDir,
}

impl Server {
    /// Starts a server with these further arguments.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_mounted("", arguments)
    }

    /// Starts a server whose processes act at these fail points.
    pub fn start_failing(fail_points: &str, arguments: &[&str]) -> Server {
        Server::start_with("", fail_points, arguments)
    }

    /// Starts a server whose processes wait at these fail points, from their first hits on, until [`Server::let_go`].
    pub fn start_holding(points: &[&str], arguments: &[&str]) -> Server {
        let mut server = Server::new("", "", arguments);
        server.set_holds(points);
        server.start_again();
        server
    }

    /// The next start holds its processes at these fail points.
    pub fn set_holds(&mut self, points: &[&str]) {
        points.iter().for_each(|point| self.hold(point));
        let holds = points.iter().map(|point| format!("{point}=hold({})", self.hold_path(point).display()));
        self.fail_points = holds.collect::<Vec<_>>().join(";");
    }

    /// A fail point of the next start besides.
    pub fn add_fail_point(&mut self, fail_point: &str) {
        self.fail_points = format!("{};{fail_point}", self.fail_points);
    }

    /// Holds whoever comes to a fail point again, after [`Server::let_go`].
    pub fn hold(&self, point: &str) {
        fs::write(self.hold_path(point), b"").expect("the test's directory is writable");
    }

    /// Waits until a process is held at a fail point for the n-th time since this server was made.
    pub fn wait_until_held(&self, point: &str, nth: usize) {
        let said = format!("held at fail point {point}\n");
        wait_until(&said, || self.log().matches(&said).count() >= nth);
    }

    /// Whoever is held at a fail point goes on, and whoever comes there later.
    pub fn let_go(&self, point: &str) {
        fs::remove_file(self.hold_path(point)).expect("it was held");
    }

    fn hold_path(&self, point: &str) -> PathBuf {
        self.home.path().join(point)
    }

    /// Whether this machine lets an ordinary user mount something for itself; tests that need it cannot be made elsewhere.
    pub fn may_mount() -> bool {
        let mut command = Command::new("unshare");
        let mount = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]).stderr(Stdio::null());
        let may = command.status().is_ok_and(|status| status.success());
        if !may {
            println!("not tested: this machine lets nobody mount anything for itself");
        }
        may
    }

    /// Starts a server in a mount namespace of its own after `mounts`, a shell text in which `$DATA` is the data directory.
    pub fn start_mounted(mounts: &str, arguments: &[&str]) -> Server {
        Server::start_with(mounts, "", arguments)
    }

    /// A directory of its own, and nothing started.
    pub fn unstarted() -> Server {
        Server::new("", "", &[])
    }

    fn start_with(mounts: &str, fail_points: &str, arguments: &[&str]) -> Server {
        let mut server = Server::new(mounts, fail_points, arguments);
        server.start_again();
        server
    }

    fn new(mounts: &str, fail_points: &str, arguments: &[&str]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let home = tempfile::tempdir().expect("a temporary directory");
        let unique = format!("rs{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let data_dir = home.path().join(unique);
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (mounts, fail_points) = (mounts.to_owned(), fail_points.to_owned());
        let (address, first_line) = (String::new(), String::new());
        Server { data_dir, address, first_line, arguments, mounts, fail_points, child: None, home }
    }

    /// The fail points of the next start.
    pub fn set_fail_points(&mut self, fail_points: &str) {
        fail_points.clone_into(&mut self.fail_points);
    }

    /// Starts it again after [`Server::kill`] or [`Server::stop`], without waiting until it serves.
    pub fn launch(&mut self) {
        self.child = Some(self.spawn(Stdio::null()));
    }

    /// Starts it again after [`Server::kill`] or [`Server::stop`].
    pub fn start_again(&mut self) {
        assert!(self.try_start_again(), "the server does not serve; log: {}", self.log());
    }

    /// As [`Server::start_again`]; whether it serves. One that does not is waited for with [`Server::ended`].
    pub fn try_start_again(&mut self) -> bool {
        let mut child = self.spawn(Stdio::piped());
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a first line, or none");
        self.child = Some(child);
        let Some(rest) = line.split("127.0.0.1:").nth(1) else { return false };
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        self.address = format!("127.0.0.1:{port}");
        self.first_line = line;
        true
    }

    fn spawn(&self, stdout: Stdio) -> Child {
        let log = fs::File::options().append(true).create(true).open(self.log_path()).expect("a log file");
        self.command()
            .arg("serve")
            .arg(&self.data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .args(&self.arguments)
            // What tests look for in the log, whoever runs them.
            .env("SHOAL_LOG", "info,shoaldb::writer::huge_pages=debug")
            .envs((!self.fail_points.is_empty()).then_some(("SHOAL_FAILPOINTS", &self.fail_points)))
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .expect("shoal starts")
    }

    /// The binary, inside a mount namespace when the test asked for mounts.
    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_shoal");
        if self.mounts.is_empty() {
            return Command::new(binary);
        }
        let script = format!("set -e; mkdir -p \"$DATA\"; {}; exec \"$0\" \"$@\"", self.mounts);
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, binary]).env("DATA", &self.data_dir);
        command
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// The supervisor.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.id() as i32)
    }

    /// The processes of a role, or all children for an empty one.
    pub fn pids(&self, role: &str) -> Vec<i32> {
        let title = format!("shoal: {role}");
        children(self.pid()).into_iter().filter(|pid| role.is_empty() || command_line(*pid).contains(&title)).collect()
    }

    /// Drains it; its exit code must be 0.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id() as i32, nix::sys::signal::Signal::SIGTERM);
            let status = child.wait().expect("a child");
            assert!(status.success(), "a drained server ends with {status}; log: {}", self.log());
        }
    }

    /// Asks it to drain, and waits for its end, however that comes.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("a server that runs");
        signal(child.id() as i32, nix::sys::signal::Signal::SIGTERM);
        child.wait().expect("a child")
    }

    /// Waits for its end by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        self.child.take().expect("a server that runs").wait().expect("a child")
    }

    /// Runs another command of `shoal` on its directory.
    pub fn run(&self, command: &str, options: &[&str]) -> Output {
        self.command().arg(command).arg(&self.data_dir).args(options).output().expect("shoal runs")
    }

    /// What `shoal doctor` says of its directory, and whether that is "sound".
    pub fn doctor(&self) -> (bool, String) {
        let output = self.run("doctor", &[]);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    /// What `shoal status` says.
    pub fn status(&self) -> String {
        let output = self.command().arg("status").arg(&self.data_dir).output().expect("shoal runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// kill -9 of every process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let supervisor = child.id() as i32;
            // A supervisor that saw its children die would write so, and start others.
            signal(supervisor, nix::sys::signal::Signal::SIGSTOP);
            wait_until("the supervisor stands still", || {
                stat(supervisor).is_none_or(|(_, state)| state == "T" || state == "Z")
            });
            let mut pids = children(supervisor);
            pids.push(supervisor);
            for pid in &pids {
                signal(*pid, nix::sys::signal::Signal::SIGKILL);
            }
            child.wait().expect("a child");
            wait_until("killed processes are gone", || !pids.iter().any(|pid| is_alive(*pid)));
        }
    }

    /// What is in shared memory under this database's name.
    pub fn shm_left(&self) -> Vec<String> {
        let stem = format!("shoal-{}-", self.data_dir.file_name().expect("a name").to_string_lossy());
        let entries = fs::read_dir("/dev/shm").expect("/dev/shm is there");
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| name.starts_with(&stem)).collect()
    }

    /// A client of this server.
    pub fn api(&self) -> Api {
        Api::connect(&self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        for name in self.shm_left() {
            let path = Path::new("/dev/shm").join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}", self.log());
        }
    }
}

/// Sends a signal; a process that is gone is fine.
pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// Whether a process is there and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(_, state)| state != "Z")
}

/// (parent, state) of a process.
fn stat(pid: i32) -> Option<(i32, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?.to_owned();
    Some((words.next()?.parse().ok()?, state))
}

/// The children of a process.
pub fn children(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(its_parent, _)| its_parent == parent)).collect()
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// A field of a process's `smaps_rollup` in KiB, such as `Pss` or `Private_Dirty`.
pub fn memory_kib(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap_or_default().to_owned();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// What a call was answered with, when it was not success.
#[derive(Debug)]
pub struct Refused {
    pub code: i32,
    pub reason: String,
}

/// A blocking client with the calls the tests need. Collections have `id` (Int64 key), `batch` (Int64), `vector`.
pub struct Api {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

fn checked(status: Option<common::Status>) -> Result<(), Refused> {
    let status = status.unwrap_or_default();
    match status.code {
        0 if status.error_code == 0 => Ok(()),
        code => Err(Refused { code, reason: status.reason }),
    }
}

pub fn pair(key: &str, value: &str) -> common::KeyValuePair {
    common::KeyValuePair { key: key.to_owned(), value: value.to_owned() }
}

impl Api {
    pub fn connect(address: &str) -> Api {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(Client::connect(address)).expect("the server accepts");
        Api { runtime, client }
    }

    /// One call; a transport error counts as refused with code -1.
    pub fn call<Req: Message, Res: Message + Default + 'static>(
        &mut self,
        method: Method,
        request: &Req,
    ) -> Result<Res, Refused> {
        let answer = self.runtime.block_on(self.client.call::<Req, Res>(method.name(), request));
        answer.map_err(|error| Refused { code: -1, reason: error.to_string() })
    }

    /// One call with an encoded request; a transport error counts as refused with code -1.
    pub fn call_bytes(&mut self, method: Method, request: Vec<u8>) -> Result<Vec<u8>, Refused> {
        let answer = self.runtime.block_on(self.client.call_bytes(method.name(), request));
        answer.map_err(|error| Refused { code: -1, reason: error.to_string() })
    }

    /// Creates, indexes (FLAT) and loads a collection.
    pub fn create(&mut self, name: &str, dim: usize, metric: &str) {
        self.try_create(name, dim).expect("the collection is created");
        self.try_index(name, metric).expect("the index is created");
        self.try_load(name).expect("the collection is loaded");
    }

    pub fn try_create(&mut self, name: &str, dim: usize) -> Result<(), Refused> {
        let field = |id, name: &str, data_type, is_primary_key, type_params| schema::FieldSchema {
            field_id: id,
            name: name.to_owned(),
            data_type,
            is_primary_key,
            type_params,
            ..Default::default()
        };
        let wire = schema::CollectionSchema {
            name: name.to_owned(),
            fields: vec![
                field(100, "id", 5, true, vec![]),
                field(101, "batch", 5, false, vec![]),
                field(102, "vector", 101, false, vec![pair("dim", &dim.to_string())]),
            ],
            ..Default::default()
        };
        let create = milvus::CreateCollectionRequest {
            collection_name: name.to_owned(),
            schema: wire.encode_to_vec(),
            ..Default::default()
        };
        self.status(Method::CreateCollection, &create)
    }

    pub fn try_index(&mut self, name: &str, metric: &str) -> Result<(), Refused> {
        let index = milvus::CreateIndexRequest {
            collection_name: name.to_owned(),
            field_name: "vector".to_owned(),
            extra_params: vec![pair("index_type", "FLAT"), pair("metric_type", metric)],
            ..Default::default()
        };
        self.status(Method::CreateIndex, &index)
    }

    pub fn try_load(&mut self, name: &str) -> Result<(), Refused> {
        let load = milvus::LoadCollectionRequest { collection_name: name.to_owned(), ..Default::default() };
        self.status(Method::LoadCollection, &load)
    }

    /// A call answered by a bare status.
    pub fn status<Req: Message>(&mut self, method: Method, request: &Req) -> Result<(), Refused> {
        let status = self.call::<Req, common::Status>(method, request)?;
        checked(Some(status))
    }

    pub fn insert(&mut self, name: &str, ids: &[i64], batch: i64, vectors: &[f32]) -> Result<u64, Refused> {
        let request = milvus::InsertRequest {
            collection_name: name.to_owned(),
            fields_data: rows(ids, batch, vectors),
            num_rows: ids.len() as u32,
            ..Default::default()
        };
        let answer: milvus::MutationResult = self.call(Method::Insert, &request)?;
        checked(answer.status)?;
        assert_eq!(answer.insert_cnt, ids.len() as i64);
        Ok(answer.timestamp)
    }

    pub fn upsert(&mut self, name: &str, ids: &[i64], batch: i64, vectors: &[f32]) -> Result<u64, Refused> {
        let request = milvus::UpsertRequest {
            collection_name: name.to_owned(),
            fields_data: rows(ids, batch, vectors),
            num_rows: ids.len() as u32,
            ..Default::default()
        };
        let answer: milvus::MutationResult = self.call(Method::Upsert, &request)?;
        checked(answer.status)?;
        Ok(answer.timestamp)
    }

    pub fn delete(&mut self, name: &str, expression: &str) -> Result<i64, Refused> {
        let request = milvus::DeleteRequest {
            collection_name: name.to_owned(),
            expr: expression.to_owned(),
            ..Default::default()
        };
        let answer: milvus::MutationResult = self.call(Method::Delete, &request)?;
        checked(answer.status)?;
        Ok(answer.delete_cnt)
    }

    pub fn flush(&mut self, name: &str) {
        let request = milvus::FlushRequest { collection_names: vec![name.to_owned()], ..Default::default() };
        let answer: milvus::FlushResponse = self.call(Method::Flush, &request).expect("a flush");
        checked(answer.status).expect("flushed");
        let segments = answer.coll_seg_i_ds.iter().filter(|entry| entry.key == name);
        let segments = segments.filter_map(|entry| entry.value.clone()).flat_map(|ids| ids.data).collect();
        let flush_ts = answer.coll_flush_ts.get(name).copied().unwrap_or(0);
        let state = milvus::GetFlushStateRequest {
            segment_i_ds: segments,
            flush_ts,
            collection_name: name.to_owned(),
            ..Default::default()
        };
        wait_until("flushed", || {
            let answer: milvus::GetFlushStateResponse = self.call(Method::GetFlushState, &state).expect("an answer");
            answer.flushed
        });
    }

    /// Merges what can be merged, and waits until that is done.
    pub fn compact(&mut self, name: &str) {
        let request = milvus::ManualCompactionRequest { collection_name: name.to_owned(), ..Default::default() };
        let answer: milvus::ManualCompactionResponse =
            self.call(Method::ManualCompaction, &request).expect("an answer");
        checked(answer.status).expect("a compaction");
        let state = milvus::GetCompactionStateRequest { compaction_id: answer.compaction_id };
        wait_until("merged", || {
            let answer: milvus::GetCompactionStateResponse =
                self.call(Method::GetCompactionState, &state).expect("an answer");
            answer.state() == common::CompactionState::Completed
        });
    }

    pub fn query(
        &mut self,
        name: &str,
        expression: &str,
        fields: &[&str],
        limit: Option<usize>,
    ) -> Result<milvus::QueryResults, Refused> {
        let request = milvus::QueryRequest {
            collection_name: name.to_owned(),
            expr: expression.to_owned(),
            output_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            query_params: limit.map(|limit| pair("limit", &limit.to_string())).into_iter().collect(),
            ..Default::default()
        };
        let answer: milvus::QueryResults = self.call(Method::Query, &request)?;
        checked(answer.status.clone())?;
        Ok(answer)
    }

    pub fn count(&mut self, name: &str) -> i64 {
        let answer = self.query(name, "", &["count(*)"], None).expect("a count");
        longs(&answer, "count(*)")[0]
    }

    /// (ids, scores) of the hits of one query vector.
    pub fn search(&mut self, name: &str, vector: &[f32], limit: usize) -> Result<(Vec<i64>, Vec<f32>), Refused> {
        let group = common::PlaceholderGroup {
            placeholders: vec![common::PlaceholderValue {
                tag: "$0".to_owned(),
                r#type: 101,
                values: vec![vector.iter().flat_map(|value| value.to_le_bytes()).collect()],
                ..Default::default()
            }],
        };
        let request = milvus::SearchRequest {
            collection_name: name.to_owned(),
            nq: 1,
            dsl_type: 1,
            search_input: Some(milvus::search_request::SearchInput::PlaceholderGroup(group.encode_to_vec())),
            search_params: vec![pair("topk", &limit.to_string()), pair("anns_field", "vector"), pair("params", "{}")],
            ..Default::default()
        };
        let answer: milvus::SearchResults = self.call(Method::Search, &request)?;
        checked(answer.status)?;
        let results = answer.results.unwrap_or_default();
        let ids = match results.ids.and_then(|ids| ids.id_field) {
            Some(schema::i_ds::IdField::IntId(ids)) => ids.data,
            _ => vec![],
        };
        Ok((ids, results.scores))
    }
}

/// An Int64 column of a query's answer.
pub fn longs(answer: &milvus::QueryResults, field: &str) -> Vec<i64> {
    let column = answer.fields_data.iter().find(|column| column.field_name == field);
    match column.and_then(|column| column.field.as_ref()) {
        Some(schema::field_data::Field::Scalars(schema::ScalarField {
            data: Some(schema::scalar_field::Data::LongData(values)),
        })) => values.data.clone(),
        _ => panic!("no Int64 column {field} in the answer"),
    }
}

fn rows(ids: &[i64], batch: i64, vectors: &[f32]) -> Vec<schema::FieldData> {
    let long = |name: &str, data: Vec<i64>| schema::FieldData {
        r#type: 5,
        field_name: name.to_owned(),
        field: Some(schema::field_data::Field::Scalars(schema::ScalarField {
            data: Some(schema::scalar_field::Data::LongData(schema::LongArray { data })),
        })),
        ..Default::default()
    };
    let vectors = schema::FieldData {
        r#type: 101,
        field_name: "vector".to_owned(),
        field: Some(schema::field_data::Field::Vectors(schema::VectorField {
            dim: (vectors.len() / ids.len().max(1)) as i64,
            data: Some(schema::vector_field::Data::FloatVector(schema::FloatArray { data: vectors.to_vec() })),
        })),
        ..Default::default()
    };
    vec![long("id", ids.to_vec()), long("batch", vec![batch; ids.len()]), vectors]
}
