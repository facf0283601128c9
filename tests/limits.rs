//! Short memory, short disks, small buffers, idle servers: what stays true at the edges.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use common::{Api, Over, Server, children, longs, memory_kib, wait_until};

const DIM: usize = 128;

fn vectors(ids: &[i64]) -> Vec<f32> {
    ids.iter().flat_map(|id| [*id as f32; DIM]).collect()
}

fn status(server: &Server) -> serde_json::Value {
    let output = server.run("status", &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("status is JSON")
}

/// Growing files, in shared memory and on disk, with their bytes. Not of one moment: files come and go while this looks.
fn growing_files(server: &Server) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<_> = server.shm_left().iter().map(|name| Path::new("/dev/shm").join(name)).collect();
    folders.push(server.data_dir.join("run/live"));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "grow")
                && let Ok(metadata) = entry.metadata()
            {
                found.insert(path, metadata.len());
            }
        }
    }
    found
}

/// Bytes of growing files at one moment: no name comes again, so what two looks found was there between them.
fn growing_bytes(server: &Server) -> Option<u64> {
    let (before, after) = (growing_files(server), growing_files(server));
    (before == after).then(|| after.values().sum())
}

#[test]
fn the_insert_buffer_is_never_exceeded() {
    let cap: u64 = 8 << 20;
    let server = Server::start(&["--searchers", "1", "--insert-buffer-size", "8MiB"]);
    server.api().create("small", DIM, "L2");
    let over = Over::new();
    let mut looks = Vec::new();
    let batches: i64 = std::thread::scope(|scope| {
        let guard = over.at_end();
        let inserters: Vec<_> = (0..8i64)
            .map(|worker| {
                let (server, over) = (&server, &over);
                scope.spawn(move || {
                    let mut api = server.api();
                    (0..)
                        .take_while(|batch| *batch < 10 || !over.is_set())
                        .map(|batch| insert_some(&mut api, worker, batch))
                        .sum()
                })
            })
            .collect();
        let is_failed = || inserters.iter().any(|inserter: &ScopedJoinHandle<'_, i64>| inserter.is_finished());
        wait_until("the buffer was looked at often", || {
            looks.extend(growing_bytes(&server).filter(|bytes| *bytes > 0));
            looks.len() >= 200 || is_failed()
        });
        drop(guard);
        inserters.into_iter().map(|inserter| inserter.join().expect("rows are inserted")).sum()
    });
    let most = looks.iter().max().expect("looks");
    assert!(*most <= cap, "growing files had {most} bytes, the cap is {cap}");
    assert_eq!(server.api().count("small"), batches * 1000);
}

/// A thousand rows, as soon as there is room for them; one batch.
fn insert_some(api: &mut Api, worker: i64, batch: i64) -> i64 {
    let start = worker * 100_000_000 + batch * 1000;
    let ids: Vec<i64> = (start..start + 1000).collect();
    wait_until("room in the buffer", || match api.insert("small", &ids, batch, &vectors(&ids)) {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.code, 8, "{refused:?}");
            false
        }
    });
    1
}

#[test]
fn idle_searchers_let_go_of_replaced_files() {
    let server = Server::start(&["--searchers", "4"]);
    let mut api = server.api();
    api.create("replaced", DIM, "L2");
    let limbo = || status(&server)["engine"]["limbo_bytes"].as_u64().expect("a number");
    for start in (0..20_000).step_by(2000) {
        let ids: Vec<i64> = (start..start + 2000).collect();
        api.insert("replaced", &ids, 0, &vectors(&ids)).expect("inserted");
        // Whoever answers maps what is there now; it is replaced by the next flush.
        assert_eq!(api.search("replaced", &vectors(&[start]), 1).expect("an answer").0, [start]);
        api.flush("replaced");
    }
    drop(api);
    wait_until("nothing that was replaced is mapped any more", || limbo() == 0);
}

#[test]
fn an_idle_server_costs_next_to_nothing() {
    let server = Server::start(&["--searchers", "4"]);
    let mut api = server.api();
    api.create("idle", DIM, "L2");
    let ids: Vec<i64> = (0..10_000).collect();
    api.insert("idle", &ids, 0, &vectors(&ids)).expect("inserted");
    api.flush("idle");
    drop(api);
    let mut pids = children(server.pid());
    pids.push(server.pid());
    // Merges and copies after the flush come to an end first.
    wait_until("the server uses less than a hundredth of a core", || cpu_share(&pids, Duration::from_secs(3)) < 0.01);
    for pid in server.pids("searcher") {
        let private = memory_kib(pid, "Private_Dirty") + memory_kib(pid, "Private_Clean");
        assert!(private <= 6 * 1024, "searcher {pid} has {private} KiB of private memory");
    }
}

/// CPU seconds per second that these processes use over an interval.
fn cpu_share(pids: &[i32], interval: Duration) -> f64 {
    let used = || -> u64 { pids.iter().map(|pid| cpu_ticks(*pid)).sum() };
    let (before, started) = (used(), Instant::now());
    // An interval is what is measured here; nothing is waited for.
    std::thread::sleep(interval);
    (used() - before) as f64 / 100.0 / started.elapsed().as_secs_f64()
}

fn cpu_ticks(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words: Vec<&str> = text.rsplit_once(") ").map_or(vec![], |(_, rest)| rest.split(' ').collect());
    [11, 12].iter().filter_map(|index| words.get(*index)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_hundred_thousand_rows_answer_within_a_second_of_the_start() {
    let mut server = Server::start(&["--searchers", "2"]);
    let mut api = server.api();
    api.create("start", DIM, "L2");
    for start in (0..100_000).step_by(10_000) {
        let ids: Vec<i64> = (start..start + 10_000).collect();
        api.insert("start", &ids, 0, &vectors(&ids)).expect("inserted");
    }
    api.flush("start");
    drop(api);
    server.stop();
    let first_answer = || {
        let started = Instant::now();
        server.start_again();
        let (ids, _) = server.api().search("start", &[4242.0; DIM], 1).expect("an answer");
        let took = started.elapsed();
        assert_eq!(ids, [4242]);
        server.stop();
        println!("first answer after {took:?}");
        took
    };
    // Of many starts one: the machine may be busy with something else.
    let is_soon = std::iter::repeat_with(first_answer).take(20).any(|took| took < Duration::from_secs(1));
    assert!(is_soon, "no first answer came within a second");
}

#[test]
fn single_row_inserts_end_in_a_handful_of_files() {
    let server = Server::start(&["--searchers", "1", "--auto-flush-interval", "20ms"]);
    let mut api = server.api();
    api.create("crumbs", DIM, "L2");
    for id in 0..10_000 {
        api.insert("crumbs", &[id], 0, &vectors(&[id])).expect("inserted");
    }
    api.flush("crumbs");
    let tables = server.data_dir.join("tables");
    wait_until("few files are left", || table_files(&tables).len() <= 8);
    let data: u64 = 10_000 * (DIM as u64 * 4 + 24);
    wait_until("the disk holds at most three times the data", || {
        table_files(&tables).iter().map(|(_, bytes)| bytes).sum::<u64>() <= 3 * data
    });
    assert_eq!(api.count("crumbs"), 10_000);
    let answer = api.query("crumbs", "id in [0, 5000, 9999]", &["id"], None).expect("an answer");
    assert_eq!(longs(&answer, "id"), [0, 5000, 9999]);
}

fn table_files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(table_files(&entry.path()));
        } else if entry.path().extension().is_some_and(|extension| extension == "arrow") {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.metadata().map_or(0, |data| data.len()),
            ));
        }
    }
    found
}

#[test]
fn nothing_of_table_files_in_shared_memory_still_answers() {
    let server = Server::start(&["--searchers", "1", "--shm-bytes-max", "0"]);
    let mut api = server.api();
    api.create("disk", DIM, "L2");
    let ids: Vec<i64> = (0..5000).collect();
    api.insert("disk", &ids, 0, &vectors(&ids)).expect("inserted");
    api.flush("disk");
    wait_until("sealed", || {
        let collections = status(&server)["collections"].clone();
        collections[0]["disk_mapped_bytes"].as_u64().unwrap_or(0) > 0
    });
    assert_eq!(api.search("disk", &[123.0; DIM], 1).expect("an answer").0, [123]);
}

#[test]
fn four_megabytes_of_shared_memory_are_enough() {
    if !Server::may_mount() {
        return;
    }
    let server = Server::start_mounted("mount -t tmpfs -o size=4m tmpfs /dev/shm", &["--searchers", "2"]);
    let mut api = server.api();
    api.create("tight", DIM, "L2");
    for start in (0..40_000).step_by(4000) {
        let ids: Vec<i64> = (start..start + 4000).collect();
        api.insert("tight", &ids, 0, &vectors(&ids))
            .expect("20 MiB of rows go into a database with 4 MiB of shared memory");
        assert_eq!(api.search("tight", &vectors(&[start + 7]), 1).expect("an answer").0, [start + 7]);
    }
    api.delete("tight", "id in [1, 2, 3]").expect("deleted");
    api.flush("tight");
    assert_eq!(api.count("tight"), 40_000 - 3);
    assert_eq!(api.search("tight", &[39_000.0; DIM], 1).expect("an answer").0, [39_000]);
}

#[test]
fn a_full_disk_is_said_clearly_and_reads_go_on() {
    if !Server::may_mount() {
        return;
    }
    let server = Server::start_mounted(
        "mount -t tmpfs -o size=256m tmpfs \"$DATA\"",
        &["--searchers", "1", "--insert-buffer-size", "16MiB"],
    );
    let mut api = server.api();
    api.create("full", DIM, "L2");
    let mut acknowledged = 0;
    let mut reason = String::new();
    wait_until("the disk is full, and that is said", || {
        let ids: Vec<i64> = (acknowledged..acknowledged + 1000).collect();
        match api.insert("full", &ids, 0, &vectors(&ids)) {
            Ok(_) => acknowledged += 1000,
            // The disk may be too slow for the buffer before it is full.
            Err(refused) if refused.code == 8 => reason.clear(),
            Err(refused) => reason = refused.reason,
        }
        assert!(acknowledged < 1_000_000, "256 MiB cannot hold this");
        !reason.is_empty()
    });
    assert!(reason.contains("No space left") || reason.contains("disk"), "{reason}");
    assert!(acknowledged > 0);
    let last = acknowledged - 1;
    wait_until("reads go on", || api.search("full", &vectors(&[last]), 1).is_ok_and(|(ids, _)| ids == [last]));
    assert_eq!(api.count("full"), acknowledged);
}
