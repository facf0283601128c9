//! Create, drop, alter databases.

use super::ddl::{change_meta, merge_properties};
use super::engine::Engine;
use super::lock;
use crate::proto::instants::zone;
use crate::proto::schemas::{NameOf, check_name};
use crate::proto::{common, milvus, status};
use crate::storage::meta::MetaEdit;
use crate::types::resource_groups::DEFAULT_RESOURCE_GROUP;
use crate::types::{DatabaseRecord, Error, ErrorKind, Result, ZONE_PROPERTY};

/// The database that is always there.
const DEFAULT: &str = "default";
/// Most databases (Milvus).
const DATABASES_MAX: usize = 64;

/// Creates a database.
///
/// # Errors
/// When it exists, its name is none, or there are too many.
pub fn create(engine: &Engine, request: milvus::CreateDatabaseRequest) -> Result<()> {
    let name = request.db_name;
    check_name(NameOf::Database, &name)?;
    check_zone(&request.properties)?;
    check_properties(&request.properties)?;
    let mut meta = lock(&engine.meta);
    {
        let state = lock(&engine.state);
        if state.database(&name).is_ok() {
            return Err(Error::new(ErrorKind::Unexpected, format!("database already exist: {name}")));
        }
        if state.databases.len() >= DATABASES_MAX {
            let message = format!("database number ({DATABASES_MAX}) exceeds max configuration ({DATABASES_MAX})");
            return Err(Error::invalid(message));
        }
    }
    let record = DatabaseRecord {
        name,
        id: engine.ids.take(1)?,
        created: engine.clock.next(),
        properties: status::pairs_from_wire(request.properties),
    };
    change_meta(&mut meta, &[MetaEdit::PutDatabase(record.clone())])?;
    let mut state = lock(&engine.state);
    state.databases.push(record);
    engine.publish_catalog(&state)
}

/// Properties that ask for something this server does not do, with the values that ask for nothing.
const UNSUPPORTED_PROPERTIES: [(&str, &[&str]); 7] = [
    ("database.replica.number", &["0", "1"]),
    ("database.resource_groups", &["", DEFAULT_RESOURCE_GROUP]),
    ("database.diskQuota.mb", &[]),
    ("database.force.deny.writing", &["false"]),
    ("database.force.deny.reading", &["false"]),
    ("database.force.deny.ddl", &["false"]),
    ("cipher.enabled", &["false"]),
];

fn check_properties(properties: &[common::KeyValuePair]) -> Result<()> {
    for pair in properties {
        let unsupported = UNSUPPORTED_PROPERTIES.iter().find(|(key, _)| *key == pair.key);
        let is_harmless = |harmless: &[&str]| harmless.iter().any(|value| value.eq_ignore_ascii_case(&pair.value));
        if unsupported.is_some_and(|(_, harmless)| !is_harmless(harmless)) {
            return Err(Error::unimplemented(format_args!("database property {}={}", pair.key, pair.value)));
        }
    }
    collections_max(&status::pairs_from_wire(properties.to_vec())).map(|_| ())
}

/// Most collections of a database with these properties; `None` when they do not say.
///
/// # Errors
/// When it is no number.
pub fn collections_max(properties: &[(String, String)]) -> Result<Option<usize>> {
    let Some((key, value)) = properties.iter().find(|(key, _)| key == "database.max.collections") else {
        return Ok(None);
    };
    let max = value.trim().parse();
    max.map(Some).map_err(|_| Error::invalid(format_args!("invalid {key}: {value}, it should be an integer")))
}

/// Drops an empty database.
///
/// # Errors
/// When it is not there, not empty, or the default one.
pub fn drop(engine: &Engine, request: &milvus::DropDatabaseRequest) -> Result<()> {
    let name = &request.db_name;
    let mut meta = lock(&engine.meta);
    {
        let state = lock(&engine.state);
        if name == DEFAULT {
            return Err(Error::new(ErrorKind::Unexpected, "can not drop default database"));
        }
        state.database(name)?;
        if state.collections.values().any(|collection| collection.record.database == *name) {
            let message = format!("database:{name} not empty, must drop all collections before drop database");
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
    }
    change_meta(&mut meta, &[MetaEdit::DropDatabase(name.clone())])?;
    let mut state = lock(&engine.state);
    state.databases.retain(|database| database.name != *name);
    engine.publish_catalog(&state)
}

/// Sets and deletes properties of a database.
///
/// # Errors
/// When it is not there, or nothing is to be done.
pub fn alter(engine: &Engine, request: milvus::AlterDatabaseRequest) -> Result<()> {
    if request.properties.is_empty() && request.delete_keys.is_empty() {
        let message =
            "alter database with empty properties and delete keys, expected to set either properties or delete keys";
        return Err(Error::new(ErrorKind::Unexpected, message));
    }
    check_zone(&request.properties)?;
    check_properties(&request.properties)?;
    let mut meta = lock(&engine.meta);
    let mut record = lock(&engine.state).database(&request.db_name)?.clone();
    merge_properties(&mut record.properties, request.properties, &request.delete_keys);
    change_meta(&mut meta, &[MetaEdit::PutDatabase(record.clone())])?;
    let mut state = lock(&engine.state);
    if let Some(known) = state.databases.iter_mut().find(|database| database.name == record.name) {
        *known = record;
    }
    engine.publish_catalog(&state)
}

fn check_zone(properties: &[common::KeyValuePair]) -> Result<()> {
    properties.iter().filter(|pair| pair.key == ZONE_PROPERTY).try_for_each(|pair| zone(&pair.value).map(|_| ()))
}
