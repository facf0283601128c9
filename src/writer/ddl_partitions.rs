//! Create and drop partitions.

use super::ddl::{change_meta, update};
use super::engine::Engine;
use super::lock;
use super::operation::database_of;
use super::state::{Collection, DEFAULT_PARTITION, Garbage};
use crate::config::limits::{PARTITION_KEY_PARTITIONS, PARTITIONS_MAX};
use crate::proto::milvus;
use crate::proto::schemas::{NameOf, check_name};
use crate::storage::meta::MetaEdit;
use crate::types::{
    CollectionSchema, DurableFile, Error, ErrorKind, FileId, Lsn, PartitionId, PartitionRecord, Result, Timestamp,
};

/// How many partitions a new collection has.
///
/// # Errors
/// With Milvus' texts.
pub fn count(name: &str, schema: &CollectionSchema, requested: i64) -> Result<usize> {
    let refused = |message: &str| Err(Error::new(ErrorKind::Unexpected, message));
    if schema.partition_key().is_none() {
        return match requested {
            0 => Ok(1),
            _ => refused("num_partitions should only be specified with partition key field enabled"),
        };
    }
    match usize::try_from(requested) {
        Err(_) => refused("the specified partitions should be greater than 0 if partition key is used"),
        Ok(0) => Ok(PARTITION_KEY_PARTITIONS),
        Ok(count) if count > PARTITIONS_MAX => Err(Error::invalid(format_args!(
            "partition number ({count}) exceeds max configuration ({PARTITIONS_MAX}), collection: {name}"
        ))),
        Ok(count) => Ok(count),
    }
}

/// The partitions of a new collection, without ids yet. Rows go by their partition key to the partition of that place.
pub fn unnumbered(schema: &CollectionSchema, count: usize) -> Vec<PartitionRecord> {
    let name = |place: usize| match schema.partition_key() {
        Some(_) => format!("{DEFAULT_PARTITION}_{place}"),
        None => DEFAULT_PARTITION.to_owned(),
    };
    let partition = |place| PartitionRecord {
        id: PartitionId(0),
        name: name(place),
        created: Timestamp(0),
        flushed_lsn: Lsn(0),
        is_loaded: false,
    };
    (0..count).map(partition).collect()
}

/// Refuses what users may not do with the partitions of a collection with a partition key.
///
/// # Errors
/// With Milvus' text.
pub fn check_not_by_key(schema: &CollectionSchema, attempt: &str) -> Result<()> {
    if schema.partition_key().is_none() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unexpected, format!("disable {attempt} if partition key mode is used")))
}

/// Creates a partition; one that exists is fine.
///
/// # Errors
/// When the name is none, or there are too many.
pub fn create(engine: &Engine, database: &str, request: &milvus::CreatePartitionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let name = &request.partition_name;
    check_name(NameOf::Partition, name)?;
    update(engine, database, &request.collection_name, |_, record| {
        check_not_by_key(&record.schema, "create partition")?;
        if record.partitions.iter().any(|partition| partition.name == *name) {
            return Ok(());
        }
        if record.partitions.len() >= PARTITIONS_MAX {
            let collection = &record.name;
            return Err(Error::invalid(format_args!(
                "partition number ({PARTITIONS_MAX}) exceeds max configuration ({PARTITIONS_MAX}), collection: {collection}"
            )));
        }
        record.partitions.push(PartitionRecord {
            id: PartitionId(engine.ids.take(1)?),
            name: name.clone(),
            created: engine.clock.next(),
            flushed_lsn: Lsn(0),
            // A partition of a wholly loaded collection is loaded from its first row on.
            is_loaded: record.is_loaded && record.partitions.iter().all(|partition| partition.is_loaded),
        });
        Ok(())
    })?;
    Ok(())
}

/// Drops a partition and its rows; one that does not exist is fine.
///
/// # Errors
/// When it is the default partition, or loaded.
pub fn drop(engine: &Engine, database: &str, request: &milvus::DropPartitionRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let name = &request.partition_name;
    check_name(NameOf::Partition, name)?;
    if name == DEFAULT_PARTITION {
        return Err(Error::invalid("default partition cannot be deleted"));
    }
    let mut meta = lock(&engine.meta);
    let (id, partition, record, mut edits) = {
        let mut state = lock(&engine.state);
        let id = state.resolve(database, &request.collection_name)?;
        let collection = state.collection(id)?;
        check_not_by_key(&collection.schema, "drop partition")?;
        let Ok(partition) = collection.partition(name) else { return Ok(()) };
        if collection.is_published(partition.id) {
            return Err(Error::invalid("partition cannot be dropped, partition is loaded, please release it first"));
        }
        let partition = partition.id;
        let mut record = collection.record.clone();
        record.partitions.retain(|known| known.id != partition);
        let sealed = collection.sealed.iter().map(|file| &file.record);
        let files = sealed.chain(&collection.unreadable).filter(|file| file.partition == partition);
        (id, partition, record, files.map(|file| MetaEdit::DropFile(file.id)).collect::<Vec<_>>())
    };
    edits.push(MetaEdit::PutCollection(record.clone()));
    change_meta(&mut meta, &edits)?;
    let mut state = lock(&engine.state);
    let collection = state.collection(id)?;
    collection.record = record;
    let lost = empty(collection, partition);
    // Keys that a delete found before are gone with their rows.
    collection.marked_last = engine.clock.next();
    let published = engine.publish(collection);
    std::mem::drop(state);
    engine.flushes.complete(&lost);
    published
}

fn empty(collection: &mut Collection, partition: PartitionId) -> Vec<FileId> {
    let mut lost = Vec::new();
    if let Some(table) = collection.memtables.remove(&partition) {
        for file in table.immutable.into_iter().chain(table.mutable) {
            lost.push(file.id);
            collection.discard(file);
        }
    }
    let sealed: Vec<_> = collection.sealed.extract_if(.., |file| file.record.partition == partition).collect();
    sealed.into_iter().for_each(|file| collection.discard_sealed(file));
    let unreadable: Vec<_> = collection.unreadable.extract_if(.., |file| file.partition == partition).collect();
    collection.garbage.extend(unreadable.into_iter().map(|file| Garbage::Durable(DurableFile::Table(file.id))));
    lost
}
