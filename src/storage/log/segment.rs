//! The header of a log segment.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::types::Lsn;

/// Bytes before the first record.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"SHOALLOG";
const VERSION: u32 = 1;
/// The checksum, of everything before it.
const CHECKSUM_OFFSET: usize = 40;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Lsn of its first record.
    pub first: Lsn,
    /// The lsn after the last record of the segment before it: a segment that is missing shows here.
    pub follows: Lsn,
    /// Mixed into the checksums of its records.
    pub salt: u64,
}

/// What the bytes of a header are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderRead {
    Whole(SegmentHeader),
    /// Of a version this build does not know.
    Version(u32),
    Damaged,
}

impl SegmentHeader {
    /// A header with a salt of its own.
    pub fn new(first: Lsn, follows: Lsn) -> SegmentHeader {
        // The hasher's keys come from the kernel's random numbers: a client cannot know them.
        SegmentHeader { first, follows, salt: RandomState::new().build_hasher().finish() }
    }

    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.follows.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&bytes[..CHECKSUM_OFFSET]);
        bytes[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> HeaderRead {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else { return HeaderRead::Damaged };
        let half = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        if header[0..8] != MAGIC {
            return HeaderRead::Damaged;
        }
        if half(8) != VERSION {
            return HeaderRead::Version(half(8));
        }
        if crc_fast::crc32_iscsi(&header[..CHECKSUM_OFFSET]) != half(CHECKSUM_OFFSET) {
            return HeaderRead::Damaged;
        }
        HeaderRead::Whole(SegmentHeader { first: Lsn(word(16)), follows: Lsn(word(24)), salt: word(32) })
    }
}
