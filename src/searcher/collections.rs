//! Collections: has, describe, show, statistics, load state.

use super::session::{Found, Session};
use crate::proto::common::{ErrorCode, KeyValuePair, LoadState};
use crate::proto::milvus::{
    BatchDescribeCollectionRequest, BatchDescribeCollectionResponse, BoolResponse, DescribeCollectionRequest,
    DescribeCollectionResponse, GetCollectionStatisticsRequest, GetCollectionStatisticsResponse, GetLoadStateRequest,
    GetLoadStateResponse, GetLoadingProgressRequest, GetLoadingProgressResponse, HasCollectionRequest,
    ShowCollectionsRequest, ShowCollectionsResponse, ShowType,
};
use crate::proto::schemas::schema_to_wire;
use crate::proto::status::{failure, pairs_to_wire, success};
use crate::shm::manifest::CatalogCollection;
use crate::types::{Error, ErrorKind, Result, zone_of};

/// HasCollection.
pub(super) fn has(session: &Session<'_>, request: &HasCollectionRequest) -> Result<BoolResponse> {
    let value = match session.find(&request.db_name, &request.collection_name) {
        Ok(_) => true,
        Err(error) if error.kind == ErrorKind::CollectionNotFound => false,
        Err(error) => return Err(error),
    };
    Ok(BoolResponse { status: Some(success()), value })
}

/// DescribeCollection. A missing collection has a text and a legacy code of its own here, which clients look for.
pub(super) fn describe(session: &Session<'_>, request: &DescribeCollectionRequest) -> DescribeCollectionResponse {
    let found = if request.collection_name.is_empty() && request.collection_id != 0 {
        session.find_id(request.collection_id)
    } else {
        session.find(&request.db_name, &request.collection_name)
    };
    found.and_then(|found| description(session, &found)).unwrap_or_else(|error| {
        let database = session.database(&request.db_name);
        not_described(&error, database, &request.collection_name)
    })
}

#[allow(deprecated, reason = "older clients look at the legacy code only")]
fn not_described(error: &Error, database: &str, collection: &str) -> DescribeCollectionResponse {
    let mut status = failure(error);
    if error.kind == ErrorKind::CollectionNotFound {
        status.error_code = ErrorCode::UnexpectedError.into();
        status.reason = format!("can't find collection[database={database}][collection={collection}]");
    }
    DescribeCollectionResponse { status: Some(status), ..Default::default() }
}

fn description(session: &Session<'_>, found: &Found) -> Result<DescribeCollectionResponse> {
    let manifest = &found.view().manifest;
    let catalog = session.catalog()?;
    let aliases = catalog.aliases.iter().filter(|alias| alias.collection == manifest.collection);
    let channel = format!("shoal_{}_v0", manifest.collection);
    Ok(DescribeCollectionResponse {
        status: Some(success()),
        schema: Some(schema_to_wire(&found.name, &manifest.schema, &zone_of(&manifest.properties))),
        collection_id: manifest.collection.0,
        virtual_channel_names: vec![channel.clone()],
        physical_channel_names: vec![channel],
        created_timestamp: manifest.created.0,
        created_utc_timestamp: manifest.created.unix_ms(),
        shards_num: manifest.shards,
        aliases: aliases.map(|alias| alias.alias.clone()).collect(),
        consistency_level: manifest.consistency_level,
        collection_name: found.name.clone(),
        properties: pairs_to_wire(&manifest.properties),
        db_name: found.database.clone(),
        num_partitions: manifest.partitions.len() as i64,
        db_id: catalog.databases.iter().find(|record| record.name == found.database).map_or(0, |record| record.id),
        request_time: found.snapshot.timestamp.0,
        update_timestamp: manifest.updated.0,
        update_timestamp_str: manifest.updated.to_string(),
        ..Default::default()
    })
}

/// BatchDescribeCollection: each answer has its own status.
pub(super) fn describe_all(
    session: &Session<'_>,
    request: &BatchDescribeCollectionRequest,
) -> Result<BatchDescribeCollectionResponse> {
    let by_name = request.collection_name.iter().map(|name| DescribeCollectionRequest {
        db_name: request.db_name.clone(),
        collection_name: name.clone(),
        ..Default::default()
    });
    let by_id = request.collection_id.iter().map(|id| DescribeCollectionRequest {
        db_name: request.db_name.clone(),
        collection_id: *id,
        ..Default::default()
    });
    let responses = by_name.chain(by_id).map(|request| describe(session, &request)).collect();
    Ok(BatchDescribeCollectionResponse { status: Some(success()), responses })
}

/// ShowCollections.
pub(super) fn show(session: &Session<'_>, request: &ShowCollectionsRequest) -> Result<ShowCollectionsResponse> {
    let database = session.database(&request.db_name);
    let catalog = session.catalog_of(database)?;
    let wanted = |entry: &&CatalogCollection| {
        entry.database == database
            && (request.collection_names.is_empty() || request.collection_names.contains(&entry.name))
    };
    let mut response = ShowCollectionsResponse { status: Some(success()), ..Default::default() };
    for entry in catalog.collections.iter().filter(wanted) {
        let summary = match session.reader.summary_of(entry) {
            Ok(summary) => summary,
            // Dropped since the catalog was read.
            Err(error) if matches!(error.kind, ErrorKind::CollectionNotFound | ErrorKind::Unavailable) => continue,
            Err(error) => return Err(error),
        };
        if request.r#type == ShowType::InMemory as i32 && !summary.is_loaded {
            continue;
        }
        response.collection_names.push(entry.name.clone());
        response.collection_ids.push(entry.id.0);
        response.created_timestamps.push(summary.created.0);
        response.created_utc_timestamps.push(summary.created.unix_ms());
        response.in_memory_percentages.push(if summary.is_loaded { 100 } else { 0 });
        response.query_service_available.push(summary.is_loaded);
        response.shards_num.push(summary.shards);
    }
    Ok(response)
}

/// GetCollectionStatistics.
pub(super) fn statistics(
    session: &Session<'_>,
    request: &GetCollectionStatisticsRequest,
) -> Result<GetCollectionStatisticsResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    Ok(GetCollectionStatisticsResponse { status: Some(success()), stats: vec![row_count_pair(found.row_count(&[])?)] })
}

/// The one statistic that clients read.
pub(super) fn row_count_pair(row_count: u64) -> KeyValuePair {
    KeyValuePair { key: "row_count".to_owned(), value: row_count.to_string() }
}

/// GetLoadingProgress: loading is done once LoadCollection has answered.
pub(super) fn loading_progress(
    session: &Session<'_>,
    request: &GetLoadingProgressRequest,
) -> Result<GetLoadingProgressResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    if !is_loaded(&found, &request.partition_names)? {
        let (kind, message) = match request.partition_names.first() {
            None => (ErrorKind::CollectionNotLoaded, format!("collection not loaded[collection={}]", found.name)),
            Some(name) => (ErrorKind::PartitionNotLoaded, format!("partition not loaded[partition={name}]")),
        };
        return Err(Error::new(kind, message));
    }
    Ok(GetLoadingProgressResponse { status: Some(success()), progress: 100, refresh_progress: 100 })
}

/// GetLoadState: a missing collection is a state, not an error.
pub(super) fn load_state(session: &Session<'_>, request: &GetLoadStateRequest) -> Result<GetLoadStateResponse> {
    let state = match session.find(&request.db_name, &request.collection_name) {
        Ok(found) if is_loaded(&found, &request.partition_names)? => LoadState::LoadStateLoaded,
        Ok(_) => LoadState::LoadStateNotLoad,
        Err(error) if error.kind == ErrorKind::CollectionNotFound => LoadState::LoadStateNotExist,
        Err(error) => return Err(error),
    };
    Ok(GetLoadStateResponse { status: Some(success()), state: state.into() })
}

/// Whether the collection, and every named partition, answers searches.
fn is_loaded(found: &Found, partition_names: &[String]) -> Result<bool> {
    let mut all_loaded = found.view().manifest.is_loaded;
    for name in partition_names {
        all_loaded &= found.partition(name)?.is_loaded;
    }
    Ok(all_loaded)
}
