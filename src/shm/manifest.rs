//! The catalog (names) and the manifests (what a search of one collection must visit), as files.
//!
//! Both are a 32-byte header (magic, version, body length, crc32c) and a JSON body, written under a temporary name and
//! renamed: a reader sees a whole one or none. Parsed bytes are input: checked before use.

use serde::{Deserialize, Serialize};

use crate::config::limits::MANIFEST_BYTES_MAX;
use crate::format::FormatError;
use crate::types::{
    CollectionId, CollectionSchema, DatabaseRecord, Epoch, FileId, FileState, IndexId, IndexRecord, PartitionId,
    PartitionRecord, Timestamp,
};

/// Names only: everything else about a collection is in its manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Databases.
    pub databases: Vec<DatabaseRecord>,
    /// Collections of all databases.
    pub collections: Vec<CatalogCollection>,
    /// Aliases of all databases.
    pub aliases: Vec<CatalogAlias>,
}

/// A collection's names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogCollection {
    /// Its database.
    pub database: String,
    /// Unique in the database.
    pub name: String,
    /// Never reused.
    pub id: CollectionId,
    /// Where its manifest epoch is in the control file.
    pub cell: u32,
}

/// An alias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CatalogAlias {
    /// Its database.
    pub database: String,
    /// Unique in the database, also among collections.
    pub alias: String,
    /// What it names.
    pub collection: CollectionId,
}

/// Where a published file is mapped from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// `<shm>/<collection>/<name>`.
    Shm,
    /// The data directory: `tables/<collection>/<name>` for table files, `run/live/<collection>/<name>` for others.
    Disk,
}

/// A live `deleted_at` file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestDeletes {
    /// File name.
    pub name: String,
    /// Where it is.
    pub place: Place,
}

/// The file of an index over a table file, `<file>-<index>.idx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestIndex {
    /// Which index of the collection.
    pub index: IndexId,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the file.
    pub checksum: u64,
    /// Where it is.
    pub place: Place,
}

/// A table file that is large enough for an index and has none yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestUnindexed {
    /// Which index of the collection.
    pub index: IndexId,
    /// The table file.
    pub file: FileId,
    /// Its rows.
    pub row_count: u64,
    /// Its smallest insert timestamp.
    pub timestamp_min: Timestamp,
    /// Why it will stay without: the last attempt's error.
    pub failure: Option<String>,
}

/// A sealed table file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Never reused; `<id>.arrow` is its name.
    pub id: FileId,
    /// Its partition.
    pub partition: PartitionId,
    /// RAW, TO_INDEX, INDEX or BACKUP.
    pub state: FileState,
    /// Rows.
    pub row_count: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the file.
    pub checksum: u64,
    /// Smallest and largest insert timestamp.
    pub timestamps: (u64, u64),
    /// Where it is.
    pub place: Place,
    /// Present once a row of it was deleted.
    pub deletes: Option<ManifestDeletes>,
    /// Finished indexes over it.
    pub indexes: Vec<ManifestIndex>,
}

/// A table file of a released partition: counted, never mapped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleasedFile {
    /// Never reused.
    pub id: FileId,
    /// Its partition.
    pub partition: PartitionId,
    /// Rows.
    pub row_count: u64,
    /// Of these, marked deleted at publication.
    pub deleted_count: u64,
}

/// One chunk of a growing (or immutable, not yet serialised) MemTableFile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestChunk {
    /// The MemTableFile it belongs to.
    pub file: FileId,
    /// File name: `<file>-<chunk>-<incarnation>.grow`.
    pub name: String,
    /// Its partition.
    pub partition: PartitionId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Where it is.
    pub place: Place,
}

/// What a search of one collection must visit, and everything describe needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which collection.
    pub collection: CollectionId,
    /// Counts publications of this collection.
    pub epoch: Epoch,
    /// Fields.
    pub schema: CollectionSchema,
    /// As the user set them.
    pub properties: Vec<(String, String)>,
    /// Echoed.
    pub consistency_level: i32,
    /// Echoed.
    pub shards: i32,
    /// When it was made.
    pub created: Timestamp,
    /// When its schema changed last.
    pub updated: Timestamp,
    /// It answers searches; `files` and `chunks` are empty when not.
    pub is_loaded: bool,
    /// Partitions.
    pub partitions: Vec<PartitionRecord>,
    /// Indexes.
    pub indexes: Vec<IndexRecord>,
    /// Rows in table files less those marked deleted at publication (also while released), for statistics.
    pub sealed_row_count: u64,
    /// Snapshots older than this are refused: merges dropped rows that they could see.
    pub horizon: Timestamp,
    /// What the builder has still to do (also while released), for describing indexes.
    pub unindexed: Vec<ManifestUnindexed>,
    /// Sealed files.
    pub files: Vec<ManifestFile>,
    /// Table files of released partitions.
    pub released: Vec<ReleasedFile>,
    /// Growing chunks, oldest first.
    pub chunks: Vec<ManifestChunk>,
    /// A file of the collection failed its check: the message every search gets.
    pub damage: Option<String>,
}

/// First bytes of a catalog or manifest.
const MAGIC: [u8; 8] = *b"SHOALMAN";
const VERSION: u32 = 2;
/// Magic, version, crc32c of the body, length of the body, 8 spare bytes.
const HEADER_BYTES: usize = 32;
const WHAT: &str = "catalog or manifest";

/// Encodes a catalog or a manifest.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, value)
        .expect("catalogs and manifests are plain structs and memory takes them all");
    let body = &bytes[HEADER_BYTES..];
    let (checksum, body_bytes) = (crc32c(body), body.len() as u64);
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes[16..24].copy_from_slice(&body_bytes.to_le_bytes());
    bytes
}

/// Decodes a catalog or a manifest.
///
/// # Errors
/// When header, checksum or body are wrong.
pub fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, FormatError> {
    let damaged = |detail: String| FormatError::Damaged { what: WHAT, detail };
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format!("only {} bytes", bytes.len())));
    };
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[0..8] != MAGIC || word(8) != VERSION {
        return Err(FormatError::Foreign { what: WHAT, detail: format!("magic or version {} differ", word(8)) });
    }
    let body_bytes = u64::from(word(16)) | u64::from(word(20)) << 32;
    if body_bytes != body.len() as u64 || body.len() > MANIFEST_BYTES_MAX {
        return Err(damaged(format!("{body_bytes} bytes announced, {} there", body.len())));
    }
    if crc32c(body) != word(12) {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| damaged(error.to_string()))
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let alias = CatalogAlias { database: "default".into(), alias: "a".into(), collection: CollectionId(3) };
        Catalog { aliases: vec![alias], ..Catalog::default() }
    }

    #[test]
    fn a_catalog_comes_back_as_it_was() {
        assert_eq!(decode::<Catalog>(&encode(&catalog())).unwrap(), catalog());
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_is_found() {
        let bytes = encode(&catalog());
        for length in 0..bytes.len() {
            assert!(decode::<Catalog>(&bytes[..length]).is_err(), "cut at {length}");
        }
        for bit in 0..bytes.len() * 8 {
            // The spare bytes mean nothing.
            if (24 * 8..32 * 8).contains(&bit) {
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode::<Catalog>(&damaged).is_err(), "bit {bit}");
        }
    }
}
