//! From a method and bytes to the bytes of its response. Every failure, also a bug, becomes a status in the response.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prost::Message;

use super::reply::Reply;
use super::session::Session;
use super::{aliases, collections, databases, indexes, partitions, query, resource_groups, search, segments};
use crate::ipc::method::{Method, Route};
use crate::proto::common::Status;
use crate::proto::status::failure;
use crate::types::{Error, ErrorKind, Result};

/// An encoded response.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// The message.
    pub body: Vec<u8>,
    /// Its status is an error.
    pub is_error: bool,
}

/// Answers one request.
pub(super) fn answer(session: &Session<'_>, method: Method, body: &[u8]) -> Answer {
    match method {
        Method::Search => handle(method, body, |request| search::search(session, request)),
        Method::HybridSearch => handle(method, body, |request| search::hybrid_search(session, request)),
        Method::Query => handle(method, body, |request| query::query(session, &request)),
        Method::HasCollection => handle(method, body, |request| collections::has(session, &request)),
        Method::DescribeCollection => handle(method, body, |request| Ok(collections::describe(session, &request))),
        Method::BatchDescribeCollection => handle(method, body, |request| collections::describe_all(session, &request)),
        Method::ShowCollections => handle(method, body, |request| collections::show(session, &request)),
        Method::GetCollectionStatistics => handle(method, body, |request| collections::statistics(session, &request)),
        Method::GetLoadingProgress => handle(method, body, |request| collections::loading_progress(session, &request)),
        Method::GetLoadState => handle(method, body, |request| collections::load_state(session, &request)),
        Method::HasPartition => handle(method, body, |request| partitions::has(session, &request)),
        Method::ShowPartitions => handle(method, body, |request| partitions::show(session, &request)),
        Method::GetPartitionStatistics => handle(method, body, |request| partitions::statistics(session, &request)),
        Method::DescribeAlias => handle(method, body, |request| aliases::describe(session, &request)),
        Method::ListAliases => handle(method, body, |request| aliases::list(session, &request)),
        Method::DescribeIndex => handle(method, body, |request| indexes::describe(session, &request)),
        Method::GetIndexStatistics => handle(method, body, |request| indexes::statistics(session, &request)),
        Method::GetIndexState => handle(method, body, |request| indexes::state(session, &request)),
        Method::GetIndexBuildProgress => handle(method, body, |request| indexes::build_progress(session, &request)),
        Method::ListDatabases => handle(method, body, |request| databases::list(session, &request)),
        Method::DescribeDatabase => handle(method, body, |request| databases::describe(session, &request)),
        Method::GetMetrics => handle(method, body, |request| segments::metrics(session, &request)),
        Method::GetPersistentSegmentInfo => handle(method, body, |request| segments::persistent(session, &request)),
        Method::GetQuerySegmentInfo => handle(method, body, |request| segments::searched(session, &request)),
        Method::CreateResourceGroup => handle(method, body, |request| resource_groups::create(&request)),
        Method::DropResourceGroup => handle(method, body, |request| resource_groups::drop(&request)),
        Method::UpdateResourceGroups => handle(method, body, |request| resource_groups::update(&request)),
        Method::ListResourceGroups => handle(method, body, |request| resource_groups::list(&request)),
        Method::DescribeResourceGroup => handle(method, body, |request| resource_groups::describe(session, &request)),
        Method::TransferNode => handle(method, body, |request| resource_groups::transfer_node(&request)),
        Method::TransferReplica => handle(method, body, |request| resource_groups::transfer_replica(session, &request)),
        Method::GetReplicas => handle(method, body, |request| segments::replicas(session, &request)),
        _ => {
            debug_assert_ne!(method.route(), Route::Read, "every read has a handler");
            let error = Error::unimplemented(format_args!("{} by a searcher", method.name()));
            Answer { body: status_only(failure(&error)), is_error: true }
        }
    }
}

/// A response with `status` as field 1, as nearly every response of the service has it.
fn status_only(status: Status) -> Vec<u8> {
    crate::proto::milvus::BoolResponse::failed(status).encode_to_vec()
}

/// Decodes a request, handles it, encodes its response.
fn handle<Request, Response>(method: Method, body: &[u8], handler: impl FnOnce(Request) -> Result<Response>) -> Answer
where
    Request: Message + Default,
    Response: Reply,
{
    let handled = catch_unwind(AssertUnwindSafe(|| {
        let request = Request::decode(body).map_err(|error| {
            Error::new(ErrorKind::InvalidParameter, format!("cannot read the {} request: {error}", method.name()))
        })?;
        handler(request)
    }));
    let response = handled.unwrap_or_else(|panic| Err(bug(method, panic.as_ref()))).unwrap_or_else(|error| {
        if matches!(error.kind, ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::Io) {
            tracing::error!(method = method.name(), %error, "request failed");
        }
        Response::failed(failure(&error))
    });
    Answer { is_error: response.is_error(), body: response.encode_to_vec() }
}

fn bug(method: Method, panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    Error::internal(format!("{} met a bug of ShoalDB, please report it: {text}", method.name()))
}
