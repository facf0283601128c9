//! Deletes: finding the rows of keys without a scan, marking them, and making marks durable as checkpoints.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::engine::Engine;
use super::lock;
use super::state::{Collection, LiveDeletes};
use crate::format::RowSource;
use crate::format::deletes::{DeletedAt, encode_checkpoint};
use crate::storage::meta::MetaEdit;
use crate::sys::failpoint::{self, Steps};
use crate::types::{CollectionId, DurableFile, FileId, Keys, Lsn, PartitionId, Result, Timestamp};

/// Rows that a delete will mark, as found under the state lock that is still held.
#[derive(Debug, Default)]
pub struct FoundRows {
    /// (index into `sealed`, rows).
    sealed: Vec<(usize, Vec<u32>)>,
    growing: Vec<FoundGrowing>,
}

/// Rows of one MemTableFile.
#[derive(Debug)]
struct FoundGrowing {
    partition: PartitionId,
    file: FileId,
    /// (chunk, row).
    rows: Vec<(usize, usize)>,
}

impl FoundRows {
    /// Rows found.
    pub fn len(&self) -> usize {
        let sealed: usize = self.sealed.iter().map(|(_, rows)| rows.len()).sum();
        sealed + self.growing.iter().map(|found| found.rows.len()).sum::<usize>()
    }
}

/// Finds the living rows of the keys that are older than `timestamp`, and makes the `deleted_at` files that marking them
/// takes. Afterwards [`mark`] cannot fail; the manifest that names new files is not yet published (`is_dirty`).
///
/// # Errors
/// When there is no room for a `deleted_at` file.
pub fn find(
    engine: &Engine,
    collection: &mut Collection,
    partition: Option<PartitionId>,
    keys: &Keys,
    timestamp: Timestamp,
) -> Result<FoundRows> {
    let mut found = FoundRows::default();
    if keys.is_empty() {
        return Ok(found);
    }
    let is_meant = |id: PartitionId| partition.is_none_or(|partition| partition == id);
    for index in 0..collection.sealed.len() {
        let file = &collection.sealed[index];
        if !is_meant(file.record.partition) || file.record.timestamps.0 >= timestamp.0 {
            continue;
        }
        let rows = find_sealed(file, keys, timestamp);
        if !rows.is_empty() {
            ensure_live_deletes(engine, collection, index)?;
            found.sealed.push((index, rows));
        }
    }
    for (id, table) in collection.memtables.iter().filter(|(id, _)| is_meant(**id)) {
        for file in table.files() {
            let rows = file.find_living(keys, timestamp);
            if !rows.is_empty() {
                found.growing.push(FoundGrowing { partition: *id, file: file.id, rows });
            }
        }
    }
    Ok(found)
}

fn find_sealed(file: &super::state::SealedTable, keys: &Keys, timestamp: Timestamp) -> Vec<u32> {
    let inserted = file.table.insert_timestamps();
    let cells = file.deletes.as_ref().map(|deletes| deletes.cells.cells());
    let mut found = Vec::new();
    file.table.find_keys(keys, &mut |_, rows| {
        let living = rows.filter(|&row| {
            let is_marked = cells.is_some_and(|cells| cells[row].load(Ordering::Relaxed) != 0);
            inserted[row] < timestamp.0 && !is_marked
        });
        found.extend(living.map(|row| row as u32));
    });
    found
}

/// Makes the live `deleted_at` file of a table file unless it has one.
///
/// # Errors
/// When there is no room.
pub fn ensure_live_deletes(engine: &Engine, collection: &mut Collection, index: usize) -> Result<()> {
    let id = collection.record.id;
    let file = &mut collection.sealed[index];
    if file.deletes.is_none() {
        file.deletes = Some(create_live_deletes(engine, id, file.record.id, file.table.row_count())?);
        collection.is_dirty = true;
    }
    Ok(())
}

/// Makes an empty live `deleted_at` file.
///
/// # Errors
/// When there is no room.
pub fn create_live_deletes(
    engine: &Engine,
    collection: CollectionId,
    file: FileId,
    row_count: usize,
) -> Result<LiveDeletes> {
    let name = format!("{file}-{}-0.del", engine.incarnation);
    let (map, place) = engine.publisher.create_live(collection, &name, DeletedAt::file_bytes(row_count))?;
    Ok(LiveDeletes { name, place, cells: DeletedAt::create(map, row_count) })
}

/// Marks found rows; the state lock has been held since they were found.
pub fn mark(collection: &mut Collection, found: &FoundRows, lsn: Lsn, timestamp: Timestamp) {
    if found.len() > 0 {
        collection.marked_last = timestamp;
    }
    for (index, rows) in &found.sealed {
        let file = &mut collection.sealed[*index];
        if let Some(deletes) = &file.deletes {
            for &row in rows {
                deletes.cells.mark(row as usize, timestamp.0);
            }
            file.dirty_lsn.get_or_insert(lsn);
            file.marked_last = timestamp;
        }
    }
    for found in &found.growing {
        let table = collection.memtables.get_mut(&found.partition);
        if let Some(file) = table.and_then(|table| table.files_mut().find(|file| file.id == found.file)) {
            file.mark(&found.rows, lsn, timestamp);
        }
    }
}

/// The (row, timestamp) marks up to a timestamp.
pub fn marks_until(cells: &DeletedAt, until: Timestamp) -> Vec<(u32, u64)> {
    let marked = cells.cells().iter().enumerate().map(|(row, cell)| (row as u32, cell.load(Ordering::Relaxed)));
    marked.filter(|&(_, at)| at != 0 && at <= until.0).collect()
}

/// Writes a delete checkpoint durably.
///
/// # Errors
/// Those of the disk.
pub fn write_checkpoint(
    engine: &Engine,
    collection: CollectionId,
    file: FileId,
    steps: Steps,
    marks: &[(u32, u64)],
) -> Result<()> {
    let bytes = encode_checkpoint(marks);
    let path = engine.store.deletes_path(collection, file);
    engine.store.write_durably(&path, steps, &mut |out| out.write_all(&bytes))
}

/// Writes the checkpoint of every table file with deletes that are not in one yet.
///
/// # Errors
/// Those of the disk and of meta.
pub fn checkpoint(engine: &Engine) -> Result<()> {
    // A mark beyond the visible timestamp belongs to an operation whose log group may yet fail: were it made durable here,
    // half of that operation would survive the crash. So checkpoints stop at the visible timestamp.
    let covered = engine.publisher.control().visible();
    engine.sync_log()?;
    let dirty: Vec<(CollectionId, FileId, DeletedAt)> = {
        let state = lock(&engine.state);
        let files = state.collections.values().flat_map(|collection| &collection.sealed);
        files
            .filter(|file| file.dirty_lsn.is_some())
            .filter_map(|file| Some((file.record.collection, file.record.id, file.deletes.as_ref()?.cells.clone())))
            .collect()
    };
    for (collection, file, cells) in dirty {
        let marks = marks_until(&cells, covered);
        write_checkpoint(engine, collection, file, Steps("checkpoint.deletes"), &marks)?;
        note_checkpoint(engine, collection, file, marks.len() as u64, covered)?;
    }
    Ok(())
}

/// Records a checkpoint in meta and clears the file's dirty mark when nothing came meanwhile.
fn note_checkpoint(
    engine: &Engine,
    collection: CollectionId,
    file: FileId,
    deleted_count: u64,
    covered: Timestamp,
) -> Result<()> {
    let mut meta = lock(&engine.meta);
    let record = {
        let state = lock(&engine.state);
        let sealed = state
            .collections
            .get(&collection)
            .and_then(|collection| collection.sealed.iter().find(|sealed| sealed.record.id == file));
        sealed.map(|sealed| sealed.record.clone())
    };
    let Some(mut record) = record else {
        // Merged away or dropped meanwhile: the checkpoint must not come back as an orphan of a removed file.
        drop(meta);
        return engine.store.remove(collection, DurableFile::Table(file));
    };
    if record.deleted_count != deleted_count {
        record.deleted_count = deleted_count;
        meta.apply(&[MetaEdit::PutFile(record.clone())])?;
        failpoint::reach("checkpoint.meta_changed");
    }
    let mut state = lock(&engine.state);
    let sealed = state
        .collections
        .get_mut(&collection)
        .and_then(|collection| collection.sealed.iter_mut().find(|sealed| sealed.record.id == file));
    if let Some(sealed) = sealed {
        sealed.record = record;
        if sealed.marked_last <= covered {
            sealed.dirty_lsn = None;
        }
    }
    Ok(())
}
