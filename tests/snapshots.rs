//! Readers in other processes, attached to the same memory, see whole operations only.
//!
//! The reader processes are this test binary again, running one of its `child_*` tests with the data directory in the environment.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::{DEADLINE, Server, memory_kib, wait_until};
use shoaldb::filter::{Plan, Templates};
use shoaldb::index::Queries;
use shoaldb::query::{OutputRows, RetrieveOptions, SearchOptions, Selection, retrieve, search};
use shoaldb::reader::Reader;
use shoaldb::types::{ColumnData, Metric};

/// Keys of the collection whose rows always carry one batch number.
const KEYS: i64 = 64;
const DIM: usize = 4;
/// Over all reader processes.
const QUERIES: usize = 100_000;
const READERS: usize = 4;
/// More batches than this go by under the eyes of each reader process.
const BATCHES_SEEN: usize = 20;

fn child(test: &str, server: &Server, argument: &str) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("SHOAL_TEST_DATA", &server.data_dir)
        .env("SHOAL_TEST_ARGUMENT", argument)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child")
}

/// The environment of a `child_*` test, or `None` when it runs as an ordinary test.
fn child_arguments() -> Option<(std::path::PathBuf, String)> {
    let data_dir = std::env::var_os("SHOAL_TEST_DATA")?;
    Some((data_dir.into(), std::env::var("SHOAL_TEST_ARGUMENT").unwrap_or_default()))
}

/// Waits until a child has printed this.
fn wait_for_line(output: &mut impl BufRead, text: &str) {
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains(text)), "the child ended without '{text}'");
}

fn everything(snapshot: &shoaldb::query::Snapshot) -> Selection {
    let plan = Plan::new("", &snapshot.view.manifest.schema, &Templates::default()).expect("the empty filter");
    Selection { plan, partitions: vec![], ignore_growing: false }
}

/// The (key, batch) pairs that one query sees.
fn read_pairs(reader: &Reader) -> Vec<(i64, i64)> {
    let snapshot = reader.snapshot("default", "whole").expect("a snapshot");
    let options = RetrieveOptions { selection: everything(&snapshot), offset: 0, limit: None };
    let found = retrieve(&snapshot, &options).expect("an answer");
    let rows = OutputRows { snapshot: &snapshot, rows: &found.rows };
    let column = |name: &str| {
        let field = snapshot.view.manifest.schema.field(name).expect("a field");
        match rows.column(field).data {
            ColumnData::Int64(values) => values,
            other => panic!("{other:?}"),
        }
    };
    column("id").into_iter().zip(column("batch")).collect()
}

#[test]
fn child_that_checks_batches() {
    let Some((data_dir, count)) = child_arguments() else { return };
    let reader = Reader::attach(data_dir).expect("attached");
    let least: usize = count.parse().expect("a count");
    let mut batches_seen = std::collections::HashSet::new();
    let end = Instant::now() + DEADLINE;
    let mut query = 0;
    // However fast this machine reads and writes: many queries, and many batches among them.
    while query < least || batches_seen.len() <= BATCHES_SEEN {
        assert!(Instant::now() < end, "{query} queries saw {} batches in {DEADLINE:?}", batches_seen.len());
        let pairs = read_pairs(&reader);
        let keys: Vec<i64> = pairs.iter().map(|(key, _)| *key).collect();
        // Between batches a delete takes all rows away at once: all or nothing.
        assert!(keys.is_empty() || keys == (0..KEYS).collect::<Vec<_>>(), "query {query}: keys {keys:?}");
        assert!(pairs.windows(2).all(|two| two[0].1 == two[1].1), "query {query}: several batches: {pairs:?}");
        batches_seen.extend(pairs.first().map(|(_, batch)| *batch));
        query += 1;
    }
    println!("{query} queries, {} batches seen", batches_seen.len());
}

#[test]
fn every_query_sees_whole_batches_and_whole_deletes() {
    // Small files and a fast tick: flushes and merges happen all the time.
    let server = Server::start(&["--searchers", "1", "--auto-flush-interval", "20ms"]);
    let mut api = server.api();
    api.create("whole", DIM, "L2");
    let ids: Vec<i64> = (0..KEYS).collect();
    let vectors = vec![1.0; KEYS as usize * DIM];
    api.upsert("whole", &ids, 0, &vectors).expect("the first batch");
    let mut readers: Vec<Child> =
        (0..READERS).map(|_| child("child_that_checks_batches", &server, &(QUERIES / READERS).to_string())).collect();
    let mut batch = 0;
    while readers.iter_mut().any(|reader| reader.try_wait().expect("a child").is_none()) {
        batch += 1;
        api.upsert("whole", &ids, batch, &vectors).expect("a batch");
        if batch % 7 == 0 {
            assert_eq!(api.delete("whole", "id >= 0").expect("a delete"), KEYS);
        }
    }
    for reader in readers {
        let output = reader.wait_with_output().expect("a child");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn child_that_searches_and_waits() {
    let Some((data_dir, _)) = child_arguments() else { return };
    let reader = Reader::attach(data_dir).expect("attached");
    let snapshot = reader.snapshot("default", "large").expect("a snapshot");
    let field = snapshot.view.manifest.schema.field("vector").expect("a field");
    let options = SearchOptions {
        field: field.id,
        queries: Queries::dense(128, Metric::L2, vec![7.0; 128]),
        top_k: 1,
        grouping: None,
        range: None,
        settings: shoaldb::index::spec::SearchSettings::default(),
        selection: everything(&snapshot),
    };
    let hits = search(&snapshot, &options).expect("hits");
    assert_eq!(hits[0].scores, [0.0]);
    println!("searched");
    // The parent measures, then closes the pipe.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn eight_attached_processes_share_one_copy() {
    let rows: usize = 100_000;
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    api.create("large", 128, "L2");
    for start in (0..rows).step_by(10_000) {
        let ids: Vec<i64> = (start as i64..start as i64 + 10_000).collect();
        let vectors: Vec<f32> = ids.iter().flat_map(|id| [*id as f32; 128]).collect();
        api.insert("large", &ids, 0, &vectors).expect("inserted");
    }
    api.flush("large");
    // Otherwise some readers may map the files before a merge, and others the one after it.
    api.compact("large");
    let data_kib = (rows * (128 * 4 + 8 + 8 + 8) / 1024) as u64;
    let mut readers: Vec<Child> = (0..8)
        .map(|_| {
            Command::new(std::env::current_exe().expect("this binary"))
                .args(["--exact", "child_that_searches_and_waits", "--nocapture", "--test-threads=1"])
                .env("SHOAL_TEST_DATA", &server.data_dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("a child")
        })
        .collect();
    let mut outputs: Vec<_> =
        readers.iter_mut().map(|reader| BufReader::new(reader.stdout.take().expect("piped"))).collect();
    outputs.iter_mut().for_each(|output| wait_for_line(output, "searched"));
    let pss: u64 = readers.iter().map(|reader| memory_kib(reader.id() as i32, "Pss")).sum();
    let private: Vec<u64> = readers.iter().map(|reader| memory_kib(reader.id() as i32, "Private_Dirty")).collect();
    for mut reader in readers {
        drop(reader.stdin.take());
        assert!(reader.wait().expect("a child").success());
    }
    println!("data {data_kib} KiB, sum of PSS of 8 readers {pss} KiB, private {private:?} KiB");
    assert!(
        pss <= data_kib * 11 / 10 + 8 * 6 * 1024,
        "8 readers hold {pss} KiB for {data_kib} KiB of data: {private:?}"
    );
}

#[test]
fn child_that_waits_for_a_key() {
    let Some((data_dir, key)) = child_arguments() else { return };
    let reader = Reader::attach(data_dir).expect("attached");
    let key: i64 = key.parse().expect("a key");
    let is_there = || read_pairs(&reader).iter().any(|(id, _)| *id == key);
    assert!(!is_there());
    println!("attached");
    wait_until("the key appears", is_there);
}

#[test]
fn an_attached_reader_outlives_a_restart_of_the_writer() {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    api.create("whole", DIM, "L2");
    api.insert("whole", &[1], 1, &[0.0; DIM]).expect("inserted");
    let mut reader = child("child_that_waits_for_a_key", &server, "2");
    // Kept: what the reader prints at its end must go somewhere.
    let mut output = BufReader::new(reader.stdout.take().expect("piped"));
    wait_for_line(&mut output, "attached");
    let before = server.pids("writer");
    common::signal(before[0], nix::sys::signal::Signal::SIGKILL);
    wait_until("a new writer", || server.pids("writer").iter().any(|pid| *pid != before[0]));
    wait_until("the new writer takes rows", || api.insert("whole", &[2], 1, &[0.0; DIM]).is_ok());
    assert!(reader.wait().expect("a child").success());
}

#[test]
fn a_reader_used_after_fork_works_in_the_child() {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    api.create("whole", DIM, "L2");
    api.insert("whole", &[1, 2, 3], 1, &[0.0; 3 * DIM]).expect("inserted");
    let output = child("child_that_forks", &server, "").wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[allow(unsafe_code, reason = "fork is the point of the test")]
fn child_that_forks() {
    let Some((data_dir, _)) = child_arguments() else { return };
    let reader = Reader::attach(data_dir).expect("attached");
    assert_eq!(read_pairs(&reader).len(), 3);
    // SAFETY: the child only reads through the handle and leaves with `_exit`.
    match unsafe { nix::unistd::fork() }.expect("a fork") {
        nix::unistd::ForkResult::Child => {
            let count = read_pairs(&reader).len();
            drop(reader);
            // SAFETY: ends this process without running the test harness's clean-up.
            unsafe { nix::libc::_exit(if count == 3 { 0 } else { 1 }) }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).expect("the child's end");
            assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
            assert_eq!(read_pairs(&reader).len(), 3);
        }
    }
}
