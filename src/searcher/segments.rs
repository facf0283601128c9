//! What tools ask about the inside: segments (our table files), replicas, system information.

use super::resource_groups::NODE_ID;
use super::session::{Found, Session};
use crate::proto::common::{SegmentLevel, SegmentState};
use crate::proto::milvus::{
    GetMetricsRequest, GetMetricsResponse, GetPersistentSegmentInfoRequest, GetPersistentSegmentInfoResponse,
    GetQuerySegmentInfoRequest, GetQuerySegmentInfoResponse, GetReplicasRequest, GetReplicasResponse,
    PersistentSegmentInfo, QuerySegmentInfo, ReplicaInfo, ShardReplica,
};
use crate::proto::status::success;
use crate::types::resource_groups::DEFAULT_RESOURCE_GROUP;
use crate::types::{Error, Result};

/// GetPersistentSegmentInfo: the table files, those of released partitions included.
pub(super) fn persistent(
    session: &Session<'_>,
    request: &GetPersistentSegmentInfoRequest,
) -> Result<GetPersistentSegmentInfoResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let manifest = &found.view().manifest;
    let published = manifest.files.iter().map(|file| (file.id, file.partition, file.row_count));
    let released = manifest.released.iter().map(|file| (file.id, file.partition, file.row_count));
    let infos = published.chain(released).map(|(id, partition, row_count)| PersistentSegmentInfo {
        segment_id: id.0,
        collection_id: manifest.collection.0,
        partition_id: partition.0,
        num_rows: row_count as i64,
        state: SegmentState::Flushed.into(),
        level: SegmentLevel::L1.into(),
        is_sorted: true,
        ..Default::default()
    });
    Ok(GetPersistentSegmentInfoResponse { status: Some(success()), infos: infos.collect() })
}

/// GetQuerySegmentInfo: what searches visit, growing files included.
pub(super) fn searched(
    session: &Session<'_>,
    request: &GetQuerySegmentInfoRequest,
) -> Result<GetQuerySegmentInfoResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    found.check_loaded("list segments")?;
    let collection = found.view().manifest.collection.0;
    let sealed = found.view().sealed.iter().map(|file| QuerySegmentInfo {
        segment_id: file.entry.id.0,
        partition_id: file.entry.partition.0,
        mem_size: file.entry.file_bytes as i64,
        num_rows: file.entry.row_count as i64,
        state: SegmentState::Sealed.into(),
        is_sorted: true,
        ..Default::default()
    });
    let mut infos: Vec<QuerySegmentInfo> = sealed.collect();
    let sealed_count = infos.len();
    for chunk in &found.view().growing {
        let rows = chunk.file.rows_published() as i64;
        let bytes = chunk.entry.file_bytes as i64;
        // The chunks of one MemTableFile are one segment to the outside.
        if let Some(info) = infos[sealed_count..].iter_mut().find(|info| info.segment_id == chunk.entry.file.0) {
            info.num_rows += rows;
            info.mem_size += bytes;
            continue;
        }
        infos.push(QuerySegmentInfo {
            segment_id: chunk.entry.file.0,
            partition_id: chunk.entry.partition.0,
            mem_size: bytes,
            num_rows: rows,
            state: SegmentState::Growing.into(),
            ..Default::default()
        });
    }
    for info in &mut infos {
        info.collection_id = collection;
        info.node_ids = vec![NODE_ID];
        info.level = SegmentLevel::L1.into();
    }
    Ok(GetQuerySegmentInfoResponse { status: Some(success()), infos })
}

/// GetReplicas: one replica of one shard on one node.
pub(super) fn replicas(session: &Session<'_>, request: &GetReplicasRequest) -> Result<GetReplicasResponse> {
    let found = if request.collection_name.is_empty() && request.collection_id != 0 {
        session.find_id(request.collection_id)?
    } else {
        session.find(&request.db_name, &request.collection_name)?
    };
    found.check_loaded("get replicas")?;
    Ok(GetReplicasResponse { status: Some(success()), replicas: vec![replica(&found, request.with_shard_nodes)] })
}

fn replica(found: &Found, with_shard_nodes: bool) -> ReplicaInfo {
    let manifest = &found.view().manifest;
    let shard = ShardReplica {
        leader_id: NODE_ID,
        leader_addr: String::new(),
        dm_channel_name: format!("shoal_{}_v0", manifest.collection),
        node_ids: if with_shard_nodes { vec![NODE_ID] } else { Vec::new() },
    };
    let loaded = manifest.partitions.iter().filter(|partition| partition.is_loaded);
    ReplicaInfo {
        replica_id: manifest.collection.0,
        collection_id: manifest.collection.0,
        partition_ids: loaded.map(|partition| partition.id.0).collect(),
        shard_replicas: vec![shard],
        node_ids: vec![NODE_ID],
        resource_group_name: DEFAULT_RESOURCE_GROUP.to_owned(),
        ..Default::default()
    }
}

/// GetMetrics: `{"metric_type": "system_info"}` is answered, as management tools read it.
pub(super) fn metrics(session: &Session<'_>, request: &GetMetricsRequest) -> Result<GetMetricsResponse> {
    let wanted: serde_json::Value = serde_json::from_str(&request.request)
        .map_err(|error| Error::invalid(format_args!("the metrics request is not JSON: {error}")))?;
    let metric = wanted.get("metric_type").and_then(|metric| metric.as_str()).unwrap_or_default();
    if metric != "system_info" {
        return Err(Error::unimplemented(format_args!("the metric type {metric:?}")));
    }
    let version = env!("CARGO_PKG_VERSION");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let node = |role: &str| {
        serde_json::json!({
            "identifier": 1,
            "connected": [],
            "infos": {
                "has_error": false,
                "error_reason": "",
                "name": format!("{role}1"),
                "hardware_infos": { "ip": "", "cpu_core_count": cores },
                "system_info": {
                    "system_version": version,
                    "deploy_mode": "STANDALONE",
                    "build_version": version,
                },
                "type": role,
                "id": NODE_ID,
            },
        })
    };
    let response = serde_json::json!({
        "nodes_info": [node("rootcoord"), node("proxy"), node("querynode"), node("datanode")],
        "searchers": session.config.searchers,
    });
    Ok(GetMetricsResponse {
        status: Some(success()),
        response: response.to_string(),
        component_name: "shoaldb".to_owned(),
    })
}
