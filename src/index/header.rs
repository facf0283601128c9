//! The first bytes of an image: magic, version, fields, checksums. See FORMAT.md.

use crc_fast::{CrcAlgorithm, checksum};

use super::IndexError;
use crate::types::Metric;

/// What sections of images are a multiple of.
pub(super) const ALIGNMENT: usize = 64;
/// Bytes of a header.
pub(super) const BYTES: usize = 256;
/// Where the fields begin: behind magic, version, length of the header, length of the image, checksum of the body.
const FIELDS_OFFSET: usize = 32;
/// Most fields.
const FIELDS_MAX: usize = (BYTES - 8 - FIELDS_OFFSET) / 4;

/// The numbers of a header cannot all be true.
pub(super) const CONTRADICTS: IndexError = IndexError::Damaged("its header contradicts itself");
/// The image was cut off, or has bytes behind its end.
pub(super) const WRONG_LENGTH: IndexError = IndexError::Damaged("it has not the length that its header tells");

/// Writes the header of an image whose body is there.
pub(super) fn seal(image: &mut [u8], magic: &[u8; 8], version: u32, words: &[u32]) {
    debug_assert!(words.len() <= FIELDS_MAX);
    let image_bytes = image.len() as u64;
    let (header, body) = image.split_at_mut(BYTES);
    header.fill(0);
    header[..8].copy_from_slice(magic);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&(BYTES as u32).to_le_bytes());
    header[16..24].copy_from_slice(&image_bytes.to_le_bytes());
    header[24..32].copy_from_slice(&checksum(CrcAlgorithm::Crc64Nvme, body).to_le_bytes());
    for (index, word) in words.iter().enumerate() {
        header[FIELDS_OFFSET + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
    let of_header = checksum(CrcAlgorithm::Crc64Nvme, &header[..BYTES - 8]);
    header[BYTES - 8..].copy_from_slice(&of_header.to_le_bytes());
}

/// The fields of a header whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(&'a [u8; BYTES]);

impl<'a> Fields<'a> {
    /// # Errors
    /// When the image does not begin with such a header, or has another length than it tells.
    pub fn open(image: &'a [u8], magic: &[u8; 8], version: u32) -> Result<Fields<'a>, IndexError> {
        let header = header_of(image, magic)?;
        if checksum(CrcAlgorithm::Crc64Nvme, &header[..BYTES - 8]) != long_at(header, BYTES - 8) {
            return Err(IndexError::Damaged("its header's checksum is wrong"));
        }
        Fields::reopen(image, magic, version)
    }

    /// As [`Fields::open`], without the checksum, which was looked at before.
    ///
    /// # Errors
    /// As [`Fields::open`].
    pub fn reopen(image: &'a [u8], magic: &[u8; 8], version: u32) -> Result<Fields<'a>, IndexError> {
        let header = header_of(image, magic)?;
        if word_at(header, 8) != version {
            return Err(IndexError::Damaged("its format has another version"));
        }
        if word_at(header, 12) as usize != BYTES {
            return Err(CONTRADICTS);
        }
        if long_at(header, 16) != image.len() as u64 {
            return Err(WRONG_LENGTH);
        }
        Ok(Fields(header))
    }

    /// A field by number.
    pub fn word(&self, index: usize) -> u32 {
        word_at(self.0, FIELDS_OFFSET + index * 4)
    }

    /// A field that is a metric.
    pub fn metric(&self, index: usize) -> Option<Metric> {
        metric_of(self.word(index))
    }
}

fn header_of<'a>(image: &'a [u8], magic: &[u8; 8]) -> Result<&'a [u8; BYTES], IndexError> {
    let header = image.first_chunk::<BYTES>().ok_or(IndexError::Damaged("it is shorter than a header"))?;
    if &header[..8] == magic { Ok(header) } else { Err(IndexError::Damaged("it does not begin like one")) }
}

const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

/// The metric that a field names.
pub(super) fn metric_of(word: u32) -> Option<Metric> {
    METRICS.into_iter().find(|metric| metric_word(*metric) == word)
}

/// A metric as a field.
pub(super) fn metric_word(metric: Metric) -> u32 {
    match metric {
        Metric::L2 => 0,
        Metric::Ip => 1,
        Metric::Cosine => 2,
        // No index is built over bits: the reader knows no such number.
        Metric::Hamming | Metric::Jaccard => u32::MAX,
    }
}

/// Compares the checksum of the body.
///
/// # Errors
/// When a byte is not what was written.
pub(super) fn verify(image: &[u8]) -> Result<(), IndexError> {
    let is_right = image
        .split_first_chunk::<BYTES>()
        .is_some_and(|(header, body)| checksum(CrcAlgorithm::Crc64Nvme, body) == long_at(header, 24));
    if is_right { Ok(()) } else { Err(IndexError::Damaged("its checksum is wrong")) }
}

fn word_at(header: &[u8; BYTES], at: usize) -> u32 {
    header[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long_at(header: &[u8; BYTES], at: usize) -> u64 {
    header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A length that is a multiple of the alignment of sections.
pub(super) fn padded(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(ALIGNMENT)
}

/// What follows the header, to be split.
pub(super) struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    pub fn of(image: &'a [u8]) -> Sections<'a> {
        Sections(image.get(BYTES..).unwrap_or_default())
    }

    /// The first bytes, in sections of these lengths; `None` when there are fewer.
    pub fn split<const N: usize>(self, lengths: [usize; N]) -> Option<[&'a [u8]; N]> {
        let mut rest = self.0;
        let mut sections: [&[u8]; N] = [&[]; N];
        for (section, length) in sections.iter_mut().zip(lengths) {
            (*section, rest) = rest.split_at_checked(length)?;
        }
        Some(sections)
    }
}

/// As [`Sections`], to be written.
pub(super) struct SectionsMut<'a>(&'a mut [u8]);

impl<'a> SectionsMut<'a> {
    pub fn of(image: &'a mut [u8]) -> SectionsMut<'a> {
        SectionsMut(image.get_mut(BYTES..).unwrap_or_default())
    }

    pub fn split<const N: usize>(self, lengths: [usize; N]) -> Option<[&'a mut [u8]; N]> {
        let mut rest = self.0;
        let mut sections: [&mut [u8]; N] = std::array::from_fn(|_| [].as_mut_slice());
        for (section, length) in sections.iter_mut().zip(lengths) {
            (*section, rest) = rest.split_at_mut_checked(length)?;
        }
        Some(sections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"SHOALXYZ";

    fn sealed(words: &[u32]) -> Vec<u8> {
        let mut image = vec![3; BYTES + 70];
        seal(&mut image, MAGIC, 2, words);
        image
    }

    #[test]
    fn fields_come_back_and_a_changed_body_is_found() {
        let words: Vec<u32> = (0..FIELDS_MAX as u32).map(|word| word * 77).collect();
        let mut image = sealed(&words);
        let fields = Fields::open(&image, MAGIC, 2).unwrap();
        assert!(words.iter().enumerate().all(|(index, word)| fields.word(index) == *word));
        verify(&image).unwrap();
        image[BYTES + 69] ^= 1;
        assert!(Fields::open(&image, MAGIC, 2).is_ok() && verify(&image).is_err());
    }

    #[test]
    fn a_whole_header_of_another_kind_version_or_length_is_refused() {
        let image = sealed(&[1]);
        let reason = |image: &[u8], magic, version| Fields::open(image, magic, version).unwrap_err().to_string();
        assert!(reason(&image, b"SHOALXYY", 2).contains("does not begin like one"));
        assert!(reason(&image, MAGIC, 3).contains("another version"));
        assert!(reason(&image[..BYTES + 69], MAGIC, 2).contains("length"));
        assert!(reason(&[&image[..], &[0]].concat(), MAGIC, 2).contains("length"));
        assert!(reason(&image[..BYTES - 1], MAGIC, 2).contains("shorter"));
    }
}
