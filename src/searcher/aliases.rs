//! Aliases: describe, list.

use super::session::Session;
use crate::proto::milvus::{DescribeAliasRequest, DescribeAliasResponse, ListAliasesRequest, ListAliasesResponse};
use crate::proto::status::success;
use crate::reader::resolve;
use crate::shm::manifest::CatalogAlias;
use crate::types::{Error, ErrorKind, Result};

/// DescribeAlias.
pub(super) fn describe(session: &Session<'_>, request: &DescribeAliasRequest) -> Result<DescribeAliasResponse> {
    let database = session.database(&request.db_name);
    let catalog = session.catalog_of(database)?;
    let alias = catalog.aliases.iter().find(|alias| alias.database == database && alias.alias == request.alias);
    let collection =
        alias.and_then(|alias| catalog.collections.iter().find(|collection| collection.id == alias.collection));
    let collection = collection.ok_or_else(|| {
        let message = format!("alias not found[database={database}][alias={}]", request.alias);
        Error::new(ErrorKind::AliasNotFound, message)
    })?;
    Ok(DescribeAliasResponse {
        status: Some(success()),
        db_name: database.to_owned(),
        alias: request.alias.clone(),
        collection: collection.name.clone(),
    })
}

/// ListAliases: of one collection, or of the whole database.
pub(super) fn list(session: &Session<'_>, request: &ListAliasesRequest) -> Result<ListAliasesResponse> {
    let database = session.database(&request.db_name);
    let catalog = session.catalog_of(database)?;
    let collection = match request.collection_name.as_str() {
        "" => None,
        name => Some(resolve(&catalog, database, name)?.id),
    };
    let is_listed = |alias: &&CatalogAlias| {
        alias.database == database && collection.is_none_or(|collection| alias.collection == collection)
    };
    Ok(ListAliasesResponse {
        status: Some(success()),
        db_name: database.to_owned(),
        collection_name: request.collection_name.clone(),
        aliases: catalog.aliases.iter().filter(is_listed).map(|alias| alias.alias.clone()).collect(),
    })
}
