//! Records of the write-ahead log: fixed header, payload, crc32c over both.

use crate::types::{CollectionId, Lsn, PartitionId, Timestamp};

/// Bytes of a record before its payload.
pub const HEADER_BYTES: usize = 72;
/// Every record begins with this; damage is looked behind with it.
pub const MAGIC: [u8; 4] = *b"SLR\x01";
/// The header's checksum covers it from here on; it comes first, so that bytes which only look like a header cost little.
const CHECKED_FROM: usize = 8;

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

impl RecordKind {
    fn from_number(number: u8) -> Option<RecordKind> {
        [RecordKind::Insert, RecordKind::Upsert, RecordKind::Delete].into_iter().find(|kind| *kind as u8 == number)
    }
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

/// What the log adds to each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The segment's secret, mixed into the checksum: no payload can contain a record that passes for one of the log's.
    pub salt: u64,
    /// Records up to this one were durable when this one was written: what is damaged below it was acknowledged.
    pub synced: Lsn,
}

/// Appends a record to a buffer: the payload is copied once.
///
/// # Panics
/// When the payload passes 4 GiB: requests are bounded far below that.
pub fn encode(record: &LogRecord<'_>, seal: Seal, out: &mut Vec<u8>) {
    let payload_bytes = u32::try_from(record.payload.len()).expect("requests are bounded far below 4 GiB");
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&payload_bytes.to_le_bytes());
    header[12..16].copy_from_slice(&checksum_of(seal.salt, record.payload).to_le_bytes());
    header[16..24].copy_from_slice(&record.lsn.0.to_le_bytes());
    header[24..32].copy_from_slice(&seal.synced.0.to_le_bytes());
    header[32..40].copy_from_slice(&record.collection.0.to_le_bytes());
    header[40..48].copy_from_slice(&record.partition.0.to_le_bytes());
    header[48..56].copy_from_slice(&record.timestamp.0.to_le_bytes());
    header[56..64].copy_from_slice(&record.first_id.to_le_bytes());
    header[64] = record.kind as u8;
    let checksum = checksum_of(seal.salt, &header[CHECKED_FROM..]);
    header[4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    out.reserve(HEADER_BYTES + record.payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(record.payload);
}

/// A record read back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// The record.
    pub record: LogRecord<'a>,
    /// Records up to this one were durable when it was written.
    pub synced: Lsn,
    /// Bytes it takes.
    pub bytes: usize,
}

/// The record at the start of `bytes`; `None` when there is no whole one.
pub fn decode(bytes: &[u8], salt: u64) -> Option<Decoded<'_>> {
    let header = Header::of(bytes, salt)?;
    let record_bytes = HEADER_BYTES + header.payload_bytes();
    let payload = bytes.get(HEADER_BYTES..record_bytes)?;
    if checksum_of(salt, payload) != header.half(12) {
        return None;
    }
    let record = LogRecord {
        lsn: Lsn(header.word(16)),
        kind: RecordKind::from_number(header.0[64])?,
        collection: CollectionId(header.word(32) as i64),
        partition: PartitionId(header.word(40) as i64),
        timestamp: Timestamp(header.word(48)),
        first_id: header.word(56) as i64,
        payload,
    };
    Some(Decoded { record, synced: Lsn(header.word(24)), bytes: record_bytes })
}

/// Whether `bytes` end within the record they begin with: a write that did not come to its end.
pub fn is_cut_short(bytes: &[u8], salt: u64) -> bool {
    bytes.len() < HEADER_BYTES
        || Header::of(bytes, salt).is_some_and(|header| bytes.len() - HEADER_BYTES < header.payload_bytes())
}

/// A header that passed its check.
struct Header<'a>(&'a [u8; HEADER_BYTES]);

impl<'a> Header<'a> {
    fn of(bytes: &'a [u8], salt: u64) -> Option<Header<'a>> {
        let header = Header(bytes.first_chunk()?);
        (header.0[0..4] == MAGIC && checksum_of(salt, &header.0[CHECKED_FROM..]) == header.half(4)).then_some(header)
    }

    fn payload_bytes(&self) -> usize {
        self.half(8) as usize
    }

    fn half(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    fn word(&self, at: usize) -> u64 {
        u64::from(self.half(at)) | u64::from(self.half(at + 4)) << 32
    }
}

fn checksum_of(salt: u64, checked: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&salt.to_le_bytes());
    digest.update(checked);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal { salt: 77, synced: Lsn(4) };

    fn record(payload: &[u8]) -> LogRecord<'_> {
        LogRecord {
            lsn: Lsn(5),
            kind: RecordKind::Upsert,
            collection: CollectionId(-3),
            partition: PartitionId(9),
            timestamp: Timestamp(u64::MAX),
            first_id: i64::MIN,
            payload,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        encode(&record(b"rows"), SEAL, &mut bytes);
        let decoded = decode(&bytes, SEAL.salt).unwrap();
        assert_eq!(decoded, Decoded { record: record(b"rows"), synced: Lsn(4), bytes: HEADER_BYTES + 4 });
    }

    #[test]
    fn a_changed_bit_a_missing_byte_and_another_salt_are_refused() {
        let mut bytes = Vec::new();
        encode(&record(b"rows"), SEAL, &mut bytes);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert_eq!(decode(&damaged, SEAL.salt), None, "byte {at}");
            assert_eq!(decode(&bytes[..at], SEAL.salt), None, "cut at {at}");
        }
        assert_eq!(decode(&bytes, SEAL.salt + 1), None);
    }
}
