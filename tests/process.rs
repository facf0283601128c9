//! The real `shoal` binary: one server per directory, killed processes, stops, and what is left behind.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use shoaldb::config::Instance;
use shoaldb::ipc::progress::ProgressBlock;
use shoaldb::supervisor::remove_shared;
use shoaldb::sys::{lock, procfs};

const SHOAL: &str = env!("CARGO_BIN_EXE_shoal");
const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory and everything of it that could be left behind.
struct Database {
    home: tempfile::TempDir,
}

/// A running server; killed when dropped.
struct Server<'a> {
    database: &'a Database,
    process: Child,
    first_line: String,
}

impl Database {
    fn new() -> Database {
        Database { home: tempfile::tempdir().expect("a temporary directory") }
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn instance(&self) -> Instance {
        std::fs::create_dir_all(self.data_dir()).expect("made");
        Instance::new(&self.data_dir(), Path::new("/dev/shm")).expect("an instance")
    }

    fn shoal(&self, command: &str, more: &[&str]) -> Command {
        let mut shoal = Command::new(SHOAL);
        shoal.arg(command).arg(self.data_dir()).args(more).stdin(Stdio::null());
        shoal
    }

    fn serve(&self, more: &[&str]) -> Server<'_> {
        let log = File::options().append(true).create(true).open(self.home.path().join("log")).expect("a log");
        let mut command = self.shoal("serve", &["--listen", "127.0.0.1:0"]);
        let mut process = command.args(more).stdout(Stdio::piped()).stderr(log).spawn().expect("started");
        let mut first_line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut first_line).expect("a line");
        assert!(first_line.starts_with("shoal: serving "), "{first_line}{}", self.log());
        Server { database: self, process, first_line }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.shoal(command, more).output().expect("ran")
    }

    fn status(&self) -> Value {
        let output = self.run("status", &["--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// (role, index, pid, restarts) of every process.
    fn processes(&self) -> Vec<(String, u64, u32, u64)> {
        let status = self.status();
        let processes = status["processes"].as_array().expect("processes").iter();
        let number = |process: &Value, key: &str| process[key].as_u64().expect("a number");
        processes
            .map(|process| {
                let role = process["role"].as_str().expect("a role").to_owned();
                (role, number(process, "index"), number(process, "pid") as u32, number(process, "restarts"))
            })
            .collect()
    }

    fn pid(&self, role: &str, index: u64) -> u32 {
        self.processes().iter().find(|process| process.0 == role && process.1 == index).map_or(0, |process| process.2)
    }

    fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn assert_clean(&self) {
        let instance = self.instance();
        let names = std::fs::read_dir("/dev/shm")
            .expect("listed")
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let left: Vec<String> = names.filter(|name| name.contains(&instance.name)).collect();
        assert_eq!(left, Vec::<String>::new(), "/dev/shm");
        assert_eq!(std::fs::read_dir(instance.run_dir()).map_or(0, |entries| entries.count()), 0, "run directory");
        assert!(!instance.lock_path().exists(), "LOCK");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        remove_shared(&self.instance(), shoaldb::shm::readers::remove_block);
    }
}

impl Server<'_> {
    fn address(&self) -> String {
        self.first_line.split(' ').nth(2).expect("an address").to_owned()
    }

    /// SIGKILL to every process of the server at once.
    fn kill_all(&mut self) {
        let mut command = Command::new("kill");
        command.arg("-KILL").args(self.database.processes().iter().map(|process| process.2.to_string()));
        assert!(command.status().expect("kill runs").success());
        self.process.wait().expect("reaped");
    }

    fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        let process = &mut self.process;
        self.database.wait_until("the server ends", || {
            status = process.try_wait().expect("waited");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let path = self.database.data_dir().join("LOCK");
        self.database.wait_until("the lock is released", || matches!(lock::holder(&path), Ok(None)));
    }
}

fn is_alive(pid: u32) -> bool {
    procfs::read(pid).is_ok_and(|facts| !facts.is_zombie)
}

fn kill(pid: u32) {
    assert!(pid > 1);
    assert!(Command::new("kill").arg("-KILL").arg(pid.to_string()).status().expect("kill runs").success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_second_server_on_a_directory_exits_with_3_and_names_the_first() {
    let database = Database::new();
    let server = database.serve(&["--searchers", "1"]);
    let begun = Instant::now();
    let output = database.run("serve", &["--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(
        text(&output.stderr).contains(&format!("in use by pid {}", server.process.id())),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_stopped_server_leaves_only_durable_files() {
    let database = Database::new();
    let mut server = database.serve(&["--searchers", "2"]);
    assert!(TcpStream::connect(server.address()).is_ok());
    let output = database.run("stop", &[]);
    assert!(output.status.success(), "{}{}", text(&output.stderr), database.log());
    assert_eq!(server.exit_code(), Some(0));
    database.assert_clean();
    assert!(database.data_dir().join("meta.sqlite").exists());
}

#[test]
fn a_killed_server_is_swept_by_the_next_start() {
    let database = Database::new();
    let mut server = database.serve(&["--searchers", "2"]);
    let pids: Vec<u32> = database.processes().iter().map(|process| process.2).collect();
    assert_eq!(pids.len(), 5);
    server.kill_all();
    database.wait_until("every process is gone", || pids.iter().all(|pid| !is_alive(*pid)));
    drop(server);
    assert!(database.instance().shm_dir.exists(), "there is something to sweep");
    let mut second = database.serve(&["--searchers", "1"]);
    assert!(database.run("stop", &[]).status.success());
    assert_eq!(second.exit_code(), Some(0));
    database.assert_clean();
}

#[test]
fn gc_removes_what_dead_servers_left_and_touches_no_living_one() {
    let (dead, living) = (Database::new(), Database::new());
    // Other tests' dead servers are theirs to sweep.
    let shm_dir = tempfile::tempdir().expect("a directory");
    let shm_path = shm_dir.path().display().to_string();
    let mut server = dead.serve(&["--searchers", "1", "--shm-dir", &shm_path]);
    server.kill_all();
    drop(server);
    let _living = living.serve(&["--searchers", "1", "--shm-dir", &shm_path]);
    let count = || std::fs::read_dir(&shm_path).expect("listed").count();
    assert_eq!(count(), 2);
    let output = Command::new(SHOAL).args(["gc", "--shm-dir", &shm_path]).output().expect("ran");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(count(), 1, "{}", text(&output.stdout));
    assert!(ProgressBlock::read(&dead.instance()).is_err() && ProgressBlock::read(&living.instance()).is_ok());
}

#[test]
fn killed_searcher_writer_and_gateway_come_back() {
    let database = Database::new();
    let server = database.serve(&["--searchers", "2"]);
    for role in ["searcher", "writer", "gateway"] {
        let dead = database.pid(role, 0);
        kill(dead);
        database.wait_until(role, || ![0, dead].contains(&database.pid(role, 0)));
    }
    let restarts: u64 = database.processes().iter().map(|process| process.3).sum();
    assert_eq!(restarts, 3);
    assert!(TcpStream::connect(server.address()).is_ok());
    assert!(database.run("stop", &[]).status.success());
    database.assert_clean();
}

#[test]
fn a_unix_socket_is_served_and_removed() {
    let database = Database::new();
    let socket = database.home.path().join("shoal.sock");
    let server = database.serve(&["--searchers", "1", "--listen", &format!("unix:{}", socket.display())]);
    assert!(server.first_line.contains(&format!("unix:{}", socket.display())), "{}", server.first_line);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(database.run("stop", &[]).status.success());
    assert!(!socket.exists());
}

#[test]
fn bad_options_exit_with_2_and_say_what_is_wrong() {
    let database = Database::new();
    let file = database.home.path().join("shoal.toml");
    std::fs::write(&file, "serchers = 2\n").expect("written");
    let path = file.display().to_string();
    for (options, word) in [
        (vec!["--config", path.as_str()], "serchers"),
        (vec!["--searchers", "0"], "searchers"),
        (vec!["--insert-buffer-size", "lots"], "lots"),
        (vec!["--listen", "nowhere"], "nowhere"),
        (vec!["--shm-dir", "/no/such/dir"], "/no/such/dir"),
    ] {
        let output = database.run("serve", &options);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(word), "{options:?}: {}", text(&output.stderr));
    }
    database.assert_clean();
}

#[test]
fn commands_on_a_directory_without_a_server_say_so() {
    let database = Database::new();
    std::fs::create_dir(database.data_dir()).expect("made");
    for command in ["status", "stop"] {
        let output = database.run(command, &[]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("shoal serve"), "{}", text(&output.stderr));
    }
    assert_eq!(database.run("doctor", &[]).status.code(), Some(2));
}

#[test]
fn doctor_finds_a_stopped_servers_directory_sound() {
    let database = Database::new();
    let server = database.serve(&["--searchers", "1"]);
    assert_eq!(database.run("doctor", &[]).status.code(), Some(0), "while it runs");
    assert!(database.run("stop", &[]).status.success());
    drop(server);
    let output = database.run("doctor", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("is sound"), "{}", text(&output.stdout));
}
