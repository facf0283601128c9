//! The writer's order of things: durable, then visible, then acknowledged, and the manifest before all of them. Fail points hold
//! each gap open, so that a change of the order is seen at once and not once in a thousand runs.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Over, Server};

const DIM: usize = 4;

#[test]
fn a_row_is_invisible_until_its_log_group_is_synced() {
    let server = Server::start_holding(&["log.syncing"], &["--searchers", "1"]);
    let mut api = server.api();
    api.create("gap", DIM, "L2");
    std::thread::scope(|scope| {
        let insert = scope.spawn(|| server.api().insert("gap", &[1], 1, &[0.0; DIM]).expect("inserted"));
        server.wait_until_held("log.syncing", 1);
        for _ in 0..20 {
            assert_eq!(api.count("gap"), 0, "a row is visible that a power cut would take away");
        }
        assert!(!insert.is_finished(), "it is acknowledged before its sync");
        server.let_go("log.syncing");
        insert.join().expect("inserted");
    });
    assert_eq!(api.count("gap"), 1);
}

#[test]
fn an_acknowledged_operation_is_wholly_in_place_and_visible() {
    let points = "commit.logged=delay(20);commit.durable=delay(20)";
    let server = Server::start_failing(points, &["--searchers", "1"]);
    let mut api = server.api();
    api.create("acknowledged", DIM, "L2");
    for id in 0..10 {
        api.insert("acknowledged", &[id], 1, &[0.0; DIM]).expect("inserted");
        assert_eq!(api.count("acknowledged"), id + 1);
    }
    for id in 0..5 {
        api.delete("acknowledged", &format!("id == {id}")).expect("deleted");
        assert_eq!(api.count("acknowledged"), 9 - id);
    }
    for id in 5..10 {
        api.upsert("acknowledged", &[id], 2, &[0.0; DIM]).expect("upserted");
        assert_eq!(
            common::longs(&api.query("acknowledged", &format!("id == {id}"), &["batch"], None).expect("read"), "batch"),
            [2]
        );
    }
}

#[test]
fn what_an_operation_lies_in_is_published_before_it_is_acknowledged() {
    let server = Server::start_failing(
        "publish.manifest_written=delay(30)",
        &["--searchers", "1", "--auto-flush-interval", "20ms"],
    );
    let mut api = server.api();
    api.create("named", DIM, "L2");
    for id in 0..20 {
        // Each insert finds the file before it flushed or about to be: it needs a new chunk, or its delete a new file.
        api.insert("named", &[id], 1, &[0.0; DIM]).expect("inserted");
        assert_eq!(api.count("named"), 1, "insert {id}");
        api.delete("named", &format!("id == {id}")).expect("deleted");
        assert_eq!(api.count("named"), 0, "delete {id}");
    }
}

#[test]
fn a_replaced_row_is_never_missed_while_a_manifest_is_under_way() {
    let server = Server::start_failing(
        "publish.manifest_written=delay(20)",
        &["--searchers", "1", "--auto-flush-interval", "10ms"],
    );
    let mut api = server.api();
    api.create("replaced", DIM, "L2");
    api.insert("replaced", &[1], 0, &[0.0; DIM]).expect("inserted");
    let over = Over::new();
    let looks = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut mine = server.api();
            while !over.is_set() {
                assert_eq!(mine.count("replaced"), 1, "the old row is gone before the new one can be found");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let guard = over.at_end();
        for batch in 1.. {
            // Both many changes and many looks, however fast this machine does the one or the other.
            if reads.is_finished() || batch > 40 && looks.load(Ordering::Relaxed) > 100 {
                break;
            }
            // The old row dies in a file that readers map; the new one often lies in one they do not know yet.
            api.upsert("replaced", &[1], batch, &[0.0; DIM]).expect("upserted");
        }
        drop(guard);
        reads.join().expect("reads are right");
    });
}

#[test]
fn a_delete_by_filter_sees_what_came_while_it_looked() {
    let point = "delete.scanned";
    let server = Server::start_holding(&[point], &["--searchers", "1"]);
    let mut api = server.api();
    api.create("filtered", DIM, "L2");
    api.insert("filtered", &[1, 2], 7, &[0.0; 2 * DIM]).expect("inserted");
    api.insert("filtered", &[3], 8, &[0.0; DIM]).expect("inserted");
    std::thread::scope(|scope| {
        let delete = scope.spawn(|| server.api().delete("filtered", "batch == 7").expect("deleted"));
        server.wait_until_held(point, 1);
        // Key 1 has stopped to match when the delete comes to its place in the order, key 4 has begun to.
        api.upsert("filtered", &[1], 8, &[0.0; DIM]).expect("upserted");
        api.insert("filtered", &[4], 7, &[0.0; DIM]).expect("inserted");
        server.let_go(point);
        assert_eq!(delete.join().expect("no panic"), 2, "keys 2 and 4");
    });
    let left = api.query("filtered", "id >= 0", &["id"], Some(10)).expect("an answer");
    assert_eq!(common::longs(&left, "id"), [1, 3]);
    // Inserts alone do not make it look at everything again, nor miss anything.
    server.hold(point);
    std::thread::scope(|scope| {
        let delete = scope.spawn(|| server.api().delete("filtered", "batch == 8").expect("deleted"));
        server.wait_until_held(point, 2);
        api.insert("filtered", &[5, 6], 8, &[0.0; 2 * DIM]).expect("inserted");
        server.let_go(point);
        assert_eq!(delete.join().expect("no panic"), 4);
    });
    assert_eq!(api.count("filtered"), 0);
}

/// A group whose log cannot be synced: never acknowledged, said clearly, reads go on, after a restart there wholly or not at all.
fn refuse_a_group(action: &str, text: &str) {
    let rows: Vec<i64> = (0..100).collect();
    let vectors = vec![0.0; rows.len() * DIM];
    let mut server = Server::start_failing(&format!("log.syncing={action}:after 2"), &["--searchers", "1"]);
    let mut api = server.api();
    api.create("refused", DIM, "L2");
    api.insert("refused", &rows, 1, &vectors).expect("the first group is synced");
    api.upsert("refused", &rows[..50], 2, &vectors[..50 * DIM]).expect("the second group is synced");
    let refused = api.upsert("refused", &rows, 3, &vectors).expect_err("the third group is not");
    assert!(refused.reason.contains(text), "{refused:?}");
    let batches = |api: &mut common::Api| -> Vec<i64> {
        common::longs(&api.query("refused", "id >= 0", &["batch"], Some(1000)).expect("reads go on"), "batch")
    };
    let half_and_half: Vec<i64> = rows.iter().map(|id| if *id < 50 { 2 } else { 1 }).collect();
    assert_eq!(batches(&mut api), half_and_half, "nothing of the refused group is visible");
    server.kill();
    server.set_fail_points("");
    server.start_again();
    let found = batches(&mut server.api());
    assert!(found == half_and_half || found == vec![3; 100], "{found:?}");
}

#[test]
fn a_drain_that_cannot_flush_is_no_success() {
    let mut server =
        Server::start_failing("serialise.table_synced=error(28)", &["--searchers", "1", "--auto-flush-interval", "1h"]);
    let mut api = server.api();
    api.create("kept", DIM, "L2");
    api.insert("kept", &[1], 1, &[0.0; DIM]).expect("inserted");
    drop(api);
    let status = server.terminate();
    assert_eq!(status.code(), Some(4), "{status}: {}", server.log());
    server.set_fail_points("");
    server.start_again();
    assert_eq!(server.api().count("kept"), 1, "the log has it");
}

#[test]
fn a_failed_sync_acknowledges_nothing() {
    refuse_a_group("error", "sync log segment");
}

#[test]
fn a_disk_that_is_full_at_the_sync_acknowledges_nothing() {
    refuse_a_group("error(28)", "No space left");
}
