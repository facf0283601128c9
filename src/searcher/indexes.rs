//! Indexes: describe, statistics, state, progress. Rows are searched exactly as soon as they are visible, so every index is
//! finished at every moment.

use super::session::{Found, Session};
use crate::proto::common::{IndexState, KeyValuePair};
use crate::proto::milvus::{
    DescribeIndexRequest, DescribeIndexResponse, GetIndexBuildProgressRequest, GetIndexBuildProgressResponse,
    GetIndexStateRequest, GetIndexStateResponse, GetIndexStatisticsRequest, GetIndexStatisticsResponse,
    IndexDescription,
};
use crate::proto::status::{pairs_to_wire, success};
use crate::types::{Error, ErrorKind, IndexRecord, Result};

/// DescribeIndex.
pub(super) fn describe(session: &Session<'_>, request: &DescribeIndexRequest) -> Result<DescribeIndexResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let index_descriptions = descriptions(&found, &request.field_name, &request.index_name)?;
    Ok(DescribeIndexResponse { status: Some(success()), index_descriptions })
}

/// GetIndexStatistics.
pub(super) fn statistics(
    session: &Session<'_>,
    request: &GetIndexStatisticsRequest,
) -> Result<GetIndexStatisticsResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let index_descriptions = descriptions(&found, "", &request.index_name)?;
    Ok(GetIndexStatisticsResponse { status: Some(success()), index_descriptions })
}

/// GetIndexState.
pub(super) fn state(session: &Session<'_>, request: &GetIndexStateRequest) -> Result<GetIndexStateResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    named(&found, &request.field_name, &request.index_name)?;
    Ok(GetIndexStateResponse { status: Some(success()), state: IndexState::Finished.into(), ..Default::default() })
}

/// GetIndexBuildProgress.
pub(super) fn build_progress(
    session: &Session<'_>,
    request: &GetIndexBuildProgressRequest,
) -> Result<GetIndexBuildProgressResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    named(&found, &request.field_name, &request.index_name)?;
    let total_rows = signed(found.row_count(&[])?);
    Ok(GetIndexBuildProgressResponse { status: Some(success()), indexed_rows: total_rows, total_rows })
}

/// The indexes of these names; an empty name is any.
fn named<'a>(found: &'a Found, field_name: &str, index_name: &str) -> Result<Vec<&'a IndexRecord>> {
    let manifest = &found.view().manifest;
    let field_is = |index: &IndexRecord| {
        field_name.is_empty() || manifest.schema.field(field_name).is_some_and(|field| field.id == index.field)
    };
    let wanted = |index: &&IndexRecord| (index_name.is_empty() || index.name == index_name) && field_is(index);
    let indexes: Vec<&IndexRecord> = manifest.indexes.iter().filter(wanted).collect();
    if indexes.is_empty() {
        let message = match index_name {
            "" => format!("index not found[collection={}]", found.name),
            name => format!("index not found[index={name}][collection={}]", found.name),
        };
        return Err(Error::new(ErrorKind::IndexNotFound, message));
    }
    Ok(indexes)
}

fn descriptions(found: &Found, field_name: &str, index_name: &str) -> Result<Vec<IndexDescription>> {
    let indexes = named(found, field_name, index_name)?;
    let rows = signed(found.row_count(&[])?);
    Ok(indexes.into_iter().map(|index| description(found, index, rows)).collect())
}

fn description(found: &Found, index: &IndexRecord, rows: i64) -> IndexDescription {
    let mut params = pairs_to_wire(&index.params);
    if !params.iter().any(|pair| pair.key == "index_type") {
        params.push(KeyValuePair { key: "index_type".to_owned(), value: "AUTOINDEX".to_owned() });
    }
    let field = found.view().manifest.schema.field_by_id(index.field);
    IndexDescription {
        index_name: index.name.clone(),
        index_id: index.id.0,
        params,
        field_name: field.map(|field| field.name.clone()).unwrap_or_default(),
        indexed_rows: rows,
        total_rows: rows,
        state: IndexState::Finished.into(),
        ..Default::default()
    }
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
