//! Writing a table file: gather, then one Arrow record batch through a writer that checksums what passes.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_ipc::MetadataVersion;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_schema::{ArrowError, DataType as ArrowType, Field, Schema};

use super::arrow_types::arrow_field;
use super::gather::{Gather, gather_timestamps, invalid, numbers_array};
use super::stats::FileStats;
use super::{FORMAT_KEY, FORMAT_VERSION, PRIMARY_KEY, STATS_KEY, TIMESTAMP_COLUMN};
use crate::format::{RowRef, RowSource};
use crate::types::CollectionSchema;

/// Sections begin at multiples of this: a cache line, and the widest vector register.
const ALIGNMENT_BYTES: usize = 64;
/// Small writes are collected up to this.
const BUFFER_BYTES: usize = 256 << 10;
/// A piece is checksummed, then written: it is still in the cache then.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Rows.
    pub row_count: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the whole file.
    pub checksum: u64,
    /// Smallest and largest insert timestamp; (0, 0) without rows.
    pub timestamps: (u64, u64),
}

/// Writes a table file of the given rows of the given sources, in the given order (see [`super::sort_rows`]). All columns
/// are in memory once while it runs.
///
/// # Errors
/// Those of `out`; `InvalidData` when a source is damaged, of another schema, or the order is not ascending by key.
pub fn write_table(
    out: &mut dyn Write,
    schema: &CollectionSchema,
    sources: &[&dyn RowSource],
    order: &[RowRef],
) -> io::Result<TableSummary> {
    let timestamps = gather_timestamps(sources, order);
    let range = (timestamps.iter().copied().min().unwrap_or(0), timestamps.iter().copied().max().unwrap_or(0));
    let mut arrow_fields = vec![Field::new(TIMESTAMP_COLUMN, ArrowType::UInt64, false)];
    let mut arrays = vec![numbers_array(timestamps)];
    let mut stats = FileStats::new();
    for field in &schema.fields {
        let (array, column_stats) = Gather::new(field, sources, order).array()?;
        if field.is_primary && !is_ascending(&array) {
            return Err(invalid("rows are not in the order of their keys".to_owned()));
        }
        arrow_fields.push(arrow_field(field));
        arrays.push(array);
        stats.insert(field.id.to_string(), column_stats);
    }
    let metadata: std::collections::HashMap<String, String> = [
        (FORMAT_KEY.to_owned(), FORMAT_VERSION.to_owned()),
        (PRIMARY_KEY.to_owned(), schema.primary().id.to_string()),
        (STATS_KEY.to_owned(), serde_json::to_string(&stats)?),
    ]
    .into();
    let arrow_schema = Arc::new(Schema::new_with_metadata(arrow_fields, metadata));
    let batch = RecordBatch::try_new(Arc::clone(&arrow_schema), arrays).map_err(arrow_error)?;
    let (file_bytes, checksum) = write_file(out, &batch).map_err(arrow_error)?;
    Ok(TableSummary { row_count: order.len() as u64, file_bytes, checksum, timestamps: range })
}

/// Returns length and checksum.
fn write_file(out: &mut dyn Write, batch: &RecordBatch) -> Result<(u64, u64), ArrowError> {
    let options = IpcWriteOptions::try_new(ALIGNMENT_BYTES, false, MetadataVersion::V5)?;
    let hashing = HashingWriter::new(out);
    let buffered = io::BufWriter::with_capacity(BUFFER_BYTES, hashing);
    let mut writer = FileWriter::try_new_with_options(buffered, &batch.schema(), options)?;
    writer.write(batch)?;
    let buffered = writer.into_inner()?;
    let hashing = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok((hashing.bytes, hashing.digest.finalize()))
}

fn arrow_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => invalid(other.to_string()),
    }
}

/// Readers search keys by halves: a file out of order would lose rows silently.
fn is_ascending(keys: &ArrayRef) -> bool {
    match keys.data_type() {
        ArrowType::Int64 => keys.as_primitive::<Int64Type>().values().is_sorted(),
        ArrowType::Utf8 => {
            let keys = keys.as_string::<i32>();
            (1..keys.len()).all(|row| keys.value(row - 1) <= keys.value(row))
        }
        _ => false,
    }
}

/// Checksums and counts what passes.
struct HashingWriter<'a> {
    out: &'a mut dyn Write,
    digest: crc_fast::Digest,
    bytes: u64,
}

impl<'a> HashingWriter<'a> {
    fn new(out: &'a mut dyn Write) -> HashingWriter<'a> {
        HashingWriter { out, digest: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme), bytes: 0 }
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(&bytes[..bytes.len().min(PIECE_BYTES_MAX)])?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
