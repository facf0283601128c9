//! The builder process: killed, failing, or left alone by a dead writer, it costs time and nothing else.

mod common;

use common::{Api, Server, is_alive, pair, signal, wait_until};
use nix::sys::signal::Signal;
use shoaldb::ipc::method::Method;
use shoaldb::proto::common::IndexState;
use shoaldb::proto::milvus;

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
    let collection_name = NAME.to_owned();
    let release = milvus::ReleaseCollectionRequest { collection_name: collection_name.clone(), ..Default::default() };
    api.status(Method::ReleaseCollection, &release).expect("released");
    let field_name = "vector".to_owned();
    let drop = milvus::DropIndexRequest {
        collection_name: collection_name.clone(),
        field_name: field_name.clone(),
        ..Default::default()
    };
    api.status(Method::DropIndex, &drop).expect("the scan's index goes");
    let create = milvus::CreateIndexRequest {
        collection_name: collection_name.clone(),
        field_name,
        // Quick to build: how good it is, tests/python/test_indexes.py asks.
        extra_params: vec![
            pair("index_type", "RABITQ_GRAPH"),
            pair("metric_type", "L2"),
            pair("params", "{\"rounds\": 1, \"efConstruction\": 16}"),
        ],
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

/// Index files in the data directory.
fn index_files(server: &Server) -> usize {
    let dirs = std::fs::read_dir(server.data_dir.join("tables")).expect("tables").flatten();
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir.path()).into_iter().flatten().flatten());
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "idx")).count()
}

/// Whether the builder has made a file that the writer did not take yet.
fn is_building(server: &Server) -> bool {
    std::fs::read_dir(server.data_dir.join("run/build")).is_ok_and(|mut files| files.next().is_some())
}

fn times(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

#[test]
fn a_builder_killed_at_work_is_started_again_and_finishes() {
    let server = Server::start_failing("builder.built=delay(600)", &["--searchers", "1"]);
    let mut api = server.api();
    let builder = server.pids("builder")[0];
    fill(&mut api);
    assert_eq!(describe(&mut api).state(), IndexState::InProgress);
    wait_until("the builder writes a file", || is_building(&server));
    signal(builder, Signal::SIGKILL);
    check_search(&mut api);
    let described = wait_for(&mut api, IndexState::Finished);
    assert_eq!((described.indexed_rows, described.pending_index_rows), (ROWS as i64, 0));
    check_search(&mut api);
    assert!(!is_alive(builder) && server.log().contains("the builder died: SIGKILL"), "{}", server.log());
    assert_eq!((index_files(&server), times(&server.log(), "built RABITQ_GRAPH")), (1, 1));
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
        server.set_fail_points("");
        server.start_again();
        let mut api = server.api();
        wait_for(&mut api, IndexState::Finished);
        check_search(&mut api);
        assert_eq!(index_files(&server), 1);
        server.stop();
    }
}

#[test]
fn what_a_dead_writer_ordered_is_taken_over_by_the_next_one() {
    let server = Server::start_failing("builder.built=delay(1500)", &["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    wait_until("the builder writes a file", || is_building(&server));
    signal(server.pids("writer")[0], Signal::SIGKILL);
    wait_for(&mut api, IndexState::Finished);
    check_search(&mut api);
    assert_eq!(times(&server.log(), "built RABITQ_GRAPH"), 1, "it was not built twice: {}", server.log());
}

#[test]
fn a_writer_killed_while_it_takes_an_index_over_loses_nothing() {
    let points = ["file_synced", "file_renamed", "file_durable", "meta_changed", "published"];
    std::thread::scope(|scope| {
        for point in points {
            scope.spawn(move || {
                let mut server = Server::start_failing(&format!("index.{point}=kill"), &["--searchers", "1"]);
                let mut api = server.api();
                fill(&mut api);
                wait_until("the writer dies", || server.log().contains("the writer died: SIGKILL"));
                server.kill();
                let (is_sound, report) = server.doctor();
                assert!(is_sound, "{point}: {report}");
                server.set_fail_points("");
                server.start_again();
                let mut api = server.api();
                wait_for(&mut api, IndexState::Finished);
                check_search(&mut api);
                assert_eq!(index_files(&server), 1, "{point}");
                server.stop();
                let (is_sound, report) = server.doctor();
                assert!(is_sound && !report.contains("remark"), "{point}: {report}");
            });
        }
    });
}

#[test]
fn the_builder_gives_way_to_everybody_else() {
    let server = Server::start(&["--searchers", "1", "--builder-threads", "1"]);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pids("builder")[0])).expect("a builder");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // From proc(5), counted from the state, field 3: nice is 19, the scheduling policy 41; SCHED_BATCH is 3.
    assert_eq!((fields[19 - 3], fields[41 - 3]), ("15", "3"));
}
