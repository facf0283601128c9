//! The methods that the gateway answers itself: Connect, GetVersion, CheckHealth, AllocTimestamp.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use tokio::time::Instant;

use super::service::Gateway;
use crate::ipc::method::Method;
use crate::ipc::pool::RequestHeader;
use crate::proto::common::ServerInfo;
use crate::proto::milvus::{
    AllocTimestampResponse, CheckHealthResponse, ConnectResponse, DescribeDatabaseRequest, DescribeDatabaseResponse,
    GetFlushStateRequest, GetVersionResponse,
};
use crate::proto::status;
use crate::types::{Error, Result, Timestamp};

/// Clients turn features on by the Milvus version they find here.
const VERSION: &str = concat!("v2.6.0-shoaldb-", env!("CARGO_PKG_VERSION"));
/// How long a role may take to show that it lives.
const PROBE_WAIT: Duration = Duration::from_secs(2);

/// Numbers of connected clients: never 0, which the Node SDK takes for "no server info".
#[derive(Debug)]
pub(super) struct Identifiers(AtomicI64);

impl Identifiers {
    /// Numbers that no former gateway gave: they start at the time of the start.
    pub(super) fn new() -> Identifiers {
        Identifiers(AtomicI64::new(i64::try_from(Timestamp::from_unix_ms(unix_ms()).0).unwrap_or(1).max(1)))
    }
}

/// Answers a method of [`crate::ipc::method::Route::Gateway`].
///
/// # Errors
/// When the named database does not exist or cannot be looked up.
pub(super) async fn answer(gateway: &Gateway, header: &RequestHeader, deadline: Option<Instant>) -> Result<Vec<u8>> {
    match header.method {
        Method::Connect => connect(gateway, header, deadline).await,
        Method::GetVersion => {
            Ok(GetVersionResponse { status: Some(status::success()), version: VERSION.to_owned() }.encode_to_vec())
        }
        Method::CheckHealth => Ok(check_health(gateway).await.encode_to_vec()),
        Method::AllocTimestamp => {
            let timestamp = Timestamp::from_unix_ms(unix_ms()).0;
            Ok(AllocTimestampResponse { status: Some(status::success()), timestamp }.encode_to_vec())
        }
        other => Err(Error::internal(format!("{} is not answered by the gateway", other.name()))),
    }
}

fn unix_ms() -> u64 {
    // A clock before 1970 gives 0; nothing but these answers depends on it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

async fn connect(gateway: &Gateway, header: &RequestHeader, deadline: Option<Instant>) -> Result<Vec<u8>> {
    check_database(gateway, header, deadline).await?;
    let identifier = gateway.identifiers().0.fetch_add(1, Ordering::Relaxed);
    let server_info = ServerInfo {
        build_tags: VERSION.to_owned(),
        build_time: String::new(),
        git_commit: String::new(),
        go_version: String::new(),
        deploy_mode: "STANDALONE".to_owned(),
        reserved: HashMap::new(),
    };
    Ok(ConnectResponse { status: Some(status::success()), server_info: Some(server_info), identifier }.encode_to_vec())
}

/// The gateway holds no catalog: a searcher is asked whether the database exists. The default one always does.
async fn check_database(gateway: &Gateway, header: &RequestHeader, deadline: Option<Instant>) -> Result<()> {
    if header.database.is_empty() || header.database == "default" {
        return Ok(());
    }
    let request = DescribeDatabaseRequest { base: None, db_name: header.database.clone() }.encode_to_vec();
    let header = RequestHeader { method: Method::DescribeDatabase, ..header.clone() };
    let reply = gateway.call(&header, request, deadline).await?;
    let reply = DescribeDatabaseResponse::decode(reply.as_slice())
        .map_err(|error| Error::internal(format!("a searcher's answer about a database cannot be read: {error}")))?;
    reply.status.as_ref().and_then(status::error_of).map_or(Ok(()), Err)
}

async fn check_health(gateway: &Gateway) -> CheckHealthResponse {
    let (writer, searcher) = tokio::join!(
        probe(gateway, Method::GetFlushState, GetFlushStateRequest::default().encode_to_vec()),
        probe(gateway, Method::ListDatabases, Vec::new()),
    );
    let reasons: Vec<String> = [("writer", writer), ("searchers", searcher)]
        .into_iter()
        .filter_map(|(who, answer)| answer.err().map(|error| format!("no answer from the {who}: {error}")))
        .collect();
    CheckHealthResponse {
        status: Some(status::success()),
        is_healthy: reasons.is_empty(),
        reasons,
        quota_states: Vec::new(),
    }
}

/// Any answer shows that a role of the method's route lives.
async fn probe(gateway: &Gateway, method: Method, request: Vec<u8>) -> Result<()> {
    let header = super::service::header_of(method, String::new(), Some(PROBE_WAIT));
    gateway.call(&header, request, Some(Instant::now() + PROBE_WAIT)).await.map(|_| ())
}
