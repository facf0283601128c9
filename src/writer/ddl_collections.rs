//! Create, drop, rename, truncate, alter collections.

use prost::Message;

use super::ddl::{change_meta, merge_properties, update};
use super::ddl_databases::collections_max;
use super::ddl_fields;
use super::engine::Engine;
use super::operation::{database_of, undecodable};
use super::state::{Collection, Garbage, State};
use super::{ddl_partitions, lock, properties};
use crate::config::limits::{COLLECTIONS_MAX, SHARDS_MAX};
use crate::proto::schemas::{NameOf, check_name, schema_from_wire};
use crate::proto::{common, milvus, schema, status};
use crate::storage::meta::MetaEdit;
use crate::sys::failpoint;
use crate::types::{
    CollectionId, CollectionRecord, CollectionSchema, DurableFile, Error, ErrorKind, FileId, Lsn, PartitionId, Result,
    Timestamp, ZONE_PROPERTY, zone_of,
};

/// Creates a collection; again with the same parameters is fine.
///
/// # Errors
/// With Milvus' texts.
pub fn create(engine: &Engine, database: &str, request: milvus::CreateCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database).to_owned();
    let of_database = lock(&engine.state).database(&database)?.properties.clone();
    let mut record = checked_record(&database, &of_database, request)?;
    let first_id = engine.ids.take_reserving(1 + record.partitions.len() as i64, &engine.meta)?;
    let mut meta = lock(&engine.meta);
    {
        let state = lock(&engine.state);
        state.database(&database)?;
        if let Some(existing) = existing(&state, &record)? {
            return same_or_error(existing, &record);
        }
        check_collection_count(&state, &database)?;
        record.cell = free_cell(&state)?;
    }
    record.id = CollectionId(first_id);
    record.created = engine.clock.next();
    record.updated = record.created;
    for (id, partition) in (first_id + 1..).zip(&mut record.partitions) {
        partition.id = PartitionId(id);
        partition.created = record.created;
    }
    change_meta(&mut meta, &[MetaEdit::PutCollection(record.clone())])?;
    let mut state = lock(&engine.state);
    let mut collection = Collection::new(record);
    // The manifest before the name: who finds the name finds the collection.
    engine.publish(&mut collection)?;
    state.add(collection);
    engine.publish_catalog(&state)
}

fn checked_record(
    database: &str,
    of_database: &[(String, String)],
    request: milvus::CreateCollectionRequest,
) -> Result<CollectionRecord> {
    let name = request.collection_name;
    check_name(NameOf::Collection, &name)?;
    let wire = schema::CollectionSchema::decode(request.schema.as_slice()).map_err(undecodable)?;
    let mut properties = status::pairs_from_wire(request.properties);
    // A collection keeps the zone that its database had when it was made.
    let is_zone = |(key, _): &&(String, String)| key == ZONE_PROPERTY;
    if !properties.iter().any(|pair| is_zone(&pair)) {
        properties.extend(of_database.iter().find(is_zone).cloned());
    }
    let schema = schema_from_wire(&name, wire, &zone_of(&properties))?;
    properties::check(&properties, &schema)?;
    let partition_count = ddl_partitions::count(&name, &schema, request.num_partitions)?;
    if !(0..=SHARDS_MAX).contains(&request.shards_num) {
        return Err(Error::invalid(format_args!("maximum shards's number should be limited to {SHARDS_MAX}")));
    }
    let field_id_next = schema.fields.iter().map(|field| field.id.0 + 1).max().unwrap_or(100);
    Ok(CollectionRecord {
        id: CollectionId(0),
        database: database.to_owned(),
        name,
        partitions: ddl_partitions::unnumbered(&schema, partition_count),
        schema,
        properties,
        consistency_level: request.consistency_level,
        shards: request.shards_num.max(1),
        created: Timestamp(0),
        updated: Timestamp(0),
        is_loaded: false,
        start_lsn: Lsn(0),
        cell: 0,
        indexes: Vec::new(),
        field_id_next,
    })
}

fn existing<'a>(state: &'a State, record: &CollectionRecord) -> Result<Option<&'a CollectionRecord>> {
    let key = (record.database.clone(), record.name.clone());
    if state.aliases.contains_key(&key) {
        let message =
            format!("collection name [{}] conflicts with an existing alias, please choose a unique name", record.name);
        return Err(Error::new(ErrorKind::Unexpected, message));
    }
    let id = state.names.get(&key);
    Ok(id.and_then(|id| state.collections.get(id)).map(|collection| &collection.record))
}

fn same_or_error(existing: &CollectionRecord, record: &CollectionRecord) -> Result<()> {
    // A schema that grew into this one is the same.
    let is_same = CollectionSchema { version: 1, ..existing.schema.clone() } == record.schema
        && (record.schema.partition_key().is_none() || existing.partitions.len() == record.partitions.len())
        && existing.shards == record.shards
        && existing.properties == record.properties
        && existing.consistency_level == record.consistency_level;
    if is_same {
        return Ok(());
    }
    let name = &record.name;
    let message = format!("create duplicate collection with different parameters, collection: {name}");
    Err(Error::new(ErrorKind::Unexpected, message))
}

/// `database.max.collections` is one of the few database properties that do something here.
fn check_collection_count(state: &State, database: &str) -> Result<()> {
    let Some(max) = collections_max(&state.database(database)?.properties)? else { return Ok(()) };
    let count = state.collections.values().filter(|collection| collection.record.database == database).count();
    if count < max {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "exceeded the limit number of collections per DB[database={database}][limit={max}]"
    )))
}

fn free_cell(state: &State) -> Result<u32> {
    let mut taken: Vec<u32> = state.collections.values().map(|collection| collection.record.cell).collect();
    taken.sort_unstable();
    let free = (0u32..).zip(taken.iter().map(Some).chain([None])).find(|(cell, taken)| Some(cell) != *taken);
    match free {
        Some((cell, _)) if (cell as usize) < COLLECTIONS_MAX => Ok(cell),
        _ => Err(Error::invalid(format_args!("exceeded the limit number of collections[limit={COLLECTIONS_MAX}]"))),
    }
}

/// Drops a collection; one that does not exist is fine.
///
/// # Errors
/// When it is named by an alias, or has aliases.
pub fn drop(engine: &Engine, database: &str, request: &milvus::DropCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let name = &request.collection_name;
    let mut meta = lock(&engine.meta);
    let mut state = lock(&engine.state);
    state.database(database)?;
    let key = (database.to_owned(), name.clone());
    if state.aliases.contains_key(&key) {
        return Err(Error::new(ErrorKind::Unexpected, format!("cannot drop the collection via alias = {name}")));
    }
    let Some(id) = state.names.get(&key).copied() else { return Ok(()) };
    let aliases: Vec<&str> =
        state.aliases.iter().filter(|(_, target)| **target == id).map(|((_, alias), _)| alias.as_str()).collect();
    if !aliases.is_empty() {
        let message = format!(
            "unable to drop the collection [{name}] because it has associated aliases [{}], please remove all aliases \
             before dropping the collection",
            aliases.join(", ")
        );
        return Err(Error::new(ErrorKind::Unexpected, message));
    }
    let files = state.collection(id)?.sealed.iter().map(|file| file.record.id);
    let mut edits: Vec<MetaEdit> = files.map(MetaEdit::DropFile).collect();
    edits.extend(state.collection(id)?.unreadable.iter().map(|file| MetaEdit::DropFile(file.id)));
    edits.push(MetaEdit::DropCollection(id));
    std::mem::drop(state);
    change_meta(&mut meta, &edits)?;
    forget(engine, &key, id)
}

/// Takes a dropped collection out of memory: the name first, then the files.
fn forget(engine: &Engine, key: &(String, String), id: CollectionId) -> Result<()> {
    let mut state = lock(&engine.state);
    state.names.remove(key);
    let Some(mut collection) = state.collections.remove(&id) else { return Ok(()) };
    let published = engine.publish_catalog(&state);
    failpoint::reach("ddl.catalog_published");
    let lost = empty(&mut collection);
    engine.collect_garbage(&mut collection);
    if let Err(error) = engine.publisher.remove_collection(collection.record.cell, id) {
        tracing::warn!("shared files of dropped collection {id} stay until the next start: {error}");
    }
    // Only an empty directory goes; one with files that could not be removed is swept at the next start.
    let _ = std::fs::remove_dir(engine.instance.tables_dir(id));
    std::mem::drop(state);
    engine.flushes.complete(&lost);
    published
}

/// Turns every file of a collection into garbage. Returns the MemTableFiles among them, which somebody may wait for.
fn empty(collection: &mut Collection) -> Vec<FileId> {
    let mut lost = Vec::new();
    for (_, table) in std::mem::take(&mut collection.memtables) {
        for file in table.immutable.into_iter().chain(table.mutable) {
            lost.push(file.id);
            collection.discard(file);
        }
    }
    for file in std::mem::take(&mut collection.sealed) {
        collection.discard_sealed(file);
    }
    let unreadable = std::mem::take(&mut collection.unreadable);
    collection.garbage.extend(unreadable.into_iter().map(|file| Garbage::Durable(DurableFile::Table(file.id))));
    collection.damage = None;
    lost
}

/// Removes every row of a collection.
///
/// # Errors
/// When there is no such collection.
pub fn truncate(engine: &Engine, database: &str, request: &milvus::TruncateCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let mut meta = lock(&engine.meta);
    let (id, record, mut edits) = {
        let mut state = lock(&engine.state);
        let id = state.resolve(database, &request.collection_name)?;
        let collection = state.collection(id)?;
        let mut record = collection.record.clone();
        // Nothing is appended meanwhile: this is the commit thread.
        record.start_lsn = Lsn(engine.lsn_next.load(std::sync::atomic::Ordering::Relaxed));
        let sealed = collection.sealed.iter().map(|file| file.record.id);
        let unreadable = collection.unreadable.iter().map(|file| file.id);
        (id, record, sealed.chain(unreadable).map(MetaEdit::DropFile).collect::<Vec<_>>())
    };
    edits.push(MetaEdit::PutCollection(record.clone()));
    change_meta(&mut meta, &edits)?;
    let mut state = lock(&engine.state);
    let collection = state.collection(id)?;
    collection.record = record;
    let lost = empty(collection);
    // Keys that a delete found before are gone with their rows.
    collection.marked_last = engine.clock.next();
    let published = engine.publish(collection);
    std::mem::drop(state);
    engine.flushes.complete(&lost);
    published
}

/// Renames a collection, or moves it to another database.
///
/// # Errors
/// With Milvus' texts.
pub fn rename(engine: &Engine, database: &str, request: &milvus::RenameCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let new_database = database_of(&request.new_db_name, database);
    check_name(NameOf::Collection, &request.new_name)?;
    let mut meta = lock(&engine.meta);
    let old_key = (database.to_owned(), request.old_name.clone());
    let new_key = (new_database.to_owned(), request.new_name.clone());
    let mut record = {
        let mut state = lock(&engine.state);
        state.database(new_database)?;
        if old_key == new_key {
            return Err(Error::invalid("collection name or database name should be different"));
        }
        let id = state.resolve(database, &request.old_name)?;
        check_rename(&state, &old_key, &new_key, id)?;
        state.collection(id)?.record.clone()
    };
    record.database.clone_from(&new_key.0);
    record.name.clone_from(&new_key.1);
    change_meta(&mut meta, &[MetaEdit::PutCollection(record.clone())])?;
    let mut state = lock(&engine.state);
    state.names.remove(&old_key);
    state.names.insert(new_key, record.id);
    let collection = state.collection(record.id)?;
    collection.record = record;
    engine.publish_catalog(&state)
}

fn check_rename(state: &State, old: &(String, String), new: &(String, String), id: CollectionId) -> Result<()> {
    let refused = |message: String| Err(Error::new(ErrorKind::Unexpected, message));
    if state.aliases.contains_key(old) {
        return refused(format!("unsupported use an alias to rename collection, alias:{}", old.1));
    }
    if state.names.contains_key(new) {
        return refused(format!(
            "duplicated new collection name {}:{} with other collection name or alias",
            new.0, new.1
        ));
    }
    if state.aliases.contains_key(new) {
        return refused(format!("cannot rename collection to an existing alias: {}", new.1));
    }
    if old.0 != new.0 && state.aliases.values().any(|target| *target == id) {
        return refused("fail to rename db name, must drop all aliases of this collection before rename".to_owned());
    }
    Ok(())
}

/// Sets and deletes properties.
///
/// # Errors
/// When a property cannot be changed.
pub fn alter(engine: &Engine, database: &str, request: milvus::AlterCollectionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database).to_owned();
    let set = status::pairs_from_wire(request.properties.clone());
    if set.is_empty() && request.delete_keys.is_empty() {
        return Err(Error::invalid(
            "The collection properties to alter and keys to delete must not be empty at the same time",
        ));
    }
    update(engine, &database, &request.collection_name, |_, record| {
        let before = record.schema.version;
        properties::check_altered(record, &set, &request.delete_keys)?;
        check_alter(record, &set, &request.delete_keys)?;
        let properties = apply_settings(record, request.properties)?;
        if record.schema.version != before {
            record.updated = engine.clock.next();
        }
        merge_properties(&mut record.properties, properties, &request.delete_keys);
        Ok(())
    })?;
    Ok(())
}

fn check_alter(record: &CollectionRecord, set: &[(String, String)], delete_keys: &[String]) -> Result<()> {
    let loaded = |what: &str| {
        let name = &record.name;
        let message = format!("can not {what} if collection loaded: collection already loaded[collection={name}]");
        Err(Error::new(ErrorKind::CollectionLoaded, message))
    };
    if record.is_loaded && set.iter().any(|(key, _)| key == "mmap.enabled") {
        return loaded("alter mmap properties");
    }
    if record.is_loaded && delete_keys.iter().any(|key| key == "mmap.enabled") {
        return loaded("delete mmap properties");
    }
    if delete_keys.iter().any(|key| key == "dynamicfield.enabled") {
        return Err(Error::invalid("cannot delete key dynamicfield.enabled"));
    }
    if record.is_loaded && set.iter().map(|(key, _)| key).chain(delete_keys).any(|key| key.starts_with("warmup")) {
        return loaded("alter warmup properties");
    }
    for (key, value) in set {
        match key.as_str() {
            "mmap.enabled" => ddl_fields::check_bool(key, value)?,
            key if key.starts_with("warmup") => ddl_fields::check_warmup(value)?,
            _ => {}
        }
    }
    Ok(())
}

/// Applies properties that are not kept as such: they change the collection itself. Returns the others.
fn apply_settings(
    record: &mut CollectionRecord,
    properties: Vec<common::KeyValuePair>,
) -> Result<Vec<common::KeyValuePair>> {
    let mut kept = Vec::new();
    for pair in properties {
        match pair.key.as_str() {
            "collection.description" => record.schema.description = pair.value,
            "consistency_level" => record.consistency_level = consistency_level(&pair.value)?,
            "dynamicfield.enabled" => {
                ddl_fields::check_bool(&pair.key, &pair.value)?;
                match (pair.value.eq_ignore_ascii_case("true"), record.schema.enable_dynamic_field) {
                    (true, false) => ddl_fields::enable_dynamic_field(record),
                    (false, true) => return Err(Error::unimplemented("turning the dynamic field of a collection off")),
                    _ => {}
                }
            }
            _ => kept.push(pair),
        }
    }
    Ok(kept)
}

/// A consistency level by name or number.
fn consistency_level(text: &str) -> Result<i32> {
    const LEVELS: [&str; 5] = ["Strong", "Session", "Bounded", "Eventually", "Customized"];
    let named = LEVELS.iter().position(|name| name.eq_ignore_ascii_case(text.trim()));
    let level = named.or_else(|| text.trim().parse().ok()).filter(|level| *level < LEVELS.len());
    let level = level.and_then(|level| i32::try_from(level).ok());
    level.ok_or_else(|| Error::invalid(format_args!("invalid consistency level: {text}")))
}
