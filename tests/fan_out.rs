//! Large searches are shared by idle searchers: the same results, whoever helps, dies or stops on the way.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Api, Over, Server, signal, wait_until};
use nix::sys::signal::Signal;

const DIM: usize = 256;
/// Large enough to be shared: 24 MiB of vectors.
const ROWS: usize = 24 << 10;
const INSERTED_AT_ONCE: usize = 4 << 10;
const LIMIT: usize = 50;

/// Values of few kinds, so that there are ties.
fn vector(seed: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 5) as f32
    };
    (0..DIM).map(|_| next()).collect()
}

fn fill(api: &mut Api) {
    api.create("large", DIM, "L2");
    for first in (0..ROWS).step_by(INSERTED_AT_ONCE) {
        let ids: Vec<i64> = (first..first + INSERTED_AT_ONCE).map(|id| id as i64).collect();
        // Every vector is there twice, in different files.
        let vectors: Vec<f32> = (first..first + INSERTED_AT_ONCE).flat_map(|id| vector(id % (ROWS / 2))).collect();
        api.insert("large", &ids, 0, &vectors).expect("rows are inserted");
        if first == ROWS / 2 {
            api.flush("large");
        }
    }
    api.delete("large", "id in [0, 7, 4711]").expect("rows are deleted");
}

type Hits = (Vec<i64>, Vec<f32>);

fn search(api: &mut Api, seed: usize) -> Hits {
    api.search("large", &vector(seed), LIMIT).expect("searches never fail")
}

/// What one searcher, which nobody can help, answers.
fn expected() -> Vec<Hits> {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    fill(&mut api);
    (0..10).map(|seed| search(&mut api, seed)).collect()
}

#[test]
fn stopped_and_killed_searchers_change_no_shared_search() {
    let expected = expected();
    let server = Server::start(&["--searchers", "4"]);
    let mut api = server.api();
    fill(&mut api);
    let all = |api: &mut Api| (0..10).map(|seed| search(api, seed)).collect::<Vec<Hits>>();
    assert_eq!(all(&mut api), expected, "with four searchers");
    let over = Over::new();
    let failed = Over::new();
    let searches = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _over = over.at_end();
            for round in 0..40 {
                wait_until("there is a searcher", || !server.pids("searcher").is_empty() || failed.is_set());
                let searchers = server.pids("searcher");
                let Some(&pid) = searchers.get(round % 4 % searchers.len().max(1)) else { continue };
                let is_killed = round % 4 == 0;
                signal(pid, if is_killed { Signal::SIGKILL } else { Signal::SIGSTOP });
                // The moment is the point: nothing is waited for here.
                std::thread::sleep(std::time::Duration::from_millis(20));
                signal(pid, Signal::SIGCONT);
                // A request on which two searchers die is given up: each meets one death at most.
                let before = searches.load(Ordering::Relaxed);
                wait_until("a search after this one", || {
                    searches.load(Ordering::Relaxed) >= before + 2 || failed.is_set()
                });
            }
        });
        let _failed = failed.at_end();
        while !over.is_set() {
            for (seed, expected) in expected.iter().enumerate() {
                assert_eq!(&search(&mut api, seed), expected, "while searchers are stopped and killed");
                searches.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[test]
fn a_helper_that_dies_with_a_part_in_its_hands_costs_only_that_part() {
    let server = Server::start_failing("board.taken=kill", &["--searchers", "2"]);
    let mut api = server.api();
    fill(&mut api);
    let before = server.pids("searcher");
    let expected = search(&mut api, 3);
    // It is killed where a helper has taken a part, and nowhere else: so it has helped.
    wait_until("a helper took a part and died", || {
        assert_eq!(search(&mut api, 3), expected);
        let now = server.pids("searcher");
        before.iter().any(|pid| !now.contains(pid))
    });
    wait_until("there are two searchers again", || server.pids("searcher").len() == 2);
    assert_eq!(search(&mut api, 3), expected);
}
