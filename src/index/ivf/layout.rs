//! The bytes of an image: header, centroids and their codes, list starts, row numbers, codes of rows. See FORMAT.md.

use crate::index::IndexError;
use crate::index::codes::{CodeErrors, CodeSpace, Coder, Records};
use crate::index::header::{self, Fields, Sections, SectionsMut, padded};
use crate::types::Metric;

const VERSION: u32 = 2;
/// How an image begins.
pub(in crate::index) const MAGIC: &[u8; 8] = b"SHOALIVF";

/// The numbers that say where everything lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Metric, dimension and what IP needs.
    pub space: CodeSpace,
    pub row_count: usize,
    pub list_count: usize,
    /// Whether codes decide which rows are near; else the vectors of the column do.
    pub is_coarse: bool,
    /// How far codes are from their vectors at most.
    pub errors: CodeErrors,
}

impl Shape {
    /// Bytes of the sections: centroids, their records, starts, rows, signs, centre, records. `None` when there are no such numbers.
    fn sections(&self) -> Option<[usize; 7]> {
        let record_bytes = self.space.record_bytes();
        Some([
            padded(self.list_count.checked_mul(self.space.dim * 4)?)?,
            padded(self.list_count.checked_mul(record_bytes)?)?,
            padded((self.list_count + 1) * 4)?,
            padded(self.row_count.checked_mul(4)?)?,
            self.space.signs_bytes(),
            self.space.centre_bytes(),
            self.row_count.checked_mul(record_bytes)?,
        ])
    }

    /// Bytes of the whole image; `None` when there is no such number.
    pub fn image_bytes(&self) -> Option<usize> {
        self.sections()?.into_iter().try_fold(header::BYTES, usize::checked_add)
    }
}

/// An image that is being written, in parts that do not overlap.
pub(super) struct Parts<'a> {
    pub centroids: &'a mut [u8],
    pub centroid_records: &'a mut [u8],
    pub starts: &'a mut [u8],
    pub rows: &'a mut [u8],
    pub signs: &'a mut [u8],
    pub centre: &'a mut [u8],
    pub records: &'a mut [u8],
}

impl<'a> Parts<'a> {
    /// `image` has `shape.image_bytes()` bytes.
    pub fn of(shape: &Shape, image: &'a mut [u8]) -> Option<Parts<'a>> {
        let sections = SectionsMut::of(image).split(shape.sections()?)?;
        let [centroids, centroid_records, starts, rows, signs, centre, records] = sections;
        Some(Parts { centroids, centroid_records, starts, rows, signs, centre, records })
    }
}

/// Writes the header, which makes the image whole.
pub(super) fn seal(shape: &Shape, image: &mut [u8]) {
    let [metric, dim, squared_norm_max] = shape.space.words();
    let CodeErrors { steps_max, scale_max } = shape.errors;
    let (rows, lists, is_coarse) = (shape.row_count as u32, shape.list_count as u32, u32::from(shape.is_coarse));
    let words = [metric, dim, rows, lists, is_coarse, squared_norm_max, steps_max.to_bits(), scale_max.to_bits()];
    header::seal(image, MAGIC, VERSION, &words);
}

/// Inverted lists over the bytes of an image: nothing is copied, and whatever the bytes are, no search leaves them.
#[derive(Clone, Copy, Debug)]
pub struct Ivf<'a> {
    pub(super) shape: Shape,
    /// Little-endian `f32`, `dim` per list.
    pub(super) centroids: &'a [u8],
    pub(super) centroid_records: Records<'a>,
    starts: &'a [u8],
    rows: &'a [u8],
    pub(super) coder: Coder<'a>,
    /// In the order of lists.
    pub(super) records: Records<'a>,
    image: &'a [u8],
}

impl<'a> Ivf<'a> {
    /// Looks at the header and the lengths alone, in constant time: [`Ivf::verify`] reads everything. Damage behind the
    /// header makes answers wrong, never a read out of bounds.
    ///
    /// # Errors
    /// When this is no image, one of another version, or a damaged or truncated one.
    pub fn open(image: &'a [u8]) -> Result<Ivf<'a>, IndexError> {
        Ivf::of_fields(image, &Fields::open(image, MAGIC, VERSION)?)
    }

    /// As [`Ivf::open`], of an image that was opened before: its header's checksum is not computed again.
    ///
    /// # Errors
    /// As [`Ivf::open`].
    pub fn reopen(image: &'a [u8]) -> Result<Ivf<'a>, IndexError> {
        Ivf::of_fields(image, &Fields::reopen(image, MAGIC, VERSION)?)
    }

    fn of_fields(image: &'a [u8], fields: &Fields<'_>) -> Result<Ivf<'a>, IndexError> {
        let shape = shape_of(fields).ok_or(header::CONTRADICTS)?;
        if shape.image_bytes() != Some(image.len()) {
            return Err(header::WRONG_LENGTH);
        }
        let sections = shape.sections().and_then(|lengths| Sections::of(image).split(lengths));
        let [centroids, centroid_records, starts, rows, signs, centre, records] =
            sections.ok_or(header::WRONG_LENGTH)?;
        let coder = Coder { space: shape.space, signs, centre };
        let of = |bytes| Records { bytes, record_bytes: shape.space.record_bytes() };
        let (centroid_records, records) = (of(centroid_records), of(records));
        Ok(Ivf { shape, centroids, centroid_records, starts, rows, coder, records, image })
    }

    /// Reads the whole image and compares its checksum.
    ///
    /// # Errors
    /// When a byte is not what was written.
    pub fn verify(&self) -> Result<(), IndexError> {
        header::verify(self.image)
    }

    /// Number of vectors.
    pub fn row_count(&self) -> usize {
        self.shape.row_count
    }

    /// Number of lists.
    pub fn list_count(&self) -> usize {
        self.shape.list_count
    }

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        self.shape.space.dim
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.shape.space.metric
    }

    /// The place of a list's first row, and its row numbers, which come from outside: not below the row count for sure.
    #[inline]
    pub(super) fn list(&self, list: usize) -> (usize, &'a [[u8; 4]]) {
        let starts = self.starts.as_chunks::<4>().0;
        let place = |index: usize| starts.get(index).map_or(0, |start| u32::from_le_bytes(*start) as usize);
        let (first, end) = (place(list), place(list + 1).min(self.shape.row_count));
        (first, self.rows.as_chunks::<4>().0.get(first..end).unwrap_or_default())
    }
}

fn shape_of(fields: &Fields<'_>) -> Option<Shape> {
    let space = CodeSpace::of_fields(fields)?;
    let shape = Shape {
        space,
        row_count: fields.word(2) as usize,
        list_count: fields.word(3) as usize,
        is_coarse: fields.word(4) == 1,
        errors: CodeErrors { steps_max: f32::from_bits(fields.word(6)), scale_max: f32::from_bits(fields.word(7)) },
    };
    let is_possible = fields.word(4) <= 1 && shape.list_count > 0 && shape.list_count <= shape.row_count;
    is_possible.then_some(shape)
}
