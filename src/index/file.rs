//! An index file: a page of header that says what was built from what, then the image of the index. See FORMAT.md.

use std::sync::Arc;

use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Serialize};

use super::spec::IndexSpec;
use super::{IndexError, OpenIndex, SearchIndex};
use crate::sys::map::SharedMap;
use crate::types::{FieldId, FileId, IndexId};

/// Where the image begins: a page boundary, so that its own alignment is that of the map.
pub const IMAGE_OFFSET: usize = 4096;

const MAGIC: &[u8; 8] = b"SHOALIDX";
const VERSION: u32 = 1;
const JSON_LEN_AT: usize = 12;
const IMAGE_BYTES_AT: usize = 16;
const IMAGE_CHECKSUM_AT: usize = 24;
const JSON_AT: usize = 32;
const HEADER_CHECKSUM_AT: usize = IMAGE_OFFSET - 8;

/// What an index file says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexHeader {
    /// How it was built.
    pub spec: IndexSpec,
    /// Which index of the collection.
    pub index: IndexId,
    /// Over which field.
    pub field: FieldId,
    /// From which table file.
    pub table: FileId,
    /// crc64-nvme of that table file.
    pub table_checksum: u64,
    /// Its rows, all of which are indexed.
    pub row_count: u64,
}

/// The header of a file with this image.
///
/// # Errors
/// When the parameters do not fit into a page.
pub fn encode_header(header: &IndexHeader, image: &[u8]) -> Result<Vec<u8>, IndexError> {
    let json = serde_json::to_vec(header).map_err(|_| IndexError::Build("its parameters cannot be written"))?;
    let mut page = vec![0; IMAGE_OFFSET];
    let room = page.get_mut(JSON_AT..HEADER_CHECKSUM_AT).and_then(|room| room.get_mut(..json.len()));
    room.ok_or(IndexError::Build("its parameters are too long"))?.copy_from_slice(&json);
    page[..8].copy_from_slice(MAGIC);
    page[8..12].copy_from_slice(&VERSION.to_le_bytes());
    page[JSON_LEN_AT..][..4].copy_from_slice(&(json.len() as u32).to_le_bytes());
    page[IMAGE_BYTES_AT..][..8].copy_from_slice(&(image.len() as u64).to_le_bytes());
    page[IMAGE_CHECKSUM_AT..][..8].copy_from_slice(&checksum(CrcAlgorithm::Crc64Nvme, image).to_le_bytes());
    let of_header = checksum(CrcAlgorithm::Crc64Nvme, &page[..HEADER_CHECKSUM_AT]);
    page[HEADER_CHECKSUM_AT..].copy_from_slice(&of_header.to_le_bytes());
    Ok(page)
}

/// A mapped index file, searched in place.
#[derive(Clone, Debug)]
pub struct IndexFile {
    map: Arc<SharedMap>,
    header: IndexHeader,
}

impl IndexFile {
    /// Looks at header and lengths, in constant time; [`IndexFile::verify`] reads everything.
    ///
    /// # Errors
    /// When this is no index file, one of another version, or a damaged or truncated one.
    pub fn open(map: Arc<SharedMap>) -> Result<IndexFile, IndexError> {
        let page = map.get(0..IMAGE_OFFSET).ok_or(IndexError::Damaged("it is shorter than a header"))?;
        if &page[..8] != MAGIC {
            return Err(IndexError::Damaged("it does not begin like an index file"));
        }
        if checksum(CrcAlgorithm::Crc64Nvme, &page[..HEADER_CHECKSUM_AT]) != long_at(page, HEADER_CHECKSUM_AT) {
            return Err(IndexError::Damaged("its header's checksum is wrong"));
        }
        let (version, json_len) = (long_at(page, 8) as u32, (long_at(page, 8) >> 32) as usize);
        if version != VERSION {
            return Err(IndexError::Damaged("its format has another version"));
        }
        if long_at(page, IMAGE_BYTES_AT) != (map.len() - IMAGE_OFFSET) as u64 {
            return Err(IndexError::Damaged("it has not the length that its header tells"));
        }
        let json = page[JSON_AT..HEADER_CHECKSUM_AT].get(..json_len);
        let header: Option<IndexHeader> = json.and_then(|json| serde_json::from_slice(json).ok());
        let header = header.ok_or(IndexError::Damaged("its header cannot be read"))?;
        let (index, spec) = (OpenIndex::open(&map.bytes()[IMAGE_OFFSET..])?, &header.spec);
        let (row_count, dim, metric) = (index.row_count() as u64, index.dim(), index.metric());
        if (row_count, dim, metric) != (header.row_count, spec.dim, spec.metric) {
            return Err(IndexError::Damaged("its header contradicts its image"));
        }
        Ok(IndexFile { map, header })
    }

    /// What it says about itself.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// The index, to be searched. Constant time, no allocation; checksums were compared when the file was opened.
    ///
    /// # Errors
    /// When the image is damaged at its beginning.
    pub fn index(&self) -> Result<OpenIndex<'_>, IndexError> {
        OpenIndex::reopen(&self.map.bytes()[IMAGE_OFFSET..])
    }

    /// Reads the image and compares its checksum.
    ///
    /// # Errors
    /// When a byte is not what was written.
    pub fn verify(&self) -> Result<(), IndexError> {
        let (page, image) = self.map.bytes().split_at(IMAGE_OFFSET);
        if checksum(CrcAlgorithm::Crc64Nvme, image) == long_at(page, IMAGE_CHECKSUM_AT) {
            Ok(())
        } else {
            Err(IndexError::Damaged("its image's checksum is wrong"))
        }
    }
}

fn long_at(page: &[u8], at: usize) -> u64 {
    page[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
