//! Databases: list, describe.

use super::session::Session;
use crate::proto::milvus::{
    DescribeDatabaseRequest, DescribeDatabaseResponse, ListDatabasesRequest, ListDatabasesResponse,
};
use crate::proto::status::{pairs_to_wire, success};
use crate::types::{Error, ErrorKind, Result};

/// ListDatabases.
pub(super) fn list(session: &Session<'_>, _request: &ListDatabasesRequest) -> Result<ListDatabasesResponse> {
    let catalog = session.catalog()?;
    Ok(ListDatabasesResponse {
        status: Some(success()),
        db_names: catalog.databases.iter().map(|record| record.name.clone()).collect(),
        created_timestamp: catalog.databases.iter().map(|record| record.created.0).collect(),
        db_ids: catalog.databases.iter().map(|record| record.id).collect(),
    })
}

/// DescribeDatabase.
pub(super) fn describe(session: &Session<'_>, request: &DescribeDatabaseRequest) -> Result<DescribeDatabaseResponse> {
    let database = session.database(&request.db_name);
    let catalog = session.catalog()?;
    let record =
        catalog.databases.iter().find(|record| record.name == database).ok_or_else(|| {
            Error::new(ErrorKind::DatabaseNotFound, format!("database not found[database={database}]"))
        })?;
    Ok(DescribeDatabaseResponse {
        status: Some(success()),
        db_name: record.name.clone(),
        db_id: record.id,
        created_timestamp: record.created.0,
        properties: pairs_to_wire(&record.properties),
    })
}
