//! One call: which method, whose database, until when; its bytes to the role that answers and the answer's bytes back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::calls::Calls;
use super::local::{self, Identifiers};
use super::replies::{error_reply, is_failure};
use super::wire::{BodyBudget, Code, ReadError, ReplyBody, error_response, not_grpc, ok_response, timeout_of};
use crate::config::limits::NAME_BYTES_MAX;
use crate::ipc::method::{Form, Method, Route};
use crate::ipc::pool::{OnDeath, PoolFiles, RequestHeader};
use crate::ipc::progress::{Gauge, ProgressCell};
use crate::sys::clock;
use crate::types::{Error, ErrorKind, Result};

/// What stands before the method's name in the path.
const SERVICE_PATH: &str = "/milvus.proto.milvus.MilvusService/";
/// How long a client may take to send one message when it set no deadline.
const READ_WAIT_MAX: Duration = Duration::from_secs(300);

/// What all connections share.
#[derive(Clone)]
pub(super) struct Gateway(Arc<Shared>);

struct Shared {
    reads: Arc<Calls>,
    writes: Arc<Calls>,
    bodies: BodyBudget,
    identifiers: Identifiers,
    /// `None` in tests of the gateway alone.
    cell: Option<ProgressCell>,
}

/// The header of a call in a slot.
pub(super) fn header_of(method: Method, database: String, timeout: Option<Duration>) -> RequestHeader {
    let deadline_ns = timeout.map_or(0, |timeout| {
        clock::monotonic_ns().saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
    });
    RequestHeader { method, database, deadline_ns }
}

impl Gateway {
    /// Opens both pools.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(super) fn open(reads: &PoolFiles, writes: &PoolFiles, cell: Option<ProgressCell>) -> io::Result<Gateway> {
        Ok(Gateway(Arc::new(Shared {
            reads: Calls::open(reads, OnDeath::Retry)?,
            writes: Calls::open(writes, OnDeath::Fail)?,
            bodies: BodyBudget::default(),
            identifiers: Identifiers::new(),
            cell,
        })))
    }

    /// The pool of reads.
    pub(super) fn reads(&self) -> &Arc<Calls> {
        &self.0.reads
    }

    /// The pool of writes.
    pub(super) fn writes(&self) -> &Arc<Calls> {
        &self.0.writes
    }

    /// Numbers for clients.
    pub(super) fn identifiers(&self) -> &Identifiers {
        &self.0.identifiers
    }

    /// Answers one HTTP request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<ReplyBody> {
        let (head, body) = request.into_parts();
        let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
        if head.method != http::Method::POST || !head.headers.get(http::header::CONTENT_TYPE).is_some_and(is_grpc) {
            return not_grpc();
        }
        let path = head.uri.path();
        let Some(method) = path.strip_prefix(SERVICE_PATH).and_then(Method::from_name) else {
            return error_response(Code::Unimplemented, &format!("ShoalDB does not answer {path}"));
        };
        if method.form() == Form::Other {
            // It has no message that could say so.
            return error_response(Code::Unimplemented, &Error::unimplemented(method.name()).message);
        }
        self.count(Gauge::Requests);
        let reply = match self.reply(method, &head.headers, body).await {
            Ok(reply) => reply,
            Err(ReadError::Refused(error)) => error_reply(method, &error),
            Err(ReadError::Broken(why)) => {
                self.count(Gauge::RequestErrors);
                return error_response(Code::Internal, why);
            }
        };
        if is_failure(method, &reply) {
            self.count(Gauge::RequestErrors);
        }
        ok_response(reply)
    }

    async fn reply(&self, method: Method, headers: &HeaderMap, body: Incoming) -> Result<Vec<u8>, ReadError> {
        let timeout = headers.get("grpc-timeout").and_then(|value| timeout_of(value.to_str().ok()?));
        // A deadline too far away for the clock is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let database = database_of(headers).map_err(ReadError::Refused)?;
        let header = header_of(method, database, timeout);
        let read_until = deadline.unwrap_or_else(|| Instant::now() + READ_WAIT_MAX);
        let request = timeout_at(read_until, self.0.bodies.read_message(body))
            .await
            .map_err(|_| ReadError::Broken("the request did not arrive in time"))??;
        match method.route() {
            Route::Gateway => local::answer(self, &header, deadline).await,
            Route::Read | Route::Write => self.call(&header, request, deadline).await,
            Route::Refused => Err(Error::unimplemented(method.name())),
        }
        .map_err(ReadError::Refused)
    }

    /// Has a request answered by the role of its method's route.
    ///
    /// # Errors
    /// See [`Calls::call`].
    pub(super) async fn call(
        &self,
        header: &RequestHeader,
        body: impl AsRef<[u8]>,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>> {
        let calls = match header.method.route() {
            Route::Write => &self.0.writes,
            Route::Read | Route::Gateway | Route::Refused => &self.0.reads,
        };
        let waiting = WaitingGauge::raise(self);
        let reply = calls.call(header, body, deadline).await;
        drop(waiting);
        reply
    }

    fn count(&self, gauge: Gauge) {
        if let Some(cell) = &self.0.cell {
            cell.add(gauge, 1);
        }
    }

    fn show_waiting(&self) {
        if let Some(cell) = &self.0.cell {
            let count = self.0.reads.waiting_count() + self.0.writes.waiting_count();
            cell.set(Gauge::RequestsWaiting, count as u64);
        }
    }
}

/// Shows the number of calls under way when one comes and when it is gone, answered or given up.
struct WaitingGauge<'a>(&'a Gateway);

impl WaitingGauge<'_> {
    fn raise(gateway: &Gateway) -> WaitingGauge<'_> {
        gateway.show_waiting();
        WaitingGauge(gateway)
    }
}

impl Drop for WaitingGauge<'_> {
    fn drop(&mut self) {
        self.0.show_waiting();
    }
}

/// The database that the call's metadata names.
fn database_of(headers: &HeaderMap) -> Result<String> {
    let Some(value) = headers.get("dbname") else { return Ok(String::new()) };
    match value.to_str() {
        Ok(name) if name.len() <= NAME_BYTES_MAX => Ok(name.to_owned()),
        _ => Err(Error::new(
            ErrorKind::DatabaseInvalidName,
            format!(
                "the length of a database name must be less than {NAME_BYTES_MAX} characters, all of them ASCII: invalid \
                 database name[database={}]",
                String::from_utf8_lossy(value.as_bytes())
            ),
        )),
    }
}
