//! The nouns every other folder shares: ids, timestamps, schemas, columns of rows, bitmaps, errors.
//! Start at `schema.rs` and `column.rs`. Uses nothing of ours and does no I/O.

mod bitmap;
mod column;
mod error;
mod ids;
mod records;
mod schema;
mod timestamp;

pub use bitmap::Bitmap;
pub use column::{Batch, Column, ColumnData, ColumnView, TextColumn, Validity, Values};
pub use error::{Blame, Error, ErrorKind, Result};
pub use ids::{CollectionId, Epoch, FieldId, FileId, IndexId, Lsn, PartitionId};
pub use records::{CollectionRecord, DatabaseRecord, FileRecord, FileState, IndexRecord, PartitionRecord};
pub use schema::{CollectionSchema, DataType, FieldSchema, Keys, Metric, Value};
pub use timestamp::Timestamp;
