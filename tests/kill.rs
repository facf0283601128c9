//! kill -9 at random moments: what was acknowledged is there afterwards, nothing is there twice, reads go on.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::model::{DIM, Model, Random, read_all, write_something};
use common::{Over, Server, signal, wait_until};
use nix::sys::signal::Signal;

/// Servers whose writer is killed, side by side: the supervisor waits longer before each restart, so that one server after
/// the other would mostly wait.
const SERVERS: usize = 10;

/// Deaths of a writer over all servers; more with SHOAL_KILL_ROUNDS.
fn rounds() -> usize {
    std::env::var("SHOAL_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100)
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
    let over = Over::new();
    let searches = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut mine = server.api();
            while !over.is_set() {
                let (ids, _) = mine.search("still", &[1.0; DIM], 1).expect("searches of published rows never fail");
                assert_eq!(ids, [1]);
                searches.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _over = over.at_end();
        for round in 0..rounds {
            let before = searches.load(Ordering::Relaxed);
            wait_until("searches go on", || searches.load(Ordering::Relaxed) > before + 10 || reads.is_finished());
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
    });
    println!("{} writes, {} searches beside them", batch, searches.load(Ordering::Relaxed));
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
    let over = Over::new();
    let searches: [AtomicU64; 3] = Default::default();
    let counts = || searches.each_ref().map(|count| count.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        let clients: Vec<_> = searches
            .iter()
            .map(|mine| {
                let (server, over) = (&server, &over);
                scope.spawn(move || {
                    let mut api = server.api();
                    while !over.is_set() {
                        let (ids, _) = api.search("still", &[77.0; DIM], 1).expect("no search fails");
                        assert_eq!(ids, [77]);
                        mine.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let _over = over.at_end();
        for _ in 0..20 {
            // Of each client: a request on which two searchers die is given up, so each may meet one death at most.
            let before = counts();
            wait_until("searches go on", || {
                counts().iter().zip(before).all(|(now, before)| *now > before + 15)
                    || clients.iter().any(|client| client.is_finished())
            });
            let before = server.pids("searcher");
            signal(before[0], Signal::SIGKILL);
            wait_until("a new searcher", || {
                let now = server.pids("searcher");
                now.len() == 2 && !now.contains(&before[0])
            });
        }
    });
}
