//! The builder process: killed, failing, or left alone by a dead writer, it costs time and nothing else; so do damaged indexes.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Api, Server, is_alive, pair, signal, wait_until};
use nix::sys::signal::Signal;
use shoaldb::ipc::method::Method;
use shoaldb::proto::common::IndexState;
use shoaldb::proto::milvus;
use shoaldb::storage::meta::Meta;
use shoaldb::sys::map::SharedMap;
use shoaldb::types::FileState;

const DIM: usize = 8;
/// Just enough for an index.
const ROWS: usize = 4_200;
const NAME: &str = "rows";

fn vector(seed: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2001) as f32 / 1000.0 - 1.0
    };
    (0..DIM).map(|_| next()).collect()
}

/// Rows in one table file, and an index that the builder has to build.
fn fill(api: &mut Api) {
    api.create(NAME, DIM, "L2");
    let ids: Vec<i64> = (0..ROWS as i64).collect();
    let vectors: Vec<f32> = (0..ROWS).flat_map(vector).collect();
    api.insert(NAME, &ids, 0, &vectors).expect("rows are inserted");
    api.flush(NAME);
    index(api);
}

/// A server of one searcher whose rows have their index.
fn indexed(fail_points: &str) -> (Server, Api) {
    let server = Server::start_failing(fail_points, &["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    wait_for(&mut api, IndexState::Finished);
    (server, api)
}

/// Replaces the collection's index by one that is quick to build: how good it is, tests/python/test_indexes.py asks.
fn index(api: &mut Api) {
    index_with(api, "{\"rounds\": 1, \"efConstruction\": 16}");
}

/// Replaces the collection's index.
fn index_with(api: &mut Api, params: &str) {
    let collection_name = NAME.to_owned();
    let release = milvus::ReleaseCollectionRequest { collection_name: collection_name.clone(), ..Default::default() };
    api.status(Method::ReleaseCollection, &release).expect("released");
    let field_name = "vector".to_owned();
    let drop = milvus::DropIndexRequest {
        collection_name: collection_name.clone(),
        field_name: field_name.clone(),
        ..Default::default()
    };
    api.status(Method::DropIndex, &drop).expect("the index before goes");
    let create = milvus::CreateIndexRequest {
        collection_name: collection_name.clone(),
        field_name,
        extra_params: vec![pair("index_type", "RABITQ_GRAPH"), pair("metric_type", "L2"), pair("params", params)],
        ..Default::default()
    };
    api.status(Method::CreateIndex, &create).expect("the index is created");
    let load = milvus::LoadCollectionRequest { collection_name, ..Default::default() };
    api.status(Method::LoadCollection, &load).expect("loaded");
}

fn describe(api: &mut Api) -> milvus::IndexDescription {
    let request = milvus::DescribeIndexRequest { collection_name: NAME.to_owned(), ..Default::default() };
    let answer: milvus::DescribeIndexResponse = api.call(Method::DescribeIndex, &request).expect("an answer");
    answer.index_descriptions.into_iter().next().expect("an index")
}

fn wait_for(api: &mut Api, state: IndexState) -> milvus::IndexDescription {
    wait_until(&format!("the index is {state:?}"), || describe(api).state() == state);
    describe(api)
}

/// A row is found by its own vector, whatever the state of the index.
fn check_search(api: &mut Api) {
    for row in [0, 1, ROWS / 2, ROWS - 1] {
        let (ids, scores) = api.search(NAME, &vector(row), 3).expect("searches never fail");
        assert_eq!((ids[0], scores[0]), (row as i64, 0.0));
    }
}

/// Starts it again without fail points: nothing of what came before is in the way.
fn builds_after_a_restart(server: &mut Server) {
    server.set_fail_points("");
    server.start_again();
    let mut api = server.api();
    wait_for(&mut api, IndexState::Finished);
    check_search(&mut api);
    assert_eq!(index_files(server).len(), 1);
}

/// Index files in the data directory.
fn index_files(server: &Server) -> Vec<PathBuf> {
    let dirs = fs::read_dir(server.data_dir.join("tables")).expect("tables").flatten();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.path()).into_iter().flatten().flatten()).map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "idx")).collect()
}

/// Whether the builder has made a file that the writer did not take yet.
fn is_building(server: &Server) -> bool {
    fs::read_dir(server.data_dir.join("run/build")).is_ok_and(|mut files| files.next().is_some())
}

/// Lets a process, and those it starts, have so many bytes of memory of their own.
fn limit_memory(pid: i32, bytes: Option<u64>) {
    let pid = rustix::process::Pid::from_raw(pid);
    let limit = rustix::process::Rlimit { current: bytes, maximum: None };
    rustix::process::prlimit(pid, rustix::process::Resource::Data, limit).expect("a limit");
}

/// Bytes that count for such a limit.
fn own_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmData:")).expect("a line");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}

fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

#[test]
fn a_builder_killed_at_work_is_started_again_and_finishes() {
    let server = Server::start_holding(&["builder.built"], &["--searchers", "1"]);
    let mut api = server.api();
    let builder = server.pids("builder")[0];
    fill(&mut api);
    server.wait_until_held("builder.built", 1);
    assert!(is_building(&server) && describe(&mut api).state() == IndexState::InProgress);
    signal(builder, Signal::SIGKILL);
    check_search(&mut api);
    server.let_go("builder.built");
    let described = wait_for(&mut api, IndexState::Finished);
    assert_eq!((described.indexed_rows, described.pending_index_rows), (ROWS as i64, 0));
    check_search(&mut api);
    assert!(!is_alive(builder) && server.log().contains("the builder died: SIGKILL"), "{}", server.log());
    let known = Meta::open_read_only(&server.data_dir.join("meta.sqlite")).and_then(|meta| meta.load()).expect("read");
    let states: Vec<FileState> = known.files.iter().map(|file| file.state).collect();
    assert_eq!((states, known.index_files.len()), (vec![FileState::Backup], 1), "noted together");
    assert_eq!((index_files(&server).len(), times(&server.log(), "built RABITQ_GRAPH")), (1, 1));
}

#[test]
fn three_failures_leave_a_searchable_file_and_say_why_and_a_restart_tries_again() {
    for (point, reason) in
        [("builder.started=kill", "the builder died: SIGKILL"), ("builder.built=error", "builder.built")]
    {
        let mut server = Server::start_failing(point, &["--searchers", "1"]);
        let mut api = server.api();
        fill(&mut api);
        let described = wait_for(&mut api, IndexState::Failed);
        assert!(described.index_state_fail_reason.contains(reason), "{described:?}");
        assert_eq!((described.indexed_rows, described.pending_index_rows), (0, ROWS as i64));
        assert_eq!(times(&server.log(), "of 3 to index table file"), 3, "{}", server.log());
        check_search(&mut api);
        let status = server.status();
        assert!(status.contains("rows stay without") && status.contains(reason), "{status}");
        server.stop();
        builds_after_a_restart(&mut server);
        server.stop();
    }
}

#[test]
fn a_builder_that_gets_no_memory_gives_up_and_says_so_and_builds_when_there_is_some() {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    // Enough to start and to wait, less than a build takes.
    let enough = own_memory(server.pids("builder")[0]) + (1 << 20);
    for pid in [server.pid(), server.pids("builder")[0]] {
        limit_memory(pid, Some(enough));
    }
    fill(&mut api);
    let described = wait_for(&mut api, IndexState::Failed);
    let reason = &described.index_state_fail_reason;
    assert!(reason.contains("SIGABRT") && reason.contains("it got no more memory"), "{reason}");
    assert_eq!((described.indexed_rows, described.pending_index_rows), (0, ROWS as i64));
    let log = server.log();
    assert_eq!((times(&log, "of 3 to index table file"), times(&log, "memory allocation of")), (3, 3), "{log}");
    let status = server.status();
    assert!(status.contains("rows stay without") && status.contains("it got no more memory"), "{status}");
    check_search(&mut api);
    limit_memory(server.pid(), None);
    server.pids("builder").into_iter().for_each(|pid| limit_memory(pid, None));
    index(&mut api);
    wait_for(&mut api, IndexState::Finished);
    check_search(&mut api);
    assert_eq!(times(&server.log(), "of 3 to index table file"), 3);
}

#[test]
fn a_build_that_takes_the_server_down_is_not_tried_for_ever() {
    let mut server = Server::start_holding(&["builder.started"], &["--searchers", "1"]);
    fill(&mut server.api());
    for nth in 1..=3 {
        server.wait_until_held("builder.started", nth);
        check_search(&mut server.api());
        server.kill();
        server.start_again();
    }
    for _ in 0..2 {
        let mut api = server.api();
        let described = wait_for(&mut api, IndexState::Failed);
        assert!(described.index_state_fail_reason.contains("killed while it built"), "{described:?}");
        assert!(server.status().contains("killed while it built"), "{}", server.status());
        check_search(&mut api);
        server.kill();
        server.start_again();
    }
    server.stop();
    builds_after_a_restart(&mut server);
}

#[test]
fn a_server_that_stops_in_the_middle_of_a_build_counts_no_failure() {
    let mut server = Server::start_holding(&["builder.started"], &["--searchers", "1"]);
    fill(&mut server.api());
    for nth in 1..=4 {
        server.wait_until_held("builder.started", nth);
        server.stop();
        server.start_again();
        assert_eq!(describe(&mut server.api()).state(), IndexState::InProgress);
    }
}

#[test]
fn what_the_builder_made_is_read_before_it_is_believed() {
    let server = Server::start_holding(&["builder.built"], &["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    server.wait_until_held("builder.built", 1);
    // Whole, and not renamed yet.
    let made = fs::read_dir(server.data_dir.join("run/build")).expect("a folder").flatten().next().expect("a file");
    assert!(fs::read(made.path()).expect("read").starts_with(b"SHOALIDX"));
    flip_in_the_middle(&made.path());
    server.let_go("builder.built");
    wait_until("it is refused", || server.log().contains("attempt 1 of 3 to index table file"));
    assert!(server.log().contains("checksum is wrong"), "{}", server.log());
    check_search(&mut api);
    wait_for(&mut api, IndexState::Finished);
    check_search(&mut api);
    assert_eq!((index_files(&server).len(), times(&server.log(), "built RABITQ_GRAPH")), (1, 2));
}

#[test]
fn what_a_dead_writer_ordered_is_taken_over_by_the_next_one() {
    let server = Server::start_holding(&["builder.built"], &["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    server.wait_until_held("builder.built", 1);
    let writer = server.pids("writer")[0];
    signal(writer, Signal::SIGKILL);
    wait_until("the next writer is ready", || times(&server.log(), "the writer is ready") == 2);
    server.let_go("builder.built");
    wait_for(&mut api, IndexState::Finished);
    check_search(&mut api);
    // What is ordered now is built after everything that was ordered before.
    index(&mut api);
    wait_for(&mut api, IndexState::Finished);
    assert_eq!(times(&server.log(), "built RABITQ_GRAPH"), 2, "it was not built twice: {}", server.log());
}

#[test]
fn a_writer_killed_while_it_takes_an_index_over_loses_nothing() {
    let points = ["file_synced", "file_renamed", "file_durable", "meta_changed", "published"];
    // The last step; not every kernel does it.
    let moved = huge_pages_are_given().then_some("moved");
    std::thread::scope(|scope| {
        for point in points.into_iter().chain(moved) {
            scope.spawn(move || {
                let mut server = Server::start_failing(&format!("index.{point}=kill"), &["--searchers", "1"]);
                let mut api = server.api();
                fill(&mut api);
                wait_until("the writer dies", || server.log().contains("the writer died: SIGKILL"));
                server.kill();
                let (is_sound, report) = server.doctor();
                assert!(is_sound, "{point}: {report}");
                builds_after_a_restart(&mut server);
                server.stop();
                let (is_sound, report) = server.doctor();
                assert!(is_sound && !report.contains("remark"), "{point}: {report}");
            });
        }
    });
}

/// Whether the kernel moves files of shared memory into huge pages on demand (Linux 6.1 and later, unless denied).
fn huge_pages_are_given() -> bool {
    const BYTES: usize = 4 << 20;
    let file = tempfile::tempfile_in("/dev/shm").expect("a file in shared memory");
    let map = SharedMap::create(&file, BYTES).expect("a map");
    map.collapse(0, BYTES).inspect_err(|error| println!("not tested, this kernel gives no huge pages: {error}")).is_ok()
}

/// KiB of index files in shared memory that a process maps by huge pages.
fn in_huge_pages(pid: i32) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let (mut is_index, mut sum) = (false, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ShmemPmdMapped:" | "FilePmdMapped:") if is_index => {
                sum += words.next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number");
            }
            Some(first) if !first.ends_with(':') => is_index = line.ends_with(".idx"),
            _ => {}
        }
    }
    sum
}

#[test]
fn a_published_index_is_searched_in_huge_pages_and_a_stop_while_it_moves_loses_nothing() {
    if !huge_pages_are_given() {
        return;
    }
    let (mut server, mut api) = indexed("index.moved=delay(1500)");
    let searcher = server.pids("searcher")[0];
    let is_moved = || in_huge_pages(searcher) >= 2 << 10;
    let is_refused = || server.log().contains("stays in small pages");
    wait_until("the searcher reads the index in a huge page", || {
        check_search(&mut api);
        is_moved() || is_refused()
    });
    if !is_moved() {
        println!("not tested, this kernel had a huge page to give for a moment only");
        return;
    }
    // The writer is between two pieces now, or about to be.
    server.stop();
    let (is_sound, report) = server.doctor();
    assert!(is_sound && !report.contains("remark"), "{report}");
    server.start_again();
    let mut api = server.api();
    assert_eq!(describe(&mut api).state(), IndexState::Finished);
    check_search(&mut api);
    assert_eq!(times(&server.log(), "built RABITQ_GRAPH"), 1);
}

/// Damage that no checksum of an older version would have seen: a version that is not ours, in a header that is whole.
fn other_version(path: &Path) {
    const PAGE: usize = 4096;
    let mut bytes = fs::read(path).expect("read");
    bytes[8] += 1;
    let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes[..PAGE - 8]);
    bytes[PAGE - 8..PAGE].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).expect("written");
}

fn flip_in_the_middle(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(path, bytes).expect("written");
}

/// Nothing in the second half is what it was; header and lengths are.
fn scramble(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
    fs::write(path, bytes).expect("written");
}

fn cut_in_half(path: &Path) {
    let bytes = fs::metadata(path).expect("there").len();
    fs::File::options().write(true).open(path).expect("opened").set_len(bytes / 2).expect("cut");
}

fn take_away(path: &Path) {
    fs::remove_file(path).expect("removed");
}

/// What is done to a file.
type Damage = fn(&Path);

/// Damages the index between two runs, then watches it being scanned around, said and built again, as it was.
fn damage_and_check(server: &mut Server, what: &str, damage: Damage, reason: &str) {
    let index = index_files(server).pop().expect("an index");
    let whole = fs::read(&index).expect("read");
    damage(&index);
    let before = server.log().len();
    server.start_again();
    let mut api = server.api();
    let described = describe(&mut api);
    assert_eq!(described.state(), IndexState::InProgress, "{what}: {described:?}");
    assert_eq!((described.indexed_rows, described.pending_index_rows), (0, ROWS as i64), "{what}");
    check_search(&mut api);
    let status = server.status();
    assert!(status.contains("rows to index"), "{what}: {status}");
    let log = server.log()[before..].to_owned();
    let said = log.lines().find(|line| line.contains("is built again"));
    let said = said.unwrap_or_else(|| panic!("{what}: nothing of it in {log}"));
    let name = index.file_name().expect("a name").to_string_lossy();
    assert!(said.contains(&*name) && said.contains(reason), "{what}: {said}");
    server.let_go("builder.started");
    let described = wait_for(&mut api, IndexState::Finished);
    assert_eq!((described.indexed_rows, described.pending_index_rows), (ROWS as i64, 0), "{what}");
    check_search(&mut api);
    assert_eq!(times(&server.log()[before..], "built RABITQ_GRAPH"), 1, "{what}");
    assert!(fs::read(&index).expect("read") == whole, "{what}: the same rows and parameters give the same index");
    assert!(!server.status().contains("rows to index"), "{what}: {}", server.status());
}

#[test]
fn an_index_that_is_damaged_between_two_runs_is_scanned_around_and_built_again() {
    let (mut server, _) = indexed("");
    server.set_holds(&["builder.started"]);
    let damages: [(&str, Damage, &str); 4] = [
        ("flipped", flip_in_the_middle, "its checksum does not match"),
        ("cut", cut_in_half, "its length is not that it was written with"),
        ("version", other_version, "its format has another version"),
        ("missing", take_away, "No such file"),
    ];
    for (number, (what, damage, reason)) in damages.into_iter().enumerate() {
        // A killed server leaves its copies in shared memory; a damaged file must not be searched from there either.
        if number % 2 == 0 {
            server.stop()
        } else {
            server.kill()
        }
        damage_and_check(&mut server, what, damage, reason);
        server.hold("builder.started");
    }
    server.stop();
    let (is_sound, report) = server.doctor();
    assert!(is_sound && !report.contains("remark"), "{report}");
}

/// A start checks only so many bytes before it answers.
#[test]
fn an_index_that_was_not_checked_at_the_start_is_not_searched_before_it_is() {
    let (mut server, _) = indexed("");
    for (damage, builds) in [(None, 0), (Some(scramble as Damage), 1)] {
        server.stop();
        let index = index_files(&server).pop().expect("an index");
        let whole = fs::read(&index).expect("read");
        damage.iter().for_each(|damage| damage(&index));
        let before = server.log().len();
        server.set_holds(&["publish.table_copied"]);
        server.add_fail_point("recover.checking=error");
        server.start_again();
        let mut api = server.api();
        let described = describe(&mut api);
        assert_eq!(described.state(), IndexState::InProgress, "{described:?}");
        assert_eq!((described.indexed_rows, described.pending_index_rows), (0, ROWS as i64));
        check_search(&mut api);
        server.let_go("publish.table_copied");
        wait_for(&mut api, IndexState::Finished);
        check_search(&mut api);
        let log = server.log()[before..].to_owned();
        assert_eq!((times(&log, "is built again"), times(&log, "built RABITQ_GRAPH")), (builds, builds), "{log}");
        assert!(fs::read(&index).expect("read") == whole);
    }
}

#[test]
fn progress_is_told_as_it_is_from_the_first_row_to_the_last() {
    let steps = ["builder.started", "builder.built", "index.file_synced"];
    let server = Server::start_holding(&steps, &["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    let mut told = Vec::new();
    let mut look = |api: &mut Api| {
        let described = describe(api);
        let (indexed, pending) = (described.indexed_rows, described.pending_index_rows);
        assert_eq!((described.total_rows, indexed + pending), (ROWS as i64, ROWS as i64), "{described:?}");
        let state = if pending == 0 { IndexState::Finished } else { IndexState::InProgress };
        assert_eq!(described.state(), state, "{described:?}");
        told.push(indexed);
        indexed
    };
    for step in steps {
        wait_until(step, || {
            look(&mut api);
            server.log().contains(&format!("held at fail point {step}\n"))
        });
        let indexed = look(&mut api);
        let is_begun = step != "builder.started";
        assert_eq!(indexed > 0, is_begun, "{step}: {indexed}");
        let status = server.status();
        assert!(is_begun || status.contains("the builder indexes table file"), "{status}");
        server.let_go(step);
    }
    wait_until("the index is finished", || look(&mut api) == ROWS as i64);
    assert!(told.is_sorted(), "{told:?}");
    // Built is not enough: the writer must have taken it over.
    assert_eq!(index_files(&server).len(), 1);
    // The other two calls that clients wait with say the same.
    let collection_name = NAME.to_owned();
    let request = milvus::GetIndexStateRequest { collection_name: collection_name.clone(), ..Default::default() };
    let state: milvus::GetIndexStateResponse = api.call(Method::GetIndexState, &request).expect("an answer");
    assert_eq!(state.state(), IndexState::Finished);
    let request = milvus::GetIndexBuildProgressRequest { collection_name, ..Default::default() };
    let progress: milvus::GetIndexBuildProgressResponse =
        api.call(Method::GetIndexBuildProgress, &request).expect("an answer");
    assert_eq!((progress.indexed_rows, progress.total_rows), (ROWS as i64, ROWS as i64));
}

#[test]
fn the_builder_gives_way_to_everybody_else() {
    let server = Server::start(&["--searchers", "1", "--builder-threads", "1"]);
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pids("builder")[0])).expect("a builder");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // From proc(5), counted from the state, field 3: nice is 19, the scheduling policy 41; SCHED_BATCH is 3.
    assert_eq!((fields[19 - 3], fields[41 - 3]), ("15", "3"));
}

/// Most threads of the builder at once while it builds an index.
fn threads_of_a_build(options: &[&str]) -> usize {
    let server = Server::start(&[&["--searchers", "1"], options].concat());
    let mut api = server.api();
    let tasks = format!("/proc/{}/task", server.pids("builder")[0]);
    let threads = || fs::read_dir(&tasks).map_or(0, Iterator::count);
    fill(&mut api);
    if !cfg!(debug_assertions) {
        // Long enough to be looked at.
        index_with(&mut api, "{\"rounds\": 3, \"efConstruction\": 300}");
    }
    let mut most = 0;
    wait_until("the index is built", || {
        most = most.max(threads());
        describe(&mut api).state() == IndexState::Finished
    });
    most
}

#[test]
fn an_index_is_built_on_as_many_threads_as_there_should_be() {
    let threads = |count: usize| threads_of_a_build(&["--builder-threads", &count.to_string()]);
    // And one waits for orders. Those of one stage may still be ending when the next one begins.
    let (one, eight) = (threads(1), threads(8));
    assert!(one == 2 && eight >= 9, "{one} and {eight} threads");
}
