//! Indexes: describe, statistics, state, progress. Rows that wait for the builder are searched by scan meanwhile; what is too
//! small for an index, and what was inserted after the moment a client asks about, counts as finished.

use std::collections::BTreeMap;

use super::session::{Found, Session};
use crate::config::limits::INDEXED_ROWS_MIN;
use crate::format::RowSource;
use crate::index::spec::IndexSpec;
use crate::ipc::progress::{Gauge, ProgressInfo};
use crate::proto::common::{IndexState, KeyValuePair};
use crate::proto::milvus::{
    DescribeIndexRequest, DescribeIndexResponse, GetIndexBuildProgressRequest, GetIndexBuildProgressResponse,
    GetIndexStateRequest, GetIndexStateResponse, GetIndexStatisticsRequest, GetIndexStatisticsResponse,
    IndexDescription,
};
use crate::proto::status::{pairs_to_wire, success};
use crate::types::{Error, ErrorKind, FileId, IndexRecord, Result, Timestamp};

/// DescribeIndex.
pub(super) fn describe(session: &Session<'_>, request: &DescribeIndexRequest) -> Result<DescribeIndexResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let asked = asked(request.timestamp);
    let index_descriptions = descriptions(session, &found, &request.field_name, &request.index_name, asked)?;
    Ok(DescribeIndexResponse { status: Some(success()), index_descriptions })
}

/// GetIndexStatistics.
pub(super) fn statistics(
    session: &Session<'_>,
    request: &GetIndexStatisticsRequest,
) -> Result<GetIndexStatisticsResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let asked = asked(request.timestamp);
    let index_descriptions = descriptions(session, &found, "", &request.index_name, asked)?;
    Ok(GetIndexStatisticsResponse { status: Some(success()), index_descriptions })
}

/// GetIndexState.
pub(super) fn state(session: &Session<'_>, request: &GetIndexStateRequest) -> Result<GetIndexStateResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let mut state = IndexState::Finished;
    let mut fail_reason = String::new();
    for index in named(&found, &request.field_name, &request.index_name)? {
        let progress = Progress::of(session, &found, index, Timestamp::MAX)?;
        fail_reason.extend(progress.failure.clone());
        state = match (state, progress.state()) {
            (IndexState::Failed, _) | (IndexState::InProgress, IndexState::Finished) => state,
            (_, state) => state,
        };
    }
    Ok(GetIndexStateResponse { status: Some(success()), state: state.into(), fail_reason })
}

/// GetIndexBuildProgress.
pub(super) fn build_progress(
    session: &Session<'_>,
    request: &GetIndexBuildProgressRequest,
) -> Result<GetIndexBuildProgressResponse> {
    let found = session.find(&request.db_name, &request.collection_name)?;
    let mut indexed_rows = u64::MAX;
    let mut total_rows = 0;
    for index in named(&found, &request.field_name, &request.index_name)? {
        let progress = Progress::of(session, &found, index, Timestamp::MAX)?;
        (indexed_rows, total_rows) = (indexed_rows.min(progress.indexed()), progress.total);
    }
    Ok(GetIndexBuildProgressResponse {
        status: Some(success()),
        indexed_rows: signed(indexed_rows.min(total_rows)),
        total_rows: signed(total_rows),
    })
}

/// The moment a client asks about; 0 = now.
fn asked(timestamp: u64) -> Timestamp {
    if timestamp == 0 { Timestamp::MAX } else { Timestamp(timestamp) }
}

/// How far an index is.
#[derive(Debug, Default)]
struct Progress {
    /// Rows of the collection.
    total: u64,
    /// Rows that wait for the builder or are being built, less what of these is done.
    pending: u64,
    /// Of these, rows that were there at the moment asked about.
    pending_then: u64,
    /// Rows whose index could not be built, and why.
    failed: u64,
    failure: Option<String>,
}

impl Progress {
    fn of(session: &Session<'_>, found: &Found, index: &IndexRecord, asked: Timestamp) -> Result<Progress> {
        let manifest = &found.view().manifest;
        let mut progress = Progress { total: found.row_count(&[])?, ..Progress::default() };
        let field = manifest.schema.field_by_id(index.field);
        let is_built = field.and_then(|field| IndexSpec::parse(field, &index.params).ok());
        if !is_built.is_some_and(|spec| spec.is_built()) {
            return Ok(progress);
        }
        let building = session.progress.map(|cell| cell.all()).unwrap_or_default();
        for file in manifest.unindexed.iter().filter(|file| file.index == index.id) {
            if let Some(failure) = &file.failure {
                progress.failed += file.row_count;
                progress.failure = Some(failure.clone());
                continue;
            }
            // What is built is not searched before the writer has taken it over: some of it is pending until then.
            let done = rows_done(&building, file.file, index).min(file.row_count.saturating_sub(1));
            let rows = file.row_count - done;
            progress.pending += rows;
            if file.timestamp_min <= asked {
                progress.pending_then += rows;
            }
        }
        progress.add_growing(found, asked);
        Ok(progress)
    }

    /// Rows on their way into a table file that will get an index.
    fn add_growing(&mut self, found: &Found, asked: Timestamp) {
        let mut by_file: BTreeMap<FileId, (u64, u64)> = BTreeMap::new();
        for chunk in &found.view().growing {
            let rows = chunk.file.rows(chunk.file.rows_published());
            let timestamps = rows.insert_timestamps();
            let counts = by_file.entry(chunk.entry.file).or_default();
            counts.0 += timestamps.len() as u64;
            counts.1 += timestamps.partition_point(|timestamp| *timestamp <= asked.0) as u64;
        }
        for (rows, rows_then) in by_file.into_values().filter(|(rows, _)| *rows >= INDEXED_ROWS_MIN) {
            self.pending += rows;
            self.pending_then += rows_then;
        }
    }

    fn indexed(&self) -> u64 {
        self.total.saturating_sub(self.pending + self.failed)
    }

    fn state(&self) -> IndexState {
        match (&self.failure, self.pending_then) {
            (Some(_), _) => IndexState::Failed,
            (None, 0) => IndexState::Finished,
            (None, _) => IndexState::InProgress,
        }
    }
}

/// Rows of a file that the builder has done.
fn rows_done(processes: &[ProgressInfo], file: FileId, index: &IndexRecord) -> u64 {
    let is_at = |process: &&ProgressInfo| {
        let at = (process.gauge(Gauge::BuildFile), process.gauge(Gauge::BuildIndex));
        process.pid != 0 && at == (file.0 as u64 + 1, index.id.0 as u64)
    };
    processes.iter().find(is_at).map_or(0, |process| process.gauge(Gauge::BuildRowsDone))
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

fn descriptions(
    session: &Session<'_>,
    found: &Found,
    field_name: &str,
    index_name: &str,
    asked: Timestamp,
) -> Result<Vec<IndexDescription>> {
    let indexes = named(found, field_name, index_name)?;
    indexes.into_iter().map(|index| description(found, index, Progress::of(session, found, index, asked)?)).collect()
}

fn description(found: &Found, index: &IndexRecord, progress: Progress) -> Result<IndexDescription> {
    let mut params = pairs_to_wire(&index.params);
    if !params.iter().any(|pair| pair.key == "index_type") {
        params.push(KeyValuePair { key: "index_type".to_owned(), value: "AUTOINDEX".to_owned() });
    }
    let field = found.view().manifest.schema.field_by_id(index.field);
    Ok(IndexDescription {
        index_name: index.name.clone(),
        index_id: index.id.0,
        params,
        field_name: field.map(|field| field.name.clone()).unwrap_or_default(),
        indexed_rows: signed(progress.indexed()),
        total_rows: signed(progress.total),
        pending_index_rows: signed((progress.pending + progress.failed).min(progress.total)),
        state: progress.state().into(),
        index_state_fail_reason: progress.failure.unwrap_or_default(),
        ..Default::default()
    })
}

fn signed(rows: u64) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
