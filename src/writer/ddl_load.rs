//! Load and release: whether a collection's files are published.
//!
//! A load publishes every file from disk at once; the fill thread copies them into shared memory afterwards.

use super::ddl::update;
use super::ddl_partitions::check_not_by_key;
use super::engine::Engine;
use super::lock;
use super::operation::database_of;
use super::state::Garbage;
use crate::proto::milvus;
use crate::shm::manifest::Place;
use crate::types::resource_groups::{DEFAULT_RESOURCE_GROUP, resource_group_not_found};
use crate::types::{CollectionId, CollectionRecord, DurableFile, Error, ErrorKind, Result};

/// Loads a collection: every partition.
///
/// # Errors
/// When a vector field has no index.
pub fn load_collection(engine: &Engine, database: &str, request: &milvus::LoadCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    check_resource_groups(&request.resource_groups)?;
    update(engine, database, &request.collection_name, |_, record| {
        check_replicas(record, request.replica_number)?;
        check_load_fields(record, &request.load_fields)?;
        check_indexes(record)?;
        record.is_loaded = true;
        record.partitions.iter_mut().for_each(|partition| partition.is_loaded = true);
        Ok(())
    })?;
    engine.fill.raise();
    Ok(())
}

/// Loads partitions.
///
/// # Errors
/// When a vector field has no index, or there is no such partition.
pub fn load_partitions(engine: &Engine, database: &str, request: &milvus::LoadPartitionsRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    check_resource_groups(&request.resource_groups)?;
    update(engine, database, &request.collection_name, |_, record| {
        check_not_by_key(&record.schema, "load partitions")?;
        check_replicas(record, request.replica_number)?;
        check_load_fields(record, &request.load_fields)?;
        check_indexes(record)?;
        set_loaded(record, &request.partition_names, true)
    })?;
    engine.fill.raise();
    Ok(())
}

/// Releases a collection: every partition.
///
/// # Errors
/// When there is no such collection.
pub fn release_collection(engine: &Engine, database: &str, request: &milvus::ReleaseCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let id = update(engine, database, &request.collection_name, |_, record| {
        record.is_loaded = false;
        record.partitions.iter_mut().for_each(|partition| partition.is_loaded = false);
        Ok(())
    })?;
    remove_copies(engine, id);
    Ok(())
}

/// Releases partitions.
///
/// # Errors
/// When there is no such partition.
pub fn release_partitions(engine: &Engine, database: &str, request: &milvus::ReleasePartitionsRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let id = update(engine, database, &request.collection_name, |_, record| {
        check_not_by_key(&record.schema, "release partitions")?;
        set_loaded(record, &request.partition_names, false)
    })?;
    remove_copies(engine, id);
    Ok(())
}

fn set_loaded(record: &mut CollectionRecord, names: &[String], is_loaded: bool) -> Result<()> {
    if names.is_empty() {
        return Err(Error::invalid("due to no partition specified"));
    }
    for name in names {
        let partition = record.partitions.iter_mut().find(|partition| partition.name == *name);
        let partition = partition.ok_or_else(|| {
            Error::new(ErrorKind::PartitionNotFound, format!("partition not found[partition={name}]"))
        })?;
        partition.is_loaded = is_loaded;
    }
    record.is_loaded = record.partitions.iter().any(|partition| partition.is_loaded);
    Ok(())
}

/// Removes copies that no manifest names any more from shared memory.
fn remove_copies(engine: &Engine, id: CollectionId) {
    let mut state = lock(&engine.state);
    let Ok(collection) = state.collection(id) else { return };
    for index in 0..collection.sealed.len() {
        let partition = collection.sealed[index].record.partition;
        if collection.is_published(partition) {
            continue;
        }
        let file = &mut collection.sealed[index];
        let indexes = file.indexes.iter_mut().map(|index| (index.record.name(), &mut index.place));
        let places = indexes.chain([(DurableFile::Table(file.record.id), &mut file.place)]);
        let copied = places.filter(|(_, place)| **place == Place::Shm);
        collection.garbage.extend(copied.map(|(name, place)| {
            *place = Place::Disk;
            Garbage::Published(name)
        }));
    }
    // Only after the manifest without them is in force.
    if !collection.is_dirty {
        engine.collect_garbage(collection);
    }
}

fn check_indexes(record: &CollectionRecord) -> Result<()> {
    let is_indexed = |field| record.indexes.iter().any(|index| index.field == field);
    let missing: Vec<&str> =
        record.schema.vector_fields().filter(|field| !is_indexed(field.id)).map(|field| field.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "there is no vector index on field: [{}], please create index firstly: index not found[collection={}]",
        missing.join(" "),
        record.name
    );
    Err(Error::new(ErrorKind::IndexNotFound, message))
}

/// Every field is loaded: a file is mapped whole. The list must make sense all the same.
fn check_load_fields(record: &CollectionRecord, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut has_vector = false;
    for name in names {
        let field = record.schema.field(name).ok_or_else(|| {
            Error::invalid(format_args!("failed to get field schema by name: fieldName({name}) not found"))
        })?;
        has_vector |= field.data_type.is_vector();
    }
    let primary = &record.schema.primary().name;
    if !names.contains(primary) {
        return Err(Error::invalid(format_args!(
            "load field list {names:?} does not contain primary key field {primary}"
        )));
    }
    if !has_vector {
        return Err(Error::invalid(format_args!("load field list {names:?} does not contain vector field")));
    }
    Ok(())
}

fn check_resource_groups(names: &[String]) -> Result<()> {
    match names.iter().find(|name| *name != DEFAULT_RESOURCE_GROUP) {
        None => Ok(()),
        Some(name) => Err(resource_group_not_found(name)),
    }
}

/// One machine holds one copy; every searcher process reads it.
fn check_replicas(record: &CollectionRecord, count: i32) -> Result<()> {
    if count <= 1 {
        return Ok(());
    }
    if record.is_loaded {
        let message = format!(
            "can't change the replica number for loaded partitions: invalid parameter[expected=1][actual={count}]"
        );
        return Err(Error::new(ErrorKind::InvalidParameter, message));
    }
    let message =
        format!("when load {count} replica count: service resource insufficient[available=1][expected={count}]");
    Err(Error::new(ErrorKind::Unexpected, message))
}
