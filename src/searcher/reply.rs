//! Replies that carry a status: how an error becomes the response of its method.

use prost::Message;

use crate::proto::common::Status;
use crate::proto::milvus::{
    BatchDescribeCollectionResponse, BoolResponse, DescribeAliasResponse, DescribeCollectionResponse,
    DescribeDatabaseResponse, DescribeIndexResponse, DescribeResourceGroupResponse, GetCollectionStatisticsResponse,
    GetIndexBuildProgressResponse, GetIndexStateResponse, GetIndexStatisticsResponse, GetLoadStateResponse,
    GetLoadingProgressResponse, GetMetricsResponse, GetPartitionStatisticsResponse, GetPersistentSegmentInfoResponse,
    GetQuerySegmentInfoResponse, GetReplicasResponse, ListAliasesResponse, ListDatabasesResponse,
    ListResourceGroupsResponse, QueryResults, SearchResults, ShowCollectionsResponse, ShowPartitionsResponse,
};

/// A response message with a `status` field.
pub(super) trait Reply: Message + Default {
    /// Its status.
    fn status(&self) -> Option<&Status>;
    /// A response that says nothing but its status.
    fn failed(status: Status) -> Self;

    /// Whether it says that the request failed.
    #[allow(deprecated, reason = "older clients look at the legacy code only")]
    fn is_error(&self) -> bool {
        self.status().is_some_and(|status| status.code != 0 || status.error_code != 0)
    }
}

/// Methods that answer a bare status.
impl Reply for Status {
    fn status(&self) -> Option<&Status> {
        Some(self)
    }

    fn failed(status: Status) -> Self {
        status
    }
}

macro_rules! replies {
    ($($name:ident),* $(,)?) => {
        $(impl Reply for $name {
            fn status(&self) -> Option<&Status> {
                self.status.as_ref()
            }

            fn failed(status: Status) -> Self {
                $name { status: Some(status), ..Default::default() }
            }
        })*
    };
}

replies!(
    BatchDescribeCollectionResponse,
    BoolResponse,
    DescribeAliasResponse,
    DescribeCollectionResponse,
    DescribeDatabaseResponse,
    DescribeIndexResponse,
    DescribeResourceGroupResponse,
    GetCollectionStatisticsResponse,
    GetIndexBuildProgressResponse,
    GetIndexStateResponse,
    GetIndexStatisticsResponse,
    GetLoadStateResponse,
    GetLoadingProgressResponse,
    GetMetricsResponse,
    GetPartitionStatisticsResponse,
    GetPersistentSegmentInfoResponse,
    GetQuerySegmentInfoResponse,
    GetReplicasResponse,
    ListAliasesResponse,
    ListDatabasesResponse,
    ListResourceGroupsResponse,
    QueryResults,
    SearchResults,
    ShowCollectionsResponse,
    ShowPartitionsResponse,
);
