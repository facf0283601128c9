//! Partitions: has, show, statistics.

use super::collections::row_count_pair;
use super::session::Session;
use crate::proto::milvus::{
    BoolResponse, GetPartitionStatisticsRequest, GetPartitionStatisticsResponse, HasPartitionRequest,
    ShowPartitionsRequest, ShowPartitionsResponse, ShowType,
};
use crate::proto::status::success;
use crate::types::Result;

/// HasPartition.
pub(super) fn has(session: &Session<'_>, request: &HasPartitionRequest) -> Result<BoolResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    Ok(BoolResponse { status: Some(success()), value: found.partition(&request.partition_name).is_ok() })
}

/// ShowPartitions.
pub(super) fn show(session: &Session<'_>, request: &ShowPartitionsRequest) -> Result<ShowPartitionsResponse> {
    let found = if request.collection_name.is_empty() && request.collection_id != 0 {
        session.find_id(request.collection_id)?
    } else {
        session.find(&request.db_name, &request.collection_name)?
    };
    for name in &request.partition_names {
        found.partition(name)?;
    }
    let mut response = ShowPartitionsResponse { status: Some(success()), ..Default::default() };
    for partition in &found.view().manifest.partitions {
        let is_loaded = found.view().manifest.is_loaded && partition.is_loaded;
        let is_named = request.partition_names.is_empty() || request.partition_names.contains(&partition.name);
        if !is_named || (request.r#type == ShowType::InMemory as i32 && !is_loaded) {
            continue;
        }
        response.partition_names.push(partition.name.clone());
        response.partition_i_ds.push(partition.id.0);
        response.created_timestamps.push(partition.created.0);
        response.created_utc_timestamps.push(partition.created.unix_ms());
        response.in_memory_percentages.push(if is_loaded { 100 } else { 0 });
    }
    Ok(response)
}

/// GetPartitionStatistics.
pub(super) fn statistics(
    session: &Session<'_>,
    request: &GetPartitionStatisticsRequest,
) -> Result<GetPartitionStatisticsResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let partition = found.partition(&request.partition_name)?.id;
    let stats = vec![row_count_pair(found.row_count(&[partition])?)];
    Ok(GetPartitionStatisticsResponse { status: Some(success()), stats })
}
