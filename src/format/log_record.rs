//! Records of the write-ahead log: fixed header, payload, crc32c over both.

use crate::types::{CollectionId, Lsn, PartitionId, Timestamp};

/// What a record does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Rows: the payload is a Milvus `InsertRequest` as it came.
    Insert = 1,
    /// Rows that replace those of equal keys: a Milvus `UpsertRequest` as it came.
    Upsert = 2,
    /// Keys whose rows die: a Milvus `schema.IDs`.
    Delete = 3,
}

/// One record. The engine gives payloads their meaning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRecord<'a> {
    /// Its place in the log.
    pub lsn: Lsn,
    /// What it does.
    pub kind: RecordKind,
    /// To which collection.
    pub collection: CollectionId,
    /// To which partition; 0 = all (deletes).
    pub partition: PartitionId,
    /// The operation's timestamp.
    pub timestamp: Timestamp,
    /// The first automatic id of its rows; 0 when ids are the client's. Row i has `first_id + i`.
    pub first_id: i64,
    /// The body.
    pub payload: &'a [u8],
}
