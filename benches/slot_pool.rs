//! What does a trip through the slot pool cost: a 4 KiB request and a 1 KiB reply between two processes?
//!
//! Prints the median and the 99th percentile of one request at a time, and requests per second with 32 under way.

use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use shoaldb::ipc::method::Method;
use shoaldb::ipc::pool::{OnDeath, PoolClient, PoolFiles, PoolOptions, PoolServer, RequestHeader, Ticket};
use shoaldb::sys::eventfd;
use shoaldb::sys::process::{Forked, fork};

const OPTIONS: PoolOptions = PoolOptions { slot_count: 128, request_bytes_max: 256 << 20, reply_bytes_max: 128 << 20 };
const ROUND_TRIPS: usize = 100_000;
const UNDER_WAY: usize = 32;
const REQUEST: [u8; 4096] = [7; 4096];
const REPLY: [u8; 1024] = [9; 1024];

fn serve(files: &PoolFiles) -> ! {
    let server = PoolServer::open(files, 1).expect("the pool can be mapped twice");
    loop {
        server.wait(None);
        while let Some(claim) = server.claim() {
            assert_eq!(claim.body().len(), REQUEST.len());
            claim.reply(&REPLY);
        }
    }
}

fn wait_done(client: &PoolClient) {
    let mut fds = [PollFd::new(client.done_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::NONE);
    eventfd::take(client.done_fd());
}

/// One request at a time; the time of each.
fn one_at_a_time(client: &PoolClient, header: &RequestHeader) -> Vec<Duration> {
    let trip = |_| {
        let start = Instant::now();
        let ticket = client.submit(header, &REQUEST).expect("a slot is free");
        while client.poll(ticket).is_none() {
            wait_done(client);
        }
        assert_eq!(client.take_reply(ticket).len(), REPLY.len());
        start.elapsed()
    };
    (0..ROUND_TRIPS).map(trip).collect()
}

/// Many requests under way; the time of all.
fn many_at_a_time(client: &PoolClient, header: &RequestHeader) -> Duration {
    let start = Instant::now();
    let mut under_way: Vec<Ticket> = Vec::new();
    let (mut submitted, mut answered) = (0, 0);
    while answered < ROUND_TRIPS {
        while submitted < ROUND_TRIPS && under_way.len() < UNDER_WAY {
            under_way.push(client.submit(header, &REQUEST).expect("a slot is free"));
            submitted += 1;
        }
        under_way.retain(|ticket| {
            let is_done = client.poll(*ticket).is_some();
            if is_done {
                client.take_reply(*ticket);
                answered += 1;
            }
            !is_done
        });
        if under_way.len() == UNDER_WAY {
            wait_done(client);
        }
    }
    start.elapsed()
}

fn main() {
    let files = PoolFiles::create("slot-pool-bench", OPTIONS).expect("a memfd can be made");
    let server = match fork("slot-pool-bench").expect("a process can be forked") {
        Forked::Child => serve(&files),
        Forked::Parent(server) => server,
    };
    let client = PoolClient::open(&files, OnDeath::Retry).expect("the pool can be mapped");
    let header = RequestHeader { method: Method::Search, database: "default".to_owned(), deadline_ns: 0 };
    one_at_a_time(&client, &header);
    let mut times = one_at_a_time(&client, &header);
    times.sort_unstable();
    let [p50, p99] = [times[ROUND_TRIPS / 2], times[ROUND_TRIPS * 99 / 100]];
    let per_second = ROUND_TRIPS as f64 / many_at_a_time(&client, &header).as_secs_f64();
    println!(
        "round trip of 4 KiB + 1 KiB: p50 {p50:?}, p99 {p99:?}; {UNDER_WAY} under way: {per_second:.0} requests/s"
    );
    server.kill();
    server.wait();
}
