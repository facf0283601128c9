//! Writing one table file from rows of others: the part that serialising and merging share.

use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::deletes::{create_live_deletes, write_checkpoint};
use super::engine::Engine;
use super::state::{LiveDeletes, SealedTable};
use crate::format::table::{TableFile, TableSummary, write_table};
use crate::format::{RowRef, RowSource};
use crate::shm::manifest::Place;
use crate::sys::failpoint::Steps;
use crate::sys::map::SharedMap;
use crate::types::{
    CollectionId, CollectionSchema, DurableFile, Error, ErrorKind, FileId, FileRecord, FileState, Lsn, PartitionId,
    Result, Timestamp,
};

/// Bytes between writes to the disk.
const WRITE_BYTES: usize = 1 << 20;

/// The fail points of the files of an output.
#[derive(Clone, Copy, Debug)]
pub struct OutputSteps {
    /// Of the table file.
    pub table: Steps,
    /// Of its delete checkpoint.
    pub deletes: Steps,
}

/// Where an output file goes and what it is made from.
#[derive(Clone, Copy)]
pub struct OutputPlan<'a> {
    /// Its collection.
    pub collection: CollectionId,
    /// Its partition.
    pub partition: PartitionId,
    /// Its id.
    pub file: FileId,
    /// Fields.
    pub schema: &'a CollectionSchema,
    /// Input files.
    pub sources: &'a [&'a dyn RowSource],
    /// Their `deleted_at` cells; `None` = no row of it is deleted.
    pub cells: &'a [Option<&'a [AtomicU64]>],
    /// The rows to write, in the order of the output.
    pub order: &'a [RowRef],
    /// Copy it into shared memory.
    pub is_published: bool,
    /// Names the fail points.
    pub steps: OutputSteps,
    /// A stop of the writer ends the work: its inputs stay as they are.
    pub may_be_cancelled: bool,
}

/// Fails once the writer stops.
struct Cancellable<'a, W> {
    out: W,
    engine: &'a Engine,
    may_be_cancelled: bool,
}

impl<W: Write> Write for Cancellable<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.may_be_cancelled && self.engine.is_stopping() {
            return Err(std::io::Error::other("the writer is stopping"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A table file that is durable and mapped, but named nowhere yet.
pub struct Output {
    /// As meta will have it.
    pub record: FileRecord,
    /// The writer's map.
    pub table: TableFile,
    /// Where readers will map it from.
    pub place: Place,
    /// Deletes so far.
    pub deletes: Option<LiveDeletes>,
}

impl OutputPlan<'_> {
    /// Writes, syncs and maps the file, with a checkpoint of the deletes up to `covered`.
    ///
    /// # Errors
    /// Those of the disk; what was made is removed.
    pub fn write(&self, engine: &Engine, covered: Timestamp) -> Result<Output> {
        self.try_write(engine, covered).inspect_err(|_| self.discard(engine))
    }

    /// Removes what was written: it is named nowhere.
    pub fn discard(&self, engine: &Engine) {
        let name = format!("{}-{}-0.del", self.file, engine.incarnation);
        for place in [Place::Shm, Place::Disk] {
            engine.publisher.remove_live(self.collection, &name, place);
        }
        engine.publisher.remove_copy(self.collection, DurableFile::Table(self.file));
        if let Err(error) = engine.store.remove(self.collection, DurableFile::Table(self.file)) {
            tracing::warn!("half-made table file {} stays until the next start: {error}", self.file);
        }
    }

    fn try_write(&self, engine: &Engine, covered: Timestamp) -> Result<Output> {
        let path = engine.store.table_path(self.collection, self.file);
        let mut summary: Option<TableSummary> = None;
        engine.store.write_durably(&path, self.steps.table, &mut |file| {
            let out = Cancellable { out: file, engine, may_be_cancelled: self.may_be_cancelled };
            let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
            summary = Some(write_table(&mut out, self.schema, self.sources, self.order)?);
            out.flush()
        })?;
        let summary = summary.ok_or_else(|| Error::internal("a table file was not written"))?;
        let marks = self.marks();
        let durable: Vec<(u32, u64)> = marks.iter().copied().filter(|(_, at)| *at <= covered.0).collect();
        if !durable.is_empty() {
            write_checkpoint(engine, self.collection, self.file, self.steps.deletes, &durable)?;
        }
        let deletes = match marks.is_empty() {
            true => None,
            false => Some(self.live_deletes(engine, &marks)?),
        };
        let table = open_table(engine, self.collection, self.file)?;
        let place = match self.is_published {
            true => {
                engine.publisher.place(self.collection, DurableFile::Table(self.file), &path, summary.checksum, true)?
            }
            false => Place::Disk,
        };
        let record = FileRecord {
            id: self.file,
            collection: self.collection,
            partition: self.partition,
            // `indexing.rs` says when it is to be indexed.
            state: FileState::Raw,
            row_count: summary.row_count,
            file_bytes: summary.file_bytes,
            checksum: summary.checksum,
            timestamps: summary.timestamps,
            deleted_count: durable.len() as u64,
        };
        Ok(Output { record, table, place, deletes })
    }

    /// Every delete so far, by row of the output.
    fn marks(&self) -> Vec<(u32, u64)> {
        let deleted_at = |from: &RowRef| match self.cells.get(from.source as usize) {
            Some(Some(cells)) => cells[from.row as usize].load(Ordering::Relaxed),
            _ => 0,
        };
        let rows = self.order.iter().enumerate().map(|(row, from)| (row as u32, deleted_at(from)));
        rows.filter(|(_, at)| *at != 0).collect()
    }

    fn live_deletes(&self, engine: &Engine, marks: &[(u32, u64)]) -> Result<LiveDeletes> {
        let deletes = create_live_deletes(engine, self.collection, self.file, self.order.len())?;
        marks.iter().for_each(|(row, at)| {
            deletes.cells.mark(*row as usize, *at);
        });
        Ok(deletes)
    }

    /// Carries over deletes that came since [`OutputPlan::write`]. Under the state lock, so none can come in between.
    ///
    /// # Errors
    /// When there is no room for a `deleted_at` file.
    pub fn carry_over(&self, engine: &Engine, output: &mut Output) -> Result<()> {
        let marks = self.marks();
        match &output.deletes {
            Some(deletes) => marks.iter().for_each(|(row, at)| {
                deletes.cells.mark(*row as usize, *at);
            }),
            None if marks.is_empty() => {}
            None => output.deletes = Some(self.live_deletes(engine, &marks)?),
        }
        Ok(())
    }
}

impl Output {
    /// The finished table, to be put into the state. `dirty_lsn` is the first delete that its checkpoint may lack.
    pub fn into_sealed(self, dirty_lsn: Option<Lsn>, marked_last: Timestamp) -> SealedTable {
        SealedTable {
            place: self.place,
            deletes: self.deletes,
            dirty_lsn,
            marked_last,
            since: Some(Instant::now()),
            ..SealedTable::new(self.record, self.table)
        }
    }
}

/// Maps a durable table file for the writer.
///
/// # Errors
/// Of kind `Corrupt` when it is no table file.
pub fn open_table(engine: &Engine, collection: CollectionId, file: FileId) -> Result<TableFile> {
    let path = engine.store.table_path(collection, file);
    let attempt = || format!("open table file {}", path.display());
    let opened = std::fs::File::open(&path).map_err(|error| Error::io(attempt(), &error))?;
    let map = SharedMap::read(&opened).map_err(|error| Error::io(attempt(), &error))?;
    TableFile::open(map.into())
        .map_err(|error| Error::new(ErrorKind::Corrupt, format!("cannot {}: {error}", attempt())))
}
