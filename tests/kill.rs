//! kill -9 at random moments: what was acknowledged is there afterwards, nothing is there twice, reads go on.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Api, Refused, Server, longs, signal, wait_until};
use nix::sys::signal::Signal;

const DIM: usize = 8;

/// Servers whose writer is killed, side by side: the supervisor waits longer before each restart, so that one server after
/// the other would mostly wait.
const SERVERS: usize = 10;

/// Deaths of a writer over all servers; more with SHOAL_KILL_ROUNDS.
fn rounds() -> usize {
    std::env::var("SHOAL_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100)
}

/// A small random generator with a printed seed (SHOAL_SEED replays one).
struct Random(u64);

impl Random {
    fn new(number: u64) -> Random {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let seed = std::env::var("SHOAL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
        println!("SHOAL_SEED={seed}");
        Random((seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What one key may hold: the batch of the last acknowledged write and those that may or may not have happened since.
#[derive(Clone, Debug, Default)]
struct Expected {
    /// `None` = absent.
    possible: Vec<Option<i64>>,
}

#[derive(Default)]
struct Model {
    keys: BTreeMap<i64, Expected>,
}

impl Model {
    fn wrote(&mut self, keys: &[i64], value: Option<i64>, outcome: &Result<(), Refused>) {
        for key in keys {
            let expected = self.keys.entry(*key).or_insert_with(|| Expected { possible: vec![None] });
            match outcome {
                Ok(()) => expected.possible = vec![value],
                // Not acknowledged: it may have happened.
                Err(_) => expected.possible.push(value),
            }
        }
    }

    /// Compares with what the server has, and takes over what the unacknowledged writes came to.
    fn check(&mut self, found: &BTreeMap<i64, i64>) {
        for key in found.keys() {
            assert!(self.keys.contains_key(key), "key {key} was never written");
        }
        for (key, expected) in &mut self.keys {
            let value = found.get(key).copied();
            assert!(
                expected.possible.contains(&value),
                "key {key} holds {value:?}, possible are {:?}",
                expected.possible
            );
            expected.possible = vec![value];
        }
    }
}

fn read_all(api: &mut Api, name: &str) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    let mut last = -1;
    loop {
        let page = api.query(name, &format!("id > {last}"), &["id", "batch"], Some(10_000)).expect("reads go on");
        let ids = longs(&page, "id");
        for (id, batch) in ids.iter().zip(longs(&page, "batch")) {
            assert!(found.insert(*id, batch).is_none(), "key {id} is there twice");
        }
        match ids.iter().max() {
            Some(largest) => last = *largest,
            None => return found,
        }
    }
}

#[test]
fn acknowledged_writes_survive_a_killed_writer() {
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..SERVERS).map(|number| scope.spawn(move || kill_writers(number as u64))).collect();
        for server in servers {
            server.join().expect("a server kept its promises");
        }
    });
}

/// Kills the writer of one server again and again, under load and beside searches.
fn kill_writers(number: u64) {
    let rounds = rounds().div_ceil(SERVERS);
    let server = Server::start(&["--searchers", "1", "--auto-flush-interval", "50ms"]);
    let mut api = server.api();
    api.create("mixed", DIM, "L2");
    api.create("still", DIM, "L2");
    api.insert("still", &[1], 0, &[1.0; DIM]).expect("a row that is always there");
    api.flush("still");
    let mut random = Random::new(number);
    let mut model = Model::default();
    let mut batch = 0;
    let over = AtomicBool::new(false);
    let searches = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut mine = server.api();
            while !over.load(Ordering::Relaxed) {
                let (ids, _) = mine.search("still", &[1.0; DIM], 1).expect("searches of published rows never fail");
                assert_eq!(ids, [1]);
                searches.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..rounds {
            assert!(!reads.is_finished(), "a search failed");
            let writer = server.pids("writer");
            let delay = Duration::from_micros(random.below(60_000));
            let killer = scope.spawn(move || {
                // The random moment is the point: nothing is waited for here.
                std::thread::sleep(delay);
                for pid in writer {
                    signal(pid, Signal::SIGKILL);
                }
            });
            while !killer.is_finished() {
                batch += 1;
                write_something(&mut api, &mut model, &mut random, batch);
            }
            killer.join().expect("the killer ends");
            wait_until("the writer is back", || {
                batch += 1;
                let outcome = api.upsert("mixed", &[0], batch, &[0.0; DIM]).map(|_| ());
                model.wrote(&[0], Some(batch), &outcome);
                outcome.is_ok()
            });
            if round % 5 == 0 || round + 1 == rounds {
                model.check(&read_all(&mut api, "mixed"));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{} writes, {} searches beside them", batch, searches.load(Ordering::Relaxed));
    assert!(searches.load(Ordering::Relaxed) > 100);
}

/// One insert of new keys, upsert of old and new ones, or delete, of 1 to 200 rows.
fn write_something(api: &mut Api, model: &mut Model, random: &mut Random, batch: i64) {
    let count = 1 + random.below(200) as i64;
    let vectors = vec![batch as f32; count as usize * DIM];
    match random.below(4) {
        0 => {
            let start = model.keys.last_key_value().map_or(1, |(key, _)| key + 1);
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.insert("mixed", &ids, batch, &vectors).map(|_| ());
            model.wrote(&ids, Some(batch), &outcome);
        }
        1 | 2 => {
            let start = random.below(3000) as i64;
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.upsert("mixed", &ids, batch, &vectors).map(|_| ());
            model.wrote(&ids, Some(batch), &outcome);
        }
        _ => {
            let start = random.below(3000) as i64;
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.delete("mixed", &format!("id in {ids:?}")).map(|_| ());
            model.wrote(&ids, None, &outcome);
        }
    }
}

#[test]
fn acknowledged_writes_survive_kill_9_of_everything() {
    let mut server = Server::start(&["--searchers", "1", "--auto-flush-interval", "50ms"]);
    let mut random = Random::new(0);
    let mut model = Model::default();
    let mut batch = 0;
    server.api().create("mixed", DIM, "L2");
    for _ in 0..5 {
        let mut api = server.api();
        for _ in 0..random.below(60) {
            batch += 1;
            write_something(&mut api, &mut model, &mut random, batch);
        }
        server.kill();
        server.start_again();
        model.check(&read_all(&mut server.api(), "mixed"));
    }
    server.stop();
    assert_eq!(server.shm_left(), Vec::<String>::new());
}

#[test]
fn killed_searchers_fail_no_request() {
    let server = Server::start(&["--searchers", "2"]);
    let mut api = server.api();
    api.create("still", DIM, "L2");
    let ids: Vec<i64> = (0..2000).collect();
    let vectors: Vec<f32> = ids.iter().flat_map(|id| [*id as f32; DIM]).collect();
    api.insert("still", &ids, 0, &vectors).expect("inserted");
    let over = AtomicBool::new(false);
    let searches = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = server.api();
                    while !over.load(Ordering::Relaxed) {
                        let (ids, _) = mine.search("still", &[77.0; DIM], 1).expect("no search fails");
                        assert_eq!(ids, [77]);
                        searches.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let done = searches.load(Ordering::Relaxed);
            wait_until("searches go on", || {
                searches.load(Ordering::Relaxed) > done + 50 || clients.iter().any(|client| client.is_finished())
            });
            let before = server.pids("searcher");
            signal(before[0], Signal::SIGKILL);
            wait_until("a new searcher", || {
                let now = server.pids("searcher");
                now.len() == 2 && !now.contains(&before[0])
            });
        }
        over.store(true, Ordering::Relaxed);
    });
}
