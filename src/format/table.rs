//! Table files: one Arrow IPC file with one record batch, rows ascending by (primary key, insert timestamp).
//!
//! Columns: `$ts` (UInt64), then one per field, named as the field was when the file was written; the field's id is in the
//! Arrow field metadata (`shoal.field_id`). Vectors are FixedSizeList (or FixedSizeBinary); bodies are 64-byte
//! aligned and uncompressed. The whole file's crc64 is kept in meta and in the manifest.

mod arrow_types;
mod body;
mod column_writer;
mod columns;
mod find;
mod reader;
mod sort;
mod stats;
mod writer;

pub use reader::TableFile;
pub use sort::sort_rows;
pub use writer::{TableSummary, write_table};

/// Name of the column of insert timestamps: no field can be called so.
const TIMESTAMP_COLUMN: &str = "$ts";
/// Version of the file, in the schema's metadata.
const FORMAT_KEY: &str = "shoal.format";
const FORMAT_VERSION: &str = "1";
/// Id of the primary field, in the schema's metadata.
const PRIMARY_KEY: &str = "shoal.primary_field_id";
/// Ranges and null counts as JSON, in the footer's metadata.
const STATS_KEY: &str = "shoal.stats";
/// The field's id, in the field's metadata.
const FIELD_ID_KEY: &str = "shoal.field_id";
/// Milvus' number of the field's type, in the field's metadata.
const DATA_TYPE_KEY: &str = "shoal.data_type";
/// Milvus' name of the field's type, in the field's metadata, for people.
const TYPE_NAME_KEY: &str = "shoal.type";

/// crc64-nvme of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::crc64_nvme(bytes)
}

#[cfg(test)]
mod tests;
