//! Finds or makes room for rows: which chunks they go to, which new chunks that takes, within the insert buffer's cap.
//!
//! Everything that can fail happens here, before the operation has a timestamp or a log record.

use super::engine::Engine;
use super::mem_table::{Chunk, MemTable, MemTableFile, Part};
use super::state::Collection;
use crate::format::growing::{ChunkCapacity, GrowingWriter};
use crate::types::{Batch, CollectionSchema, ColumnData, Error, FileId, PartitionId};

/// The first chunk of a MemTableFile: a thousand idle collections cost little.
const CHUNK_BYTES_MIN: usize = 64 << 10;
/// The largest chunk: a busy collection gets long runs to scan.
const CHUNK_BYTES_MAX: usize = 32 << 20;

/// Why rows were not taken.
#[derive(Debug)]
pub enum Refusal {
    /// The insert buffer is full: worth waiting for. So many bytes are needed.
    NeedRoom(u64),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

/// Makes room for a batch in the partition's mutable file. Afterwards the rows can be appended without failing; the
/// new chunks are empty and the manifest that names them is not yet published (`is_dirty`).
///
/// # Errors
/// When there is no room.
pub fn prepare_rows(
    engine: &Engine,
    collection: &mut Collection,
    partition: PartitionId,
    batch: &Batch,
) -> Result<Vec<Part>, Refusal> {
    let schema = collection.schema.clone();
    let id = collection.record.id;
    let table: &mut MemTable = collection.memtables.entry(partition).or_default();
    if table.mutable.is_none() {
        table.mutable = Some(MemTableFile::new(FileId(engine.ids.take(1)?), partition));
    }
    let Some(file) = table.mutable.as_mut() else { return Ok(Vec::new()) };
    let (mut parts, placed) = fill_existing(file, batch);
    let plan = plan_chunks(engine.buffer.cap(), &schema, batch, placed, file.chunks.len())?;
    if plan.is_empty() {
        return Ok(parts);
    }
    let bytes: u64 = plan.iter().map(|chunk| chunk.bytes).sum();
    if !engine.buffer.reserve(bytes) {
        return Err(Refusal::NeedRoom(bytes));
    }
    let first = file.chunks.len();
    match create_chunks(engine, id, file, &schema, &plan) {
        Ok(chunks) => {
            parts.extend(plan.into_iter().enumerate().map(|(i, chunk)| Part { chunk: first + i, rows: chunk.rows }));
            file.bytes += bytes;
            file.chunks.extend(chunks);
            collection.is_dirty = true;
            Ok(parts)
        }
        Err(error) => {
            engine.buffer.release(bytes);
            Err(Refusal::Failed(error))
        }
    }
}

/// Rows that still fit into the chunks that are there, from the one being filled on.
fn fill_existing(file: &MemTableFile, batch: &Batch) -> (Vec<Part>, usize) {
    let mut parts = Vec::new();
    let mut placed = 0;
    for (index, chunk) in file.chunks.iter().enumerate().skip(file.filling()) {
        if placed == batch.row_count {
            break;
        }
        let fitting = chunk.writer.rows_that_fit(batch, placed).min(batch.row_count - placed);
        if fitting > 0 {
            parts.push(Part { chunk: index, rows: placed..placed + fitting });
            placed += fitting;
        }
    }
    (parts, placed)
}

/// A chunk to be made.
#[derive(Debug)]
struct PlannedChunk {
    capacity: ChunkCapacity,
    rows: std::ops::Range<usize>,
    bytes: u64,
}

fn plan_chunks(
    cap: u64,
    schema: &CollectionSchema,
    batch: &Batch,
    placed: usize,
    chunk_count: usize,
) -> Result<Vec<PlannedChunk>, Error> {
    // Growth never takes more than a slice of the buffer: with a small cap many partitions must still fit.
    let slice = usize::try_from(cap / 8).unwrap_or(usize::MAX);
    let plan = plan_growing(schema, batch, placed, chunk_count, slice);
    if plan.iter().map(|chunk| chunk.bytes).sum::<u64>() <= cap {
        return Ok(plan);
    }
    let needed: u64 = plan.iter().map(|chunk| chunk.bytes).sum();
    Err(Error::invalid(format_args!(
        "the request needs {needed} bytes of the insert buffer, which has {cap} (insert_buffer_size); send fewer rows at \
         once or start the server with a larger buffer"
    )))
}

fn plan_growing(
    schema: &CollectionSchema,
    batch: &Batch,
    placed: usize,
    chunk_count: usize,
    slice: usize,
) -> Vec<PlannedChunk> {
    let row_bytes = (batch_bytes(batch) / batch.row_count.max(1)).max(1);
    let rows_max = (CHUNK_BYTES_MAX.min(slice) / row_bytes).max(1);
    let mut plan: Vec<PlannedChunk> = Vec::new();
    let mut from = placed;
    while from < batch.row_count {
        let doublings = (chunk_count + plan.len()).min(9) as u32;
        let target = (CHUNK_BYTES_MIN << doublings).min(CHUNK_BYTES_MAX).min(slice);
        let rows = rows_max.min(batch.row_count - from);
        let capacity = ChunkCapacity::for_batch(schema, batch, from, rows, target);
        let bytes = capacity.file_bytes(schema) as u64;
        plan.push(PlannedChunk { capacity, rows: from..from + rows, bytes });
        from += rows;
    }
    plan
}

fn create_chunks(
    engine: &Engine,
    collection: crate::types::CollectionId,
    file: &MemTableFile,
    schema: &CollectionSchema,
    plan: &[PlannedChunk],
) -> Result<Vec<Chunk>, Error> {
    let mut chunks: Vec<Chunk> = Vec::with_capacity(plan.len());
    for (index, planned) in plan.iter().enumerate() {
        let name = format!("{}-{}-{}.grow", file.id, file.chunks.len() + index, engine.incarnation);
        match engine.publisher.create_live(collection, &name, planned.capacity.file_bytes(schema)) {
            Ok((map, place)) => {
                let writer = GrowingWriter::create(map, schema, &planned.capacity);
                chunks.push(Chunk { writer, name, place, bytes: planned.bytes, row_start: usize::MAX });
            }
            Err(error) => {
                // No manifest names them yet.
                for chunk in chunks {
                    engine.publisher.remove_live(collection, &chunk.name, chunk.place);
                }
                return Err(error);
            }
        }
    }
    Ok(chunks)
}

/// Bytes of a batch's values.
pub fn batch_bytes(batch: &Batch) -> usize {
    let columns = batch.columns.iter().map(|column| match &column.data {
        ColumnData::Bool(values) => values.len(),
        ColumnData::Int8(values) => values.len(),
        ColumnData::Int16(values) => values.len() * 2,
        ColumnData::Int32(values) => values.len() * 4,
        ColumnData::Int64(values) => values.len() * 8,
        ColumnData::Float(values) => values.len() * 4,
        ColumnData::Double(values) => values.len() * 8,
        ColumnData::Text(values) => values.bytes.len() + values.offsets.len() * 4,
        ColumnData::FloatVector(values) => values.len() * 4,
        ColumnData::BytesVector(values) => values.len(),
    });
    // Timestamp and deleted_at words of each row.
    columns.sum::<usize>() + batch.row_count * 16
}
