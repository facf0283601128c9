//! The writer dies at every step of its pipeline: each fail point there is, under load, in a drain, in a start. Afterwards
//! every acknowledged write is there, none twice, definitions are as acknowledged, and the directory is clean.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use common::model::{DIM, Model, Random, read_all, write_something};
use common::{Api, DEADLINE, Over, Refused, Server, is_alive, longs, wait_until};
use shoaldb::ipc::method::Method;
use shoaldb::proto::{common as wire, milvus};
use shoaldb::sys::failpoint::POINTS;

/// Servers that run at a time.
const SIDE_BY_SIDE: usize = 5;
/// Rows of the collection that is only ever written as a whole.
const WHOLE_ROWS: i64 = 40;

/// When the point is to be met.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    Load,
    Drain,
    Start,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    point: &'static str,
    /// Hits that pass.
    after: u64,
    moment: Moment,
}

/// Every fail point. Hits of the set-up (two collections: six definitions, as many manifests) pass.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &point in POINTS {
        let (pipeline, step) = point.split_once('.').expect("a point is named <pipeline>.<step>");
        let mut add = |after, moment| cases.push(Case { point, after, moment });
        match (pipeline, step) {
            // Searchers only: tests/fan_out.rs.
            ("board", _) => {}
            // No index is built here: tests/builder.rs.
            ("builder" | "index", _) => {}
            ("recover", _) => add(0, Moment::Start),
            ("checkpoint" | "cut", _) | ("log", "segment_started" | "segment_unlinked") => add(0, Moment::Drain),
            ("ddl", "catalog_published") => add(0, Moment::Load),
            ("ddl", _) => (0..DEFINITIONS as u64).for_each(|nth| add(6 + nth, Moment::Load)),
            ("commit" | "log" | "pool", _) => add(60, Moment::Load),
            ("delete", _) => add(0, Moment::Load),
            ("publish", "catalog_written" | "catalog_stored") => add(5, Moment::Load),
            ("publish", _) => add(20, Moment::Load),
            ("serialise" | "merge", _) => add(2, Moment::Load),
            _ => panic!("{point}: say here when it is met"),
        }
    }
    cases
}

#[test]
fn a_kill_at_any_step_loses_doubles_and_leaves_nothing() {
    let queue = Mutex::new(cases());
    let begun = Instant::now();
    let count = queue.lock().expect("no worker has it yet").len();
    std::thread::scope(|scope| {
        for number in 0..SIDE_BY_SIDE {
            let queue = &queue;
            scope.spawn(move || {
                let mut random = Random::new(number as u64);
                loop {
                    let Some(case) = queue.lock().expect("nobody panics with it").pop() else { return };
                    run(case, &mut random);
                }
            });
        }
    });
    println!("{count} kills in {:?}", begun.elapsed());
}

fn run(case: Case, random: &mut Random) {
    let fail_points = format!("{}=kill:after {}", case.point, case.after);
    let options = ["--searchers", "1", "--auto-flush-interval", "20ms"];
    let mut server = match case.moment {
        Moment::Start => Server::start(&options),
        _ => Server::start_failing(&fail_points, &options),
    };
    let mut expected = Expected::default();
    let mut api = server.api();
    api.create("mixed", DIM, "L2");
    api.create("whole", DIM, "L2");
    expected.definitions.note("mixed", true, &Ok(()));
    expected.definitions.note("whole", true, &Ok(()));
    let writer = server.pids("writer")[0];
    match case.moment {
        Moment::Load => load(&server, case, random, &mut expected, || !is_alive(writer)),
        Moment::Drain | Moment::Start => {
            let mut rounds = 0;
            load(&server, case, random, &mut expected, || {
                rounds += 1;
                rounds > 25
            });
        }
    }
    match case.moment {
        Moment::Load => {
            wait_until("the supervisor sees the death", || server.log().contains("the writer died: SIGKILL"));
            server.kill();
        }
        Moment::Drain => {
            fill_a_segment(&mut api, &mut expected.model);
            let status = server.terminate();
            assert!(!is_alive(writer), "{case:?}: the writer lives after {status}");
            assert!(server.log().contains("SIGKILL"), "{case:?}: the drain did not come to the point");
        }
        Moment::Start => {
            server.kill();
            server.set_fail_points(&fail_points);
            server.launch();
            wait_until("the writer dies while it starts", || server.log().contains("the writer died: SIGKILL"));
            server.kill();
        }
    }
    drop(api);
    assert!(!server.log().contains("is not listed"), "{case:?}: a fail point is missing in POINTS: {}", server.log());
    let (is_sound, report) = server.doctor();
    assert!(is_sound, "{case:?}: {report}");
    server.set_fail_points("");
    server.start_again();
    expected.check(&server, case);
    server.stop();
    let (is_sound, report) = server.doctor();
    assert!(is_sound && !report.contains("remark"), "{case:?}: {report}");
    assert_eq!(server.shm_left(), Vec::<String>::new(), "{case:?}");
}

/// More than the log keeps in one segment when everything of it is obsolete.
fn fill_a_segment(api: &mut Api, model: &mut Model) {
    let ids: Vec<i64> = (1_000_000..1_030_000).collect();
    let outcome = api.insert("mixed", &ids, 1, &vec![1.0; ids.len() * DIM]).map(|_| ());
    assert!(outcome.is_ok(), "{outcome:?}");
    model.wrote(&ids, Some(1), &outcome);
    // These deletes are in no checkpoint when the drain begins.
    api.flush("mixed");
    let outcome = api.delete("mixed", "id in [1000000, 1000001]").map(|_| ());
    model.wrote(&ids[..2], None, &outcome);
}

/// Writes of all kinds until `is_over`.
fn load(server: &Server, case: Case, random: &mut Random, expected: &mut Expected, mut is_over: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let ended = Over::new();
    let Expected { model, definitions, whole } = expected;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut api = server.api();
            let ids: Vec<i64> = (0..WHOLE_ROWS).collect();
            let vectors = vec![0.5; ids.len() * DIM];
            for batch in 1.. {
                if ended.is_set() {
                    return;
                }
                whole.last_sent = batch;
                if api.upsert("whole", &ids, batch, &vectors).is_ok() {
                    whole.last_acknowledged = batch;
                }
            }
        });
        let guard = ended.at_end();
        let mut api = server.api();
        let mut definition = 0;
        for batch in 1.. {
            if is_over() {
                break;
            }
            assert!(Instant::now() < deadline, "{case:?} was not met in {DEADLINE:?}; log: {}", server.log());
            write_something(&mut api, model, random, batch);
            if batch % 4 == 0 {
                definitions.change(&mut api, definition);
                definition += 1;
            }
            if batch % 8 == 0 {
                // Its outcome says nothing that is not checked otherwise.
                let flush = milvus::FlushRequest { collection_names: vec!["mixed".to_owned()], ..Default::default() };
                let _ = api.call::<_, milvus::FlushResponse>(Method::Flush, &flush);
            }
            if batch % 8 == 4 {
                // By filter, not by key.
                let _ = api.delete("whole", "batch < 0");
            }
            if batch % 16 == 0 {
                let compact =
                    milvus::ManualCompactionRequest { collection_name: "mixed".to_owned(), ..Default::default() };
                let _ = api.call::<_, milvus::ManualCompactionResponse>(Method::ManualCompaction, &compact);
            }
        }
        drop(guard);
        other.join().expect("the other client ends");
    });
}

/// What must be there after the restart.
#[derive(Default)]
struct Expected {
    model: Model,
    definitions: Definitions,
    whole: Whole,
}

/// Batches of the collection that is always written as a whole.
#[derive(Default)]
struct Whole {
    last_sent: i64,
    last_acknowledged: i64,
}

impl Expected {
    fn check(&mut self, server: &Server, case: Case) {
        let mut api = server.api();
        self.model.check(&read_all(&mut api, "mixed"));
        let answer = api.query("whole", "id >= 0", &["id", "batch"], Some(1000)).expect("an answer");
        let (ids, batches) = (longs(&answer, "id"), longs(&answer, "batch"));
        let Whole { last_sent, last_acknowledged } = self.whole;
        assert!(batches.iter().all(|batch| *batch == batches[0]), "{case:?}: half an operation: {batches:?}");
        if last_acknowledged > 0 {
            assert_eq!(ids.len() as i64, WHOLE_ROWS, "{case:?}");
        }
        let found = batches.first().copied().unwrap_or(0);
        assert!((last_acknowledged..=last_sent).contains(&found), "{case:?}: {found} of {last_acknowledged}..");
        self.definitions.check(&mut api, case);
        // It takes writes again.
        api.upsert("whole", &[0], last_sent + 1, &[0.0; DIM]).expect("written");
        assert_eq!(api.count("whole"), ids.len().max(1) as i64, "{case:?}");
    }
}

/// Names that may be there.
#[derive(Default)]
struct Definitions {
    names: BTreeMap<String, Vec<bool>>,
}

/// Changes of one round of [`Definitions::change`].
const DEFINITIONS: usize = 10;

impl Definitions {
    fn note(&mut self, name: &str, is_there: bool, outcome: &Result<(), Refused>) {
        let possible = self.names.entry(name.to_owned()).or_insert_with(|| vec![false]);
        match outcome {
            Ok(()) => *possible = vec![is_there],
            Err(_) => possible.push(is_there),
        }
    }

    /// Every kind of definition in turn, ten to a round, on a collection of the round.
    fn change(&mut self, api: &mut Api, number: usize) {
        let (round, step) = (number / DEFINITIONS, number % DEFINITIONS);
        let (name, renamed) = (format!("churn{round}"), format!("renamed{round}"));
        let text = str::to_owned;
        match step {
            0 => {
                let outcome = api.try_create(&name, DIM);
                self.note(&name, true, &outcome);
            }
            1 => drop(api.try_index(&name, "L2")),
            2 => {
                let create = milvus::CreatePartitionRequest {
                    collection_name: name,
                    partition_name: text("part"),
                    ..Default::default()
                };
                let _ = api.status(Method::CreatePartition, &create);
            }
            3 => drop(api.try_load(&name)),
            4 => {
                let _ = api.insert(&name, &[1, 2, 3], 1, &[1.0; 3 * DIM]);
                let release = milvus::ReleaseCollectionRequest { collection_name: name, ..Default::default() };
                let _ = api.status(Method::ReleaseCollection, &release);
            }
            5 => {
                let drop = milvus::DropPartitionRequest {
                    collection_name: name,
                    partition_name: text("part"),
                    ..Default::default()
                };
                let _ = api.status(Method::DropPartition, &drop);
            }
            6 => {
                let create = milvus::CreateAliasRequest {
                    collection_name: name,
                    alias: format!("alias{round}"),
                    ..Default::default()
                };
                let _ = api.status(Method::CreateAlias, &create);
                let drop = milvus::DropAliasRequest { alias: create.alias, ..Default::default() };
                let _ = api.status(Method::DropAlias, &drop);
            }
            7 => {
                let truncate = milvus::TruncateCollectionRequest { collection_name: name, ..Default::default() };
                let _ = api.call::<_, milvus::TruncateCollectionResponse>(Method::TruncateCollection, &truncate);
            }
            8 => {
                let rename = milvus::RenameCollectionRequest {
                    old_name: name.clone(),
                    new_name: renamed.clone(),
                    ..Default::default()
                };
                let outcome = api.status(Method::RenameCollection, &rename);
                self.note(&name, false, &outcome);
                self.note(&renamed, true, &outcome);
            }
            _ => {
                let drop = milvus::DropCollectionRequest { collection_name: renamed.clone(), ..Default::default() };
                let outcome = api.status(Method::DropCollection, &drop);
                self.note(&renamed, false, &outcome);
            }
        }
    }

    fn check(&self, api: &mut Api, case: Case) {
        let show = milvus::ShowCollectionsRequest::default();
        let shown: milvus::ShowCollectionsResponse = api.call(Method::ShowCollections, &show).expect("an answer");
        for (name, possible) in &self.names {
            let is_there = shown.collection_names.contains(name);
            assert!(possible.contains(&is_there), "{case:?}: {name} is there: {is_there}, possible: {possible:?}");
        }
        for name in &shown.collection_names {
            assert!(self.names.contains_key(name), "{case:?}: {name} was never made");
            let describe = milvus::DescribeCollectionRequest { collection_name: name.clone(), ..Default::default() };
            let described: milvus::DescribeCollectionResponse =
                api.call(Method::DescribeCollection, &describe).expect("an answer");
            assert_eq!(described.status.unwrap_or_default(), wire::Status::default(), "{case:?}: {name}");
        }
    }
}
