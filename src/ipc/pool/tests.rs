//! Tests of the pool: in one process, and between processes that are killed.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::sys::test_child::Child;

const SMALL: PoolOptions = PoolOptions { slot_count: 2, request_bytes_max: 4 << 20, reply_bytes_max: 2 << 20 };

fn header(database: &str) -> RequestHeader {
    RequestHeader { method: Method::Search, database: database.to_owned(), deadline_ns: 7 }
}

fn pool(on_death: OnDeath) -> (PoolFiles, PoolClient) {
    let files = PoolFiles::create("shoal-test", SMALL).unwrap();
    let client = PoolClient::open(&files, on_death).unwrap();
    (files, client)
}

/// Waits until `is_true`, woken by `done`; fails the test when that never comes.
fn wait_until(client: &PoolClient, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain; {} slots are in use", client.in_use());
        let mut fds = [PollFd::new(client.done_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(20u8)).unwrap();
        eventfd::take(client.done_fd());
    }
}

#[test]
fn a_request_reaches_a_server_and_its_reply_comes_back() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    assert!(server.claim().is_none());
    let ticket = client.submit(&header("books"), b"what?").unwrap();
    assert_eq!(client.poll(ticket), None);
    let claim = server.claim().unwrap();
    assert_eq!(claim.header().unwrap(), header("books"));
    assert_eq!(claim.body(), b"what?");
    assert!(server.claim().is_none(), "a claimed request is handed out once");
    assert!(claim.reply(b"that"));
    assert_eq!(client.poll(ticket), Some(Outcome::Replied));
    assert_eq!(client.take_reply(ticket), b"that");
    assert_eq!(client.in_use(), 0);
    assert_eq!(client.take_reply(ticket), b"", "a ticket is good for one reply");
    assert_eq!(client.in_use(), 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_files, client) = pool(OnDeath::Retry);
    let body = vec![0; SMALL.request_bytes_max + 1];
    let expected = SubmitError::TooLarge { len: body.len(), max: SMALL.request_bytes_max };
    assert_eq!(client.submit(&header(""), &body), Err(expected));
    assert!(client.submit(&header(&"d".repeat(256)), b"").is_err());
    client.submit(&header(""), b"1").unwrap();
    client.submit(&header(""), b"2").unwrap();
    assert_eq!(client.submit(&header(""), b"3"), Err(SubmitError::Full));
}

#[test]
fn a_reply_that_does_not_fit_ends_the_request() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let ticket = client.submit(&header(""), b"").unwrap();
    server.claim().unwrap().reply(&vec![0; SMALL.reply_bytes_max + 1]);
    assert_eq!(client.poll(ticket), Some(Outcome::ReplyTooLarge));
    client.abandon(ticket);
    assert_eq!(client.in_use(), 0);
}

#[test]
fn a_claim_dropped_without_a_reply_fails_the_request() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let ticket = client.submit(&header(""), b"").unwrap();
    drop(server.claim().unwrap());
    assert_eq!(client.poll(ticket), Some(Outcome::ServerDied));
}

#[test]
fn an_abandoned_slot_is_used_again_only_after_its_server_let_go() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let tickets = [client.submit(&header(""), b"a").unwrap(), client.submit(&header(""), b"b").unwrap()];
    let claims = [server.claim().unwrap(), server.claim().unwrap()];
    tickets.into_iter().for_each(|ticket| client.abandon(ticket));
    assert_eq!(client.submit(&header(""), b"c"), Err(SubmitError::Full));
    let [first, second] = claims;
    assert!(!first.reply(b"late"), "nobody waits for it");
    let ticket = client.submit(&header(""), b"c").unwrap();
    assert_eq!(server.claim().unwrap().body(), b"c");
    assert!(!second.reply(b"late"));
    assert_ne!(client.poll(ticket), Some(Outcome::Replied));
}

#[test]
fn an_unclaimed_request_that_is_given_up_is_never_handed_out() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    client.abandon(client.submit(&header(""), b"").unwrap());
    assert!(server.claim().is_none());
    assert_eq!(client.in_use(), 0);
}

#[test]
fn a_dead_servers_read_is_retried_once_and_a_write_never() {
    let (files, client) = pool(OnDeath::Retry);
    let ticket = client.submit(&header(""), b"poison").unwrap();
    for claimant in [1, 2] {
        assert_eq!(client.poll(ticket), None);
        // What a killed process leaves: a claim that nobody ends.
        std::mem::forget(PoolServer::open(&files, claimant).unwrap().claim().unwrap());
        client.server_died(claimant);
        client.server_died(claimant);
    }
    assert_eq!(client.poll(ticket), Some(Outcome::ServerDied));

    let (files, client) = pool(OnDeath::Fail);
    let ticket = client.submit(&header(""), b"insert").unwrap();
    std::mem::forget(PoolServer::open(&files, 1).unwrap().claim().unwrap());
    client.server_died(1);
    assert_eq!(client.poll(ticket), Some(Outcome::ServerDied));
}

#[test]
fn a_server_taken_for_dead_cannot_answer_any_more() {
    let (files, client) = pool(OnDeath::Retry);
    let (first, second) = (PoolServer::open(&files, 1).unwrap(), PoolServer::open(&files, 2).unwrap());
    let ticket = client.submit(&header(""), b"").unwrap();
    let late = first.claim().unwrap();
    client.server_died(1);
    let claim = second.claim().unwrap();
    assert!(!late.reply(b"late"));
    assert_eq!(client.poll(ticket), None);
    assert!(claim.reply(b"right"));
    assert_eq!(client.take_reply(ticket), b"right");
}

#[test]
fn a_new_client_finds_every_slot_free_but_those_a_server_is_at() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let old = client.submit(&header(""), b"old").unwrap();
    let claim = server.claim().unwrap();
    client.submit(&header(""), b"never claimed").unwrap();
    drop(client);
    let client = PoolClient::open(&files, OnDeath::Retry).unwrap();
    assert_eq!(client.in_use(), 1);
    assert!(server.claim().is_none());
    assert!(!claim.reply(b"late"));
    let tickets = [client.submit(&header(""), b"x").unwrap(), client.submit(&header(""), b"y").unwrap()];
    assert!(tickets.iter().all(|ticket| ticket.slot != old.slot || ticket.generation != old.generation));
}

#[test]
fn a_foreign_or_damaged_pool_is_refused() {
    use std::os::unix::fs::FileExt;
    let (mut files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    client.submit(&header(""), b"x").unwrap();
    let claim = server.claim().unwrap();
    // One request was submitted: it is in the slot that the state words, 4096 bytes on, show as claimed.
    let mut states = [0; 16];
    files.memory.read_exact_at(&mut states, 4096).unwrap();
    let slot = states.chunks_exact(8).position(|state| state[7] == word::CLAIMED).unwrap() as u64;
    let request_bytes_offset = 4096 + 64 + slot * 512 + 5 * 8;
    files.memory.write_all_at(&u64::MAX.to_le_bytes(), request_bytes_offset).unwrap();
    assert!(claim.header().is_none(), "a length beyond the area makes no sense");
    assert_eq!(claim.body(), b"");
    files.memory.write_all_at(b"bogus", 0).unwrap();
    assert!(PoolServer::open(&files, 2).is_err());
    files.options.slot_count = 0;
    assert!(PoolServer::open(&files, 2).is_err());
}

#[test]
fn memory_of_a_large_request_is_given_back() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let ticket = client.submit(&header(""), &vec![1; 4 << 20]).unwrap();
    assert!(server.claim().unwrap().reply(&vec![2; 2 << 20]));
    let allocated = || files.memory.metadata().unwrap().blocks() * 512;
    assert!(allocated() >= 6 << 20);
    assert_eq!(client.take_reply(ticket).len(), 2 << 20);
    wait_until(&client, || client.in_use() == 0);
    assert!(allocated() < 3 << 20, "{} bytes are still there", allocated());
}

#[test]
fn a_stop_wakes_every_thread_for_good() {
    let (files, _client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| server.wait(None));
        }
        server.wake_all();
    });
    server.wait(None);
}

#[test]
fn a_pool_of_full_size_can_be_mapped() {
    let options = PoolOptions {
        slot_count: 128,
        request_bytes_max: crate::config::limits::REQUEST_BYTES_MAX,
        reply_bytes_max: crate::config::limits::REPLY_BYTES_MAX,
    };
    let files = PoolFiles::create("shoal-test-large", options).unwrap();
    let client = PoolClient::open(&files, OnDeath::Retry).unwrap();
    let server = PoolServer::open(&files, 1).unwrap();
    let tickets: Vec<Ticket> = (0..128u8).map(|number| client.submit(&header(""), &[number]).unwrap()).collect();
    while let Some(claim) = server.claim() {
        let body = claim.body().to_vec();
        claim.reply(&body);
    }
    for (number, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(client.take_reply(ticket), [number as u8]);
    }
    assert!(files.memory.metadata().unwrap().blocks() * 512 < 32 << 20, "it is sparse");
}

/// A server process: answers each request with its number and the sum of its bytes.
fn serve(files: &PoolFiles, claimant: u32) -> i32 {
    let Ok(server) = PoolServer::open(files, claimant) else { return 1 };
    loop {
        server.wait(None);
        while let Some(claim) = server.claim() {
            let body = claim.body();
            let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
            let reply = [&body[..8], &sum.to_le_bytes()[..]].concat();
            claim.reply(&reply);
        }
    }
}

#[test]
fn no_request_is_lost_or_answered_wrong_while_servers_are_killed() {
    const REQUESTS: u64 = 8_000;
    const KILL_EVERY: u64 = 40;
    let options = PoolOptions { slot_count: 16, request_bytes_max: 64 << 10, reply_bytes_max: 4 << 10 };
    let files = PoolFiles::create("shoal-test-kill", options).unwrap();
    let client = PoolClient::open(&files, OnDeath::Retry).unwrap();
    let mut servers: Vec<(u32, Child)> = (1..=2).map(|id| (id, Child::fork(|| serve(&files, id)))).collect();
    let body_of = |number: u64| {
        let len = 8 + (number.wrapping_mul(0x9E37_79B9) % 8_000) as usize;
        let mut body = vec![number as u8; len];
        body[..8].copy_from_slice(&number.to_le_bytes());
        body
    };
    let (mut next, mut answered, mut poisoned, mut killed) = (0, 0, 0, 0);
    let mut under_way: HashMap<Ticket, u64> = HashMap::new();
    while answered < REQUESTS {
        while next < REQUESTS {
            match client.submit(&header(""), &body_of(next)) {
                // Some callers give up at once, while a server may be at it.
                Ok(ticket) if next % 97 == 50 => {
                    client.abandon(ticket);
                    answered += 1;
                }
                Ok(ticket) => drop(under_way.insert(ticket, next)),
                Err(_) => break,
            }
            next += 1;
        }
        let mut ended = Vec::new();
        wait_until(&client, || {
            ended = under_way.keys().copied().filter(|ticket| client.poll(*ticket).is_some()).collect();
            !ended.is_empty()
        });
        for ticket in ended {
            let number = under_way.remove(&ticket).unwrap();
            if client.poll(ticket) == Some(Outcome::ServerDied) {
                // A second death on one request is an answer too; here it is asked again.
                client.abandon(ticket);
                let again = client.submit(&header(""), &body_of(number)).unwrap();
                under_way.insert(again, number);
                poisoned += 1;
                continue;
            }
            let sum: u64 = body_of(number).iter().map(|byte| u64::from(*byte)).sum();
            assert_eq!(client.take_reply(ticket), [number.to_le_bytes(), sum.to_le_bytes()].concat());
            answered += 1;
            if answered % KILL_EVERY == 0 {
                let (id, child) = servers.remove((answered / KILL_EVERY % 2) as usize);
                child.kill();
                client.server_died(id);
                killed += 1;
                let id = 2 + killed;
                servers.push((id, Child::fork(|| serve(&files, id))));
            }
        }
    }
    wait_until(&client, || client.in_use() == 0);
    assert!(killed > 100 && poisoned < killed, "{killed} killed, {poisoned} failed");
}

#[test]
fn a_slot_that_was_trimmed_is_announced() {
    let (files, client) = pool(OnDeath::Retry);
    let server = PoolServer::open(&files, 1).unwrap();
    let tickets = [1, 2].map(|fill| client.submit(&header(""), &vec![fill; 4 << 20]).unwrap());
    while let Some(claim) = server.claim() {
        claim.reply(b"");
    }
    eventfd::take(client.done_fd());
    tickets.into_iter().for_each(|ticket| drop(client.take_reply(ticket)));
    let deadline = Instant::now() + Duration::from_secs(600);
    while client.submit(&header(""), b"").is_err() {
        let mut fds = [PollFd::new(client.done_fd(), PollFlags::POLLIN)];
        assert!(poll(&mut fds, PollTimeout::from(60_000u16)).unwrap() == 1 && Instant::now() < deadline);
        eventfd::take(client.done_fd());
    }
}
