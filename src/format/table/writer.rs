//! Writing a table file: plan every column, then header, columns and footer through a writer that checksums what passes.
//!
//! Arrow's own file writer takes whole columns in memory; a merge of 1 GiB would take that much heap.

use std::io::{self, Write};

use arrow_ipc::convert::{IpcSchemaEncoder, metadata_to_fb};
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, write_message};
use arrow_ipc::{Block, FooterBuilder, MessageBuilder, MessageHeader, MetadataVersion, RecordBatchBuilder};
use arrow_schema::{ArrowError, DataType as ArrowType, Field, Metadata, Schema};
use flatbuffers::FlatBufferBuilder;

use super::arrow_types::arrow_field;
use super::body::{ALIGNMENT_BYTES, BodyPlan, BodyWriter};
use super::column_writer::{ColumnWriter, write_timestamps};
use super::stats::FileStats;
use super::{FORMAT_KEY, FORMAT_VERSION, PRIMARY_KEY, STATS_KEY, TIMESTAMP_COLUMN};
use crate::format::{RowRef, RowSource};
use crate::types::CollectionSchema;

/// Small writes are collected up to this.
const BUFFER_BYTES: usize = 256 << 10;
/// A piece is checksummed, then written: it is still in the cache then.
const PIECE_BYTES_MAX: usize = 256 << 10;
const MAGIC: &[u8; 6] = b"ARROW1";
/// Before every message, and alone (with length 0) behind the last.
const CONTINUATION: [u8; 4] = [0xff; 4];

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

/// Writes a table file of the given rows of the given sources, in the given order (see [`super::sort_rows`]). Heap use does
/// not depend on the size of the rows: a few bits per row and nullable column.
///
/// # Errors
/// Those of `out`; `InvalidData` when a source is damaged, of another schema, or the order is not ascending by key.
pub fn write_table(
    out: &mut dyn Write,
    schema: &CollectionSchema,
    sources: &[&dyn RowSource],
    order: &[RowRef],
) -> io::Result<TableSummary> {
    let mut plan = BodyPlan::default();
    plan.column(order.len(), None);
    plan.buffer(order.len() * 8);
    let columns = schema
        .fields
        .iter()
        .map(|field| ColumnWriter::plan(field, sources, order, &mut plan))
        .collect::<io::Result<Vec<_>>>()?;
    let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, HashingWriter::new(out));
    let arrow_schema = arrow_schema(schema);
    let block = write_head(&mut out, &arrow_schema, &plan, order.len())?;
    let mut body = BodyWriter::new(&mut out, &plan);
    body.end_buffer()?;
    let timestamps = write_timestamps(sources, order, &mut body)?;
    let mut stats = FileStats::new();
    for (field, column) in schema.fields.iter().zip(&columns) {
        stats.insert(field.id.to_string(), column.write(&mut body)?);
    }
    write_footer(&mut out, &arrow_schema, block, &serde_json::to_string(&stats)?)?;
    let written = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    written.out.flush()?;
    Ok(TableSummary {
        row_count: order.len() as u64,
        file_bytes: written.bytes,
        checksum: written.digest.finalize(),
        timestamps,
    })
}

fn arrow_schema(schema: &CollectionSchema) -> Schema {
    let mut fields = vec![Field::new(TIMESTAMP_COLUMN, ArrowType::UInt64, false)];
    fields.extend(schema.fields.iter().map(arrow_field));
    let mut metadata = Metadata::new();
    metadata.insert(FORMAT_KEY, FORMAT_VERSION);
    metadata.insert(PRIMARY_KEY, schema.primary().id.to_string());
    Schema::new_with_metadata(fields, metadata)
}

/// Magic, schema message and record batch header; returns where the record batch is.
fn write_head(out: &mut impl Write, schema: &Schema, plan: &BodyPlan, rows: usize) -> io::Result<Block> {
    let mut magic = [0; ALIGNMENT_BYTES];
    magic[..MAGIC.len()].copy_from_slice(MAGIC);
    out.write_all(&magic)?;
    let options = IpcWriteOptions::try_new(ALIGNMENT_BYTES, false, MetadataVersion::V5).map_err(arrow_error)?;
    let mut no_dictionaries = DictionaryTracker::new(true);
    let message =
        IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut no_dictionaries, &options);
    let (schema_bytes, _) = write_message(&mut *out, message, &options).map_err(arrow_error)?;
    let header = batch_header(plan, rows);
    let prefix_bytes = CONTINUATION.len() + 4;
    let header_bytes = (prefix_bytes + header.len()).next_multiple_of(ALIGNMENT_BYTES);
    out.write_all(&CONTINUATION)?;
    out.write_all(&((header_bytes - prefix_bytes) as i32).to_le_bytes())?;
    out.write_all(&header)?;
    out.write_all(&[0; ALIGNMENT_BYTES][..header_bytes - prefix_bytes - header.len()])?;
    Ok(Block::new((magic.len() + schema_bytes) as i64, header_bytes as i32, plan.bytes as i64))
}

/// Arrow's message that says where in the body each buffer is.
fn batch_header(plan: &BodyPlan, rows: usize) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let nodes = builder.create_vector(&plan.nodes);
    let buffers = builder.create_vector(&plan.buffers);
    let mut batch = RecordBatchBuilder::new(&mut builder);
    batch.add_length(rows as i64);
    batch.add_nodes(nodes);
    batch.add_buffers(buffers);
    let batch = batch.finish().as_union_value();
    let mut message = MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(MessageHeader::RecordBatch);
    message.add_bodyLength(plan.bytes as i64);
    message.add_header(batch);
    let message = message.finish();
    builder.finish(message, None);
    builder.finished_data().to_vec()
}

/// End of the messages, footer, its length, magic.
fn write_footer(out: &mut impl Write, schema: &Schema, block: Block, stats: &str) -> io::Result<()> {
    out.write_all(&CONTINUATION)?;
    out.write_all(&0i32.to_le_bytes())?;
    let mut metadata = Metadata::new();
    metadata.insert(STATS_KEY, stats);
    let mut builder = FlatBufferBuilder::new();
    let dictionaries = builder.create_vector::<Block>(&[]);
    let batches = builder.create_vector(&[block]);
    let schema = IpcSchemaEncoder::new().schema_to_fb_offset(&mut builder, schema);
    let metadata = metadata_to_fb(&mut builder, &metadata);
    let mut footer = FooterBuilder::new(&mut builder);
    footer.add_version(MetadataVersion::V5);
    footer.add_schema(schema);
    footer.add_dictionaries(dictionaries);
    footer.add_recordBatches(batches);
    footer.add_custom_metadata(metadata);
    let footer = footer.finish();
    builder.finish(footer, None);
    let footer = builder.finished_data();
    out.write_all(footer)?;
    out.write_all(&(footer.len() as i32).to_le_bytes())?;
    out.write_all(MAGIC)
}

fn arrow_error(error: ArrowError) -> io::Error {
    match error {
        ArrowError::IoError(_, error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
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
