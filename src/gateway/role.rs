//! The role's life: listeners, connections, orders of the supervisor, the end.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ipc_channel::ipc::IpcReceiver;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::authority::PlainAuthority;
use super::service::Gateway;
use crate::config::exit;
use crate::config::limits::{CONNECTIONS_MAX, HEADER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use crate::ipc::control::{Notice, Order, RoleContext};
use crate::sys::sandbox::{self, Reach};
use crate::types::{Error, Result};

/// How long calls under way may take after a drain was ordered.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);
/// Connections that had no call under way for this long after that are cut: a request in transit is faster.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// A connection that sends nothing at all for this long after it was opened is closed.
const FIRST_BYTES_WAIT: Duration = Duration::from_secs(20);
/// A silent client is asked this often whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(60);
/// After a failed accept (no descriptors left) others get the time to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// One message of a usual insert fits without a round trip for more window.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// All streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Fewer frames for large bodies.
const FRAME_BYTES: u32 = 1 << 20;

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let RoleContext { orders, notices, reads, writes, listeners, cell, .. } = context;
    confine();
    let served = serve(
        Parts { orders, listeners },
        |addresses| notices.send(Notice::Ready { addresses }),
        || {
            let (Some(reads), Some(writes)) = (reads, writes) else {
                return Err(Error::internal("the gateway was started without its pools"));
            };
            Gateway::open(&reads, &writes, Some(cell)).map_err(|error| Error::io("map the request pools", &error))
        },
    );
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the gateway cannot go on: {error}");
            notices.send(Notice::Failed { message: error.to_string() });
            ExitCode::from(exit::code(&error))
        }
    }
}

/// It has its sockets and pools: whoever breaks into it finds no file to read.
fn confine() {
    match sandbox::confine(&Reach { read: vec!["/proc".into()], ..Reach::default() }) {
        Ok(confinement) => tracing::debug!(?confinement, "confined"),
        Err(error) => tracing::warn!("the gateway is not confined: {error}"),
    }
}

/// What the role works on.
pub(super) struct Parts {
    pub(super) orders: IpcReceiver<Order>,
    pub(super) listeners: Vec<(String, OwnedFd)>,
}

/// Serves until the orders end. Calls `ready` with the addresses once connections are taken.
///
/// # Errors
/// When the runtime, a pool or a listener cannot be used.
pub(super) fn serve(
    parts: Parts,
    ready: impl FnOnce(Vec<String>),
    open: impl FnOnce() -> Result<Gateway>,
) -> Result<()> {
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the gateway's runtime", &error))?;
    let gateway = open()?;
    let orders = forward(parts.orders)?;
    let end = runtime.block_on(serve_until_drained(parts.listeners, gateway, orders, ready));
    // Connections that outlived the drain are cut.
    runtime.shutdown_background();
    end
}

/// Many clients have one connection each; the default soft limit of 1024 descriptors would be theirs.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!("cannot raise the limit of open descriptors from {soft} to {hard}: {error}");
    }
}

/// Orders come over a channel that blocks; a thread brings them to the runtime. It ends when the supervisor does.
fn forward(orders: IpcReceiver<Order>) -> Result<mpsc::Receiver<Order>> {
    let (sender, receiver) = mpsc::channel(64);
    let run = move || {
        while let Ok(order) = orders.recv() {
            if sender.blocking_send(order).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(run)
        .map_err(|error| Error::io("start the thread of orders", &error))?;
    Ok(receiver)
}

async fn serve_until_drained(
    listeners: Vec<(String, OwnedFd)>,
    gateway: Gateway,
    mut orders: mpsc::Receiver<Order>,
    ready: impl FnOnce(Vec<String>),
) -> Result<()> {
    let mut watchers = JoinSet::new();
    watchers.spawn(Arc::clone(gateway.reads()).watch());
    watchers.spawn(Arc::clone(gateway.writes()).watch());
    // Closing this tells every accept loop and connection to finish.
    let (drain, draining) = watch::channel(());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut loops = JoinSet::new();
    let mut addresses = Vec::new();
    for (address, descriptor) in listeners {
        let listener = Listener::new(&address, descriptor)
            .map_err(|error| Error::io(format_args!("listen on {address}"), &error))?;
        loops.spawn(accept_loop(listener, gateway.clone(), Arc::clone(&room), draining.clone()));
        addresses.push(address);
    }
    drop(draining);
    ready(addresses);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::SearcherDied { incarnation }) => gateway.reads().server_died(incarnation),
                Some(Order::WriterDied { incarnation }) => gateway.writes().server_died(incarnation),
                Some(Order::Drain) | None => break,
                // Requests to a writer that is away wait in their slots; nothing of the configuration is ours.
                Some(_) => {}
            },
            Some(end) = watchers.join_next() => {
                let error = match end {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => io::Error::other("the watcher ended"),
                    Err(error) => io::Error::other(error),
                };
                return Err(Error::io("watch for replies", &error));
            }
        }
    }
    tracing::info!("the gateway drains");
    let finish = async {
        // Resolves when the last accept loop and connection dropped its receiver.
        drain.send_replace(());
        drain.closed().await;
    };
    tokio::select! {
        () = finish => {}
        () = no_calls_for(&gateway, DRAIN_IDLE) => tracing::info!("connections without calls are cut"),
        () = tokio::time::sleep(DRAIN_WAIT_MAX) => {
            tracing::warn!("calls are cut: they were not done {} s after the drain began", DRAIN_WAIT_MAX.as_secs());
        }
    }
    Ok(())
}

/// Resolves when no call was under way for a while: a client that does not answer the farewell holds nothing up.
async fn no_calls_for(gateway: &Gateway, how_long: Duration) {
    let mut idle_since = tokio::time::Instant::now();
    while idle_since.elapsed() < how_long {
        tokio::time::sleep(how_long / 20).await;
        if gateway.reads().waiting_count() + gateway.writes().waiting_count() > 0 {
            idle_since = tokio::time::Instant::now();
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    fn new(address: &str, descriptor: OwnedFd) -> io::Result<Listener> {
        if address.starts_with("unix:") {
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true)?;
            return Ok(Listener::Unix(UnixListener::from_std(listener)?));
        }
        let listener = std::net::TcpListener::from(descriptor);
        listener.set_nonblocking(true)?;
        Ok(Listener::Tcp(TcpListener::from_std(listener)?))
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A reply must not wait for the client's acknowledgement of the one before.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

async fn accept_loop(listener: Listener, gateway: Gateway, room: Arc<Semaphore>, mut draining: watch::Receiver<()>) {
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.changed() => return,
        };
        match accepted {
            Ok(stream) => {
                let (gateway, draining) = (gateway.clone(), draining.clone());
                tokio::spawn(async move {
                    match stream {
                        Stream::Tcp(stream) => {
                            if has_first_bytes(stream.readable(), draining.clone()).await {
                                serve_connection(stream, gateway, draining).await;
                            }
                        }
                        Stream::Unix(stream) => {
                            if has_first_bytes(stream.readable(), draining.clone()).await {
                                serve_connection(PlainAuthority::new(stream), gateway, draining).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn has_first_bytes(readable: impl Future<Output = io::Result<()>>, mut draining: watch::Receiver<()>) -> bool {
    tokio::select! {
        first = tokio::time::timeout(FIRST_BYTES_WAIT, readable) => matches!(first, Ok(Ok(()))),
        _ = draining.changed() => false,
    }
}

async fn serve_connection<S>(stream: S, gateway: Gateway, mut draining: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let gateway = gateway.clone();
        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let end = tokio::select! {
        end = &mut connection => end,
        _ = draining.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = end {
        // Garbage on the port, a client that is gone: its own concern.
        tracing::debug!("a connection ended: {error}");
    }
}
