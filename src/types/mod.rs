//! The nouns every other folder shares: ids, timestamps, schemas, columns of rows, bitmaps, errors.
//! Start at `schema.rs` and `column.rs`. Uses nothing of ours and does no I/O.

mod array;
mod bitmap;
mod column;
mod error;
mod ids;
mod instant;
mod partition_key;
mod records;
pub mod resource_groups;
mod schema;
mod statistics;
mod timestamp;
mod ttl;

pub use array::{ArrayRow, Element};
pub use bitmap::Bitmap;
pub use column::{Batch, Column, ColumnData, ColumnView, TextColumn, Validity, Values};
pub use error::{Blame, Error, ErrorKind, Result};
pub use ids::{CollectionId, Epoch, FieldId, FileId, IndexId, Lsn, PartitionId};
pub use instant::{DAY_MICROSECONDS, Zone, civil, days_of, parse_instant};
pub use partition_key::{ISOLATION_PROPERTY, partition_places};
pub use records::{
    CollectionRecord, DatabaseRecord, DurableFile, FileRecord, FileState, IndexFileRecord, IndexRecord,
    PartitionRecord, ZONE_PROPERTY, zone_of,
};
pub use schema::{CollectionSchema, DataType, FieldSchema, Keys, Metric, Value};
pub use statistics::{Nulls, Statistics, ValueRange};
pub use timestamp::Timestamp;
pub use ttl::{TTL_PROPERTY, expired_until};
