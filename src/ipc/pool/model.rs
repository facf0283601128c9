//! An exhaustive check of the slot protocol: every interleaving of a client and two servers, one of which may die anywhere.
//!
//! The model takes the same steps as `client.rs` and `server.rs`, one atomic access each, with the same moves of
//! `word.rs`. It checks that a reply is the one of its request, that nobody writes into a slot that was used again, and
//! that when nobody can go on, no request is left (a lost wake-up would leave one).

use std::collections::HashSet;

use super::word::{ABANDONED, CLAIMED, READY, REPLIED, Word};

const SLOTS: usize = 2;
const SERVERS: usize = 2;
const REQUESTS: u8 = 3;

/// What a server does next. `seen` is the count of submissions before its scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Server {
    TakeToken,
    ReadSubmitted,
    Load { looked_at: usize, seen: u8 },
    Claim { looked_at: usize, seen: u8, word: Word },
    Recheck { seen: u8 },
    Sleep,
    WriteReply { slot: usize, word: Word },
    Finish { slot: usize, word: Word },
    Release { slot: usize, word: Word },
    Dead { is_reported: bool },
}

/// What the client does next besides looking at its tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Client {
    Idle,
    Count,
    Token,
    Report { server: usize, slot: usize },
    ReportCount { server: usize },
    ReportTokens,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    words: [Word; SLOTS],
    attempts: [u8; SLOTS],
    /// The generation whose reply is in the slot's reply area.
    replies: [Option<u32>; SLOTS],
    tokens: u8,
    submitted: u8,
    servers: [Server; SERVERS],
    client: Client,
    /// The generation that the client waits for, per slot.
    waiting: [Option<u32>; SLOTS],
    is_free: [bool; SLOTS],
    sent: u8,
    ended: u8,
    abandons_left: u8,
    deaths_left: u8,
}

/// Each server starts its scans at another slot: the worst case of [`super::PoolServer`]'s rotating start.
fn scanned_slot(server: usize, looked_at: usize) -> usize {
    (server + looked_at) % SLOTS
}

fn server_step(state: &State, index: usize) -> Option<State> {
    let mut next = state.clone();
    let claimant = index as u32 + 1;
    next.servers[index] = match state.servers[index] {
        Server::TakeToken => {
            next.tokens = state.tokens.saturating_sub(1);
            Server::ReadSubmitted
        }
        Server::ReadSubmitted => Server::Load { looked_at: 0, seen: state.submitted },
        Server::Load { looked_at: SLOTS, seen } => Server::Recheck { seen },
        Server::Load { looked_at, seen } => match state.words[scanned_slot(index, looked_at)] {
            word if word.state() == READY => Server::Claim { looked_at, seen, word },
            _ => Server::Load { looked_at: looked_at + 1, seen },
        },
        Server::Claim { looked_at, seen, word } => {
            let slot = scanned_slot(index, looked_at);
            if state.words[slot] == word {
                let claimed = word.claimed(claimant).unwrap();
                next.words[slot] = claimed;
                Server::WriteReply { slot, word: claimed }
            } else {
                Server::Load { looked_at: looked_at + 1, seen }
            }
        }
        Server::Recheck { seen } if seen != state.submitted => Server::ReadSubmitted,
        Server::Recheck { .. } => Server::Sleep,
        Server::Sleep if state.tokens == 0 => return None,
        Server::Sleep => Server::TakeToken,
        Server::WriteReply { slot, word } => {
            let generation = state.words[slot].generation();
            assert_eq!(generation, word.generation(), "a reply was written into a slot that was used again: {state:?}");
            next.replies[slot] = Some(generation);
            Server::Finish { slot, word }
        }
        Server::Finish { slot, word } if state.words[slot] == word => {
            next.words[slot] = word.with_state(REPLIED);
            Server::TakeToken
        }
        Server::Finish { slot, word } => Server::Release { slot, word },
        Server::Release { slot, word } => {
            assert_eq!(state.words[slot], word.with_state(ABANDONED), "only the client takes a claim away: {state:?}");
            next.words[slot] = word.free();
            Server::TakeToken
        }
        Server::Dead { .. } => return None,
    };
    Some(next)
}

/// The client's next step in what it has begun, or a new request.
fn client_step(state: &State) -> Option<State> {
    let mut next = state.clone();
    next.client = match state.client {
        Client::Idle => {
            let dead = state.servers.iter().position(|server| *server == Server::Dead { is_reported: false });
            if let Some(server) = dead {
                next.servers[server] = Server::Dead { is_reported: true };
                Client::Report { server, slot: 0 }
            } else if state.sent < REQUESTS {
                let slot = (0..SLOTS).find(|slot| state.is_free[*slot])?;
                next.is_free[slot] = false;
                next.sent += 1;
                next.attempts[slot] = 0;
                next.words[slot] = state.words[slot].filling().ready();
                next.waiting[slot] = Some(next.words[slot].generation());
                Client::Count
            } else {
                return None;
            }
        }
        Client::Count => {
            next.submitted += 1;
            Client::Token
        }
        Client::Token => {
            next.tokens += 1;
            Client::Idle
        }
        Client::Report { server, slot: SLOTS } => Client::ReportCount { server },
        Client::Report { server, slot } => {
            let may_retry = state.attempts[slot] == 0;
            if let Some(word) = state.words[slot].after_death(server as u32 + 1, may_retry) {
                next.attempts[slot] += 1;
                next.words[slot] = word;
            }
            Client::Report { server, slot: slot + 1 }
        }
        Client::ReportCount { .. } => {
            next.submitted += 1;
            Client::ReportTokens
        }
        Client::ReportTokens => {
            next.tokens += state.words.iter().filter(|word| word.state() == READY).count() as u8;
            Client::Idle
        }
    };
    Some(next)
}

/// Takes the reply of a slot, or takes an abandoned slot back.
fn collect_step(state: &State, slot: usize) -> Option<State> {
    let mut next = state.clone();
    let word = state.words[slot];
    match state.waiting[slot] {
        Some(generation) => {
            word.outcome()?;
            assert_eq!(word.generation(), generation);
            if word.state() == REPLIED {
                assert_eq!(state.replies[slot], Some(generation), "the reply of another request: {state:?}");
            }
            next.words[slot] = word.given_up();
            next.waiting[slot] = None;
            next.ended += 1;
        }
        None if state.is_free[slot] || word.state() == ABANDONED => return None,
        None => {}
    }
    next.is_free[slot] = true;
    Some(next)
}

fn abandon_step(state: &State, slot: usize) -> Option<State> {
    let generation = state.waiting[slot].filter(|_| state.abandons_left > 0)?;
    let mut next = state.clone();
    assert_eq!(state.words[slot].generation(), generation);
    next.abandons_left -= 1;
    next.words[slot] = state.words[slot].given_up();
    next.waiting[slot] = None;
    next.ended += 1;
    next.is_free[slot] = next.words[slot].state() != ABANDONED;
    Some(next)
}

fn death_step(state: &State, server: usize) -> Option<State> {
    let is_alive = !matches!(state.servers[server], Server::Dead { .. });
    (is_alive && state.deaths_left > 0).then(|| {
        let mut next = state.clone();
        next.servers[server] = Server::Dead { is_reported: false };
        next.deaths_left -= 1;
        next
    })
}

/// A request waits while a server sleeps, and nothing under way will wake it.
fn is_overslept(state: &State) -> bool {
    let is_busy_or_asleep = |server: &Server| {
        use Server::{Dead, Finish, Release, Sleep, WriteReply};
        matches!(server, Sleep | WriteReply { .. } | Finish { .. } | Release { .. } | Dead { is_reported: true })
    };
    state.client == Client::Idle
        && state.tokens == 0
        && state.words.iter().any(|word| word.state() == READY)
        && state.servers.contains(&Server::Sleep)
        && state.servers.iter().all(is_busy_or_asleep)
}

#[test]
fn every_interleaving_answers_every_request_once() {
    let first = State {
        words: [Word(0); SLOTS],
        attempts: [0; SLOTS],
        replies: [None; SLOTS],
        tokens: 0,
        submitted: 0,
        servers: [Server::Sleep; SERVERS],
        client: Client::Idle,
        waiting: [None; SLOTS],
        is_free: [true; SLOTS],
        sent: 0,
        ended: 0,
        abandons_left: 1,
        deaths_left: 1,
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut unexplored = vec![first];
    let mut quiet_count = 0;
    while let Some(state) = unexplored.pop() {
        assert!(!is_overslept(&state), "a request waits while a server sleeps: {state:?}");
        let must = (0..SERVERS).filter_map(|server| server_step(&state, server));
        let collected = (0..SLOTS).filter_map(|slot| collect_step(&state, slot));
        let must: Vec<State> = must.chain(collected).chain(client_step(&state)).collect();
        if must.is_empty() {
            quiet_count += 1;
            let is_held = state.words.iter().any(|word| matches!(word.state(), READY | CLAIMED | ABANDONED));
            assert!(state.ended == REQUESTS && !is_held, "everybody sleeps, but not all is done: {state:?}");
        }
        let may = (0..SLOTS).filter_map(|slot| abandon_step(&state, slot));
        let may = may.chain((0..SERVERS).filter_map(|server| death_step(&state, server)));
        for next in must.into_iter().chain(may) {
            if seen.insert(next.clone()) {
                unexplored.push(next);
            }
        }
    }
    assert!(seen.len() > 10_000 && quiet_count > 0, "{} states, {quiet_count} quiet ones", seen.len());
}
