//! Tests of `gateway`.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipc_channel::ipc::{self, IpcSender};
use prost::Message;

use super::client::Client;
use super::role::{Parts, serve};
use super::service::Gateway;
use crate::config::limits::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::ipc::control::Order;
use crate::ipc::method::Method;
use crate::ipc::pool::{PoolFiles, PoolOptions, PoolServer, RequestHeader};
use crate::proto::common::Status;
use crate::proto::milvus::{
    CheckHealthRequest, CheckHealthResponse, ConnectRequest, ConnectResponse, DescribeDatabaseResponse,
    GetVersionRequest, GetVersionResponse, MutationResult,
};
use crate::proto::status;
use crate::types::{Error, ErrorKind, Result};

const PATIENCE: Duration = Duration::from_secs(240);

/// A gateway on a thread, with a unix socket and a TCP port, and the pools' files for fake servers.
struct Rig {
    orders: Option<IpcSender<Order>>,
    gateway: Option<JoinHandle<Result<()>>>,
    addresses: Vec<String>,
    reads: Arc<PoolFiles>,
    writes: Arc<PoolFiles>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(slot_count: u32) -> Rig {
        let options =
            PoolOptions { slot_count, request_bytes_max: REQUEST_BYTES_MAX, reply_bytes_max: REPLY_BYTES_MAX };
        let pool = |name| Arc::new(PoolFiles::create(name, options).expect("a pool"));
        let (reads, writes) = (pool("reads"), pool("writes"));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("gateway");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let listeners: Vec<(String, OwnedFd)> = vec![
            (format!("unix:{}", path.display()), UnixListener::bind(&path).expect("a socket").into()),
            (tcp.local_addr().expect("an address").to_string(), tcp.into()),
        ];
        let (orders, receiver) = ipc::channel().expect("a channel");
        let (ready, addresses) = mpsc::channel();
        let pools = (Arc::clone(&reads), Arc::clone(&writes));
        let gateway = std::thread::spawn(move || {
            let open = || Gateway::open(&pools.0, &pools.1, None).map_err(|error| Error::internal(error.to_string()));
            let ready = move |addresses| ready.send(addresses).expect("the test listens");
            serve(Parts { orders: receiver, listeners }, ready, open)
        });
        let addresses = addresses.recv_timeout(PATIENCE).expect("the gateway is ready");
        Rig { orders: Some(orders), gateway: Some(gateway), addresses, reads, writes, _dir: dir }
    }

    fn order(&self, order: Order) {
        self.orders.as_ref().expect("a living gateway").send(order).expect("the gateway listens");
    }

    async fn client(&self) -> Client {
        Client::connect(&self.addresses[0]).await.expect("a connection")
    }

    fn join(&mut self) -> Result<()> {
        self.gateway.take().expect("once").join().expect("no panic")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The supervisor is gone: the gateway ends.
        drop(self.orders.take());
        if let Some(gateway) = self.gateway.take() {
            let _ = gateway.join();
        }
    }
}

/// A thread that answers requests of a pool until it is dropped; `None` keeps the request for ever, like a hung process.
struct FakeServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    taken: mpsc::Receiver<RequestHeader>,
}

impl FakeServer {
    fn start(
        files: &Arc<PoolFiles>,
        claimant: u32,
        mut answer: impl FnMut(&RequestHeader, &[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> FakeServer {
        let stop = Arc::new(AtomicBool::new(false));
        let (files, is_stopped) = (Arc::clone(files), Arc::clone(&stop));
        let (sender, taken) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let server = PoolServer::open(&files, claimant).expect("the pool");
            while !is_stopped.load(Ordering::Relaxed) {
                let Some(claim) = server.claim() else {
                    server.wait(Some(Duration::from_millis(20)));
                    continue;
                };
                let header = claim.header().expect("a header");
                let reply = answer(&header, claim.body());
                let _ = sender.send(header);
                match reply {
                    Some(reply) => assert!(claim.reply(&reply)),
                    None => std::mem::forget(claim),
                }
            }
        });
        FakeServer { stop, thread: Some(thread), taken }
    }

    fn echo(files: &Arc<PoolFiles>, claimant: u32) -> FakeServer {
        FakeServer::start(files, claimant, |_, body| Some(body.to_vec()))
    }

    fn hung(files: &Arc<PoolFiles>, claimant: u32) -> FakeServer {
        FakeServer::start(files, claimant, |_, _| None)
    }

    fn next_header(&self) -> RequestHeader {
        self.taken.recv_timeout(PATIENCE).expect("a request")
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
}

/// A body that is a message of no type, and no failure.
fn body(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8 | 0x80).collect()
}

#[test]
fn bytes_reach_the_role_of_the_method_and_come_back() {
    let rig = Rig::start(4);
    let (reads, writes) = (FakeServer::echo(&rig.reads, 1), FakeServer::echo(&rig.writes, 2));
    block_on(async {
        for address in &rig.addresses {
            let mut client = Client::connect(address).await.expect("a connection");
            for len in [0, 1, 5, 100, 8 << 10, (8 << 10) + 1, 1 << 20, 3 << 20] {
                for method in ["Search", "Insert"] {
                    assert_eq!(client.call_bytes(method, body(len)).await.expect("a reply"), body(len));
                }
            }
        }
        let mut client = rig.client().await.with_database("books").expect("a name").with_timeout(Some(PATIENCE));
        reads.taken.try_iter().for_each(drop);
        client.call_bytes("Search", body(1)).await.expect("a reply");
        let header = reads.next_header();
        assert_eq!((header.method, header.database.as_str()), (Method::Search, "books"));
        let left_ns = header.deadline_ns - crate::sys::clock::monotonic_ns();
        assert!(left_ns <= PATIENCE.as_nanos() as u64 && left_ns > PATIENCE.as_nanos() as u64 / 2);
        assert_eq!(writes.next_header().method, Method::Insert);
    });
}

#[test]
fn a_hundred_megabytes_pass_both_ways() {
    let rig = Rig::start(2);
    let _writes = FakeServer::echo(&rig.writes, 1);
    let sent = vec![0x9a; 100 << 20];
    let reply = block_on(async { rig.client().await.call_bytes("Insert", sent.clone()).await });
    assert!(reply.expect("a reply") == sent);
}

#[test]
fn many_calls_share_few_slots() {
    let rig = Rig::start(2);
    let _servers = [FakeServer::echo(&rig.reads, 1), FakeServer::echo(&rig.reads, 2)];
    block_on(async {
        let client = rig.client().await;
        let calls: Vec<_> = (0..200)
            .map(|index| {
                let mut client = client.clone();
                tokio::spawn(async move {
                    assert_eq!(client.call_bytes("Query", body(index)).await.expect("a reply"), body(index));
                })
            })
            .collect();
        for call in calls {
            call.await.expect("no panic");
        }
    });
}

#[test]
fn an_unknown_method_is_unimplemented_by_name() {
    let rig = Rig::start(1);
    for method in ["NoSuchMethod", "DumpMessages"] {
        let error = block_on(async { rig.client().await.call_bytes(method, body(1)).await.expect_err("unknown") });
        assert_eq!(error.code(), tonic::Code::Unimplemented);
        assert!(error.message().contains(method), "{}", error.message());
    }
}

#[test]
fn a_method_that_is_not_supported_says_so_in_its_own_message() {
    let rig = Rig::start(1);
    let (bare, inner) = block_on(async {
        let mut client = rig.client().await;
        let bare = client.call::<_, Status>("RestoreRBAC", &Status::default()).await.expect("a reply");
        let inner = client.call::<_, MutationResult>("BackupRBAC", &Status::default()).await.expect("a reply");
        (bare, inner.status.expect("a status"))
    });
    assert_eq!((bare.code, bare.reason.as_str()), (10, "RestoreRBAC is not supported yet by ShoalDB"));
    assert_eq!((inner.code, inner.reason.as_str()), (10, "BackupRBAC is not supported yet by ShoalDB"));
}

#[test]
fn a_write_whose_writer_died_fails_and_says_so() {
    let rig = Rig::start(1);
    let writer = FakeServer::hung(&rig.writes, 7);
    block_on(async {
        let mut client = rig.client().await;
        let call = tokio::spawn(async move { client.call::<_, MutationResult>("Insert", &Status::default()).await });
        let writer = tokio::task::spawn_blocking(move || (writer.next_header(), writer)).await.expect("a request").1;
        drop(writer);
        rig.order(Order::WriterDied { incarnation: 7 });
        let status = call.await.expect("no panic").expect("a reply").status.expect("a status");
        let error = status::error_of(&status).expect("an error");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains("may or may not have taken effect"), "{}", error.message);
    });
}

#[test]
fn a_read_whose_searcher_died_is_answered_by_another() {
    let rig = Rig::start(1);
    let hung = FakeServer::hung(&rig.reads, 7);
    block_on(async {
        let mut client = rig.client().await;
        let call = tokio::spawn(async move { client.call_bytes("Search", body(3)).await });
        let hung = tokio::task::spawn_blocking(move || (hung.next_header(), hung)).await.expect("a request").1;
        drop(hung);
        let _other = FakeServer::echo(&rig.reads, 8);
        rig.order(Order::SearcherDied { incarnation: 7 });
        assert_eq!(call.await.expect("no panic").expect("a reply"), body(3));
    });
}

#[test]
fn a_call_that_its_client_gave_up_frees_its_slot() {
    let rig = Rig::start(1);
    block_on(async {
        // No server: the request would stay in the only slot for ever.
        let mut hasty = rig.client().await.with_timeout(Some(Duration::from_millis(100)));
        hasty.call_bytes("Search", body(1)).await.expect_err("the deadline passed");
        let _server = FakeServer::echo(&rig.reads, 1);
        let mut client = rig.client().await;
        assert_eq!(client.call_bytes("Search", body(4)).await.expect("a reply"), body(4));
    });
}

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let rig = Rig::start(2);
    let _server = FakeServer::echo(&rig.reads, 1);
    block_on(async {
        let mut client = rig.client().await;
        client.call_bytes("Search", body(1)).await.expect("a reply");
        let path = rig.addresses[0].trim_start_matches("unix:").to_owned();
        for garbage in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\xff\x77\x01"]
        {
            let mut stream = UnixStream::connect(&path).expect("a connection");
            stream.write_all(garbage).expect("written");
            drop(stream);
            assert_eq!(client.call_bytes("Search", body(9)).await.expect("a reply"), body(9));
        }
    });
}

#[test]
fn clients_are_greeted_with_a_number_and_a_version() {
    let rig = Rig::start(1);
    let _server = FakeServer::start(&rig.reads, 1, |header, _| {
        assert_eq!(header.method, Method::DescribeDatabase);
        let error =
            Error::new(ErrorKind::DatabaseNotFound, format!("database not found[database={}]", header.database));
        let status = if header.database == "gone" { status::failure(&error) } else { status::success() };
        Some(DescribeDatabaseResponse { status: Some(status), ..Default::default() }.encode_to_vec())
    });
    block_on(async {
        let connect = async |database: &str| {
            let mut client = rig.client().await.with_database(database).expect("a name");
            client.call::<_, ConnectResponse>("Connect", &ConnectRequest::default()).await.expect("a reply")
        };
        let (first, second) = (connect("").await, connect("books").await);
        assert!(first.identifier > 0 && second.identifier > 0 && first.identifier != second.identifier);
        let info = first.server_info.expect("server info");
        assert_eq!(info.deploy_mode, "STANDALONE");
        assert!(info.build_tags.starts_with("v2.6."));
        let status = connect("gone").await.status.expect("a status");
        assert_eq!((status.code, status.reason.as_str()), (800, "database not found[database=gone]"));
        let version: GetVersionResponse =
            rig.client().await.call("GetVersion", &GetVersionRequest {}).await.expect("a reply");
        assert_eq!(version.version, info.build_tags);
    });
}

#[test]
fn health_needs_a_writer_and_a_searcher() {
    let rig = Rig::start(2);
    // On a busy machine one that lives may answer too late: whoever is missing at every look is not there.
    let missing = async |count: usize| -> CheckHealthResponse {
        let mut client = rig.client().await;
        for _ in 0..20 {
            let health: CheckHealthResponse =
                client.call("CheckHealth", &CheckHealthRequest {}).await.expect("a reply");
            assert_eq!(health.is_healthy, health.reasons.is_empty());
            if health.reasons.len() == count {
                return health;
            }
        }
        panic!("never {count} were missing")
    };
    block_on(async {
        let _searcher = FakeServer::echo(&rig.reads, 1);
        let ill = missing(1).await;
        assert!(ill.reasons[0].contains("writer"), "{:?}", ill.reasons);
        let _writer = FakeServer::echo(&rig.writes, 2);
        missing(0).await;
    });
}

#[test]
fn a_drain_lets_calls_under_way_finish_and_takes_no_more() {
    let mut rig = Rig::start(1);
    let (release, released) = mpsc::channel::<()>();
    let (taken, mut is_taken) = tokio::sync::mpsc::channel(1);
    let server = FakeServer::start(&rig.reads, 1, move |_, body| {
        taken.blocking_send(()).expect("the test listens");
        released.recv_timeout(PATIENCE).expect("released");
        Some(body.to_vec())
    });
    block_on(async {
        let mut client = rig.client().await;
        let _idle = rig.client().await;
        let call = tokio::spawn(async move { client.call_bytes("Search", body(5)).await });
        is_taken.recv().await.expect("the request is under way");
        rig.order(Order::Drain);
        let started = Instant::now();
        while Client::connect(&rig.addresses[1]).await.is_ok() {
            assert!(started.elapsed() < PATIENCE);
        }
        release.send(()).expect("the server waits");
        assert_eq!(call.await.expect("no panic").expect("a reply"), body(5));
    });
    drop(server);
    rig.join().expect("a clean end");
}
