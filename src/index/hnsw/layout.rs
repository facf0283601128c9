//! The bytes of an image: header, upper levels, twins, links of level 0, vectors. See FORMAT.md.

use serde::{Deserialize, Serialize};

use crate::index::IndexError;
use crate::index::codes::{CodeSpace, Coder, Records};
use crate::index::header::{self, Fields, Sections, SectionsMut, padded};
use crate::index::packed::CodeBits;
use crate::index::twins::chain;
use crate::kernel::{VectorElement, VectorRows};
use crate::types::Metric;

const VERSION: u32 = 2;
/// How an image begins.
pub(in crate::index) const MAGIC: &[u8; 8] = b"SHOALHNW";
/// Most levels above level 0: with two links per vertex, 2^15 rows have as many.
pub(super) const UPPER_LEVELS_MAX: usize = 15;
/// Fields in front of the numbers of members of the upper levels.
const MEMBERS_FIELD: usize = 9;
/// Bounds of `m`, Milvus' and the least that makes a graph.
const M_MAX: usize = 2048;
/// Flags of the header: some rows are twins; copies alone decide.
const HAS_TWINS: u32 = 1;
const IS_UNREFINED: u32 = 2;

/// Where the vectors of a graph are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// In the column of the table file: nothing is copied.
    Column,
    /// In the image, half a byte per element.
    Codes4,
    /// In the image, three quarters of a byte per element.
    Codes6,
    /// In the image, one byte per element.
    Codes8,
    /// In the image, in half precision.
    F16,
    /// In the image, the upper halves of `f32`.
    Bf16,
}

impl Encoding {
    /// Every one.
    pub(in crate::index) const ALL: [Encoding; 6] =
        [Encoding::Column, Encoding::Codes4, Encoding::Codes6, Encoding::Codes8, Encoding::F16, Encoding::Bf16];

    fn word(self) -> u32 {
        match self {
            Encoding::Column => 0,
            Encoding::Codes8 => 1,
            Encoding::F16 => 2,
            Encoding::Bf16 => 3,
            Encoding::Codes4 => 4,
            Encoding::Codes6 => 5,
        }
    }

    /// Bits per element of the codes; `None` when there are none.
    pub(super) fn code_bits(self) -> Option<CodeBits> {
        match self {
            Encoding::Codes4 => Some(CodeBits::Four),
            Encoding::Codes6 => Some(CodeBits::Six),
            Encoding::Codes8 => Some(CodeBits::Eight),
            Encoding::Column | Encoding::F16 | Encoding::Bf16 => None,
        }
    }

    /// What an element of the copies is; `None` when there are none, or they are codes.
    pub(super) fn element(self) -> Option<VectorElement> {
        match self {
            Encoding::Column | Encoding::Codes4 | Encoding::Codes6 | Encoding::Codes8 => None,
            Encoding::F16 => Some(VectorElement::F16),
            Encoding::Bf16 => Some(VectorElement::BF16),
        }
    }
}

/// The numbers that say where everything lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Metric, dimension and what IP needs.
    pub space: CodeSpace,
    pub row_count: usize,
    /// Links of a vertex on an upper level; twice as many on level 0.
    pub m: usize,
    pub encoding: Encoding,
    /// Members of level 1, 2, ...; zeros behind the last level.
    pub members: [u32; UPPER_LEVELS_MAX],
    /// Where searches begin: a level and a place on it.
    pub entry_level: usize,
    pub entry: u32,
    /// Whether some rows are twins: equal to another row, which alone is a vertex.
    pub has_twins: bool,
    /// Whether distances are those of the column, though there are copies.
    pub is_refined: bool,
}

impl Shape {
    /// Levels above level 0.
    pub fn upper_count(&self) -> usize {
        self.members.iter().take_while(|members| **members > 0).count()
    }

    /// Links of a vertex on a level.
    pub fn degree(&self, level: usize) -> usize {
        if level == 0 { self.m * 2 } else { self.m }
    }

    /// Bytes of the codes of a row.
    pub fn record_bytes(&self) -> usize {
        self.space.packed_bytes(self.encoding.code_bits().unwrap_or(CodeBits::Eight))
    }

    /// Bytes of row numbers, places below and links of an upper level.
    fn level_bytes(&self, level: usize) -> [usize; 3] {
        let members = self.members[level - 1] as usize;
        [members * 4, members * 4, members * self.m * 4]
    }

    /// Bytes of the sections: upper levels, twins, links, signs, centre, vectors. `None` when there are no such numbers.
    fn sections(&self) -> Option<[usize; 6]> {
        let upper: usize = (1..=self.upper_count()).flat_map(|level| self.level_bytes(level)).sum();
        let of_codes = |bytes: usize| if self.encoding.code_bits().is_some() { bytes } else { 0 };
        let row_bytes = match self.encoding {
            Encoding::Column => 0,
            Encoding::F16 | Encoding::Bf16 => self.space.dim * 2,
            Encoding::Codes4 | Encoding::Codes6 | Encoding::Codes8 => self.record_bytes(),
        };
        Some([
            padded(upper)?,
            padded(self.row_count.checked_mul(4)?)?,
            padded(self.row_count.checked_mul(self.degree(0) * 4)?)?,
            of_codes(self.space.signs_bytes()),
            of_codes(self.space.centre_bytes()),
            self.row_count.checked_mul(row_bytes)?,
        ])
    }

    /// Bytes of the whole image; `None` when there is no such number.
    pub fn image_bytes(&self) -> Option<usize> {
        self.sections()?.into_iter().try_fold(header::BYTES, usize::checked_add)
    }
}

/// One level of an image that is being written.
pub(super) struct LevelMut<'a> {
    /// Row numbers, ascending; nothing on level 0, where places are rows.
    pub rows: &'a mut [u8],
    /// The places of the members on the level below.
    pub below: &'a mut [u8],
    pub links: &'a mut [u8],
    pub degree: usize,
}

impl LevelMut<'_> {
    pub fn view(&self) -> Level<'_> {
        Level {
            rows: self.rows.as_chunks().0,
            below: self.below.as_chunks().0,
            links: self.links.as_chunks().0,
            degree: self.degree,
        }
    }
}

/// An image that is being written, in parts that do not overlap.
pub(super) struct Parts<'a> {
    /// From level 0 up.
    pub levels: Vec<LevelMut<'a>>,
    pub twins: &'a mut [u8],
    pub signs: &'a mut [u8],
    pub centre: &'a mut [u8],
    pub vectors: &'a mut [u8],
}

impl<'a> Parts<'a> {
    /// `image` has `shape.image_bytes()` bytes.
    pub fn of(shape: &Shape, image: &'a mut [u8]) -> Option<Parts<'a>> {
        let [mut upper, twins, links, signs, centre, vectors] = SectionsMut::of(image).split(shape.sections()?)?;
        let links_bytes = shape.row_count * shape.degree(0) * 4;
        let links = links.get_mut(..links_bytes)?;
        let mut levels = vec![LevelMut { rows: &mut [], below: &mut [], links, degree: shape.degree(0) }];
        for level in 1..=shape.upper_count() {
            let [rows, below, links] = shape.level_bytes(level);
            let (rows, rest) = upper.split_at_mut_checked(rows)?;
            let (below, rest) = rest.split_at_mut_checked(below)?;
            let (links, rest) = rest.split_at_mut_checked(links)?;
            levels.push(LevelMut { rows, below, links, degree: shape.degree(level) });
            upper = rest;
        }
        Some(Parts { levels, twins, signs, centre, vectors })
    }
}

/// Writes the header, which makes the image whole.
pub(super) fn seal(shape: &Shape, image: &mut [u8]) {
    let [metric, dim, squared_norm_max] = shape.space.words();
    let mut words = [0; MEMBERS_FIELD + UPPER_LEVELS_MAX];
    words[..MEMBERS_FIELD].copy_from_slice(&[
        metric,
        dim,
        shape.row_count as u32,
        shape.m as u32,
        shape.encoding.word(),
        squared_norm_max,
        shape.entry,
        shape.entry_level as u32,
        (if shape.has_twins { HAS_TWINS } else { 0 }) | if shape.is_refined { 0 } else { IS_UNREFINED },
    ]);
    words[MEMBERS_FIELD..].copy_from_slice(&shape.members);
    header::seal(image, MAGIC, VERSION, &words);
}

/// A graph over the bytes of an image: nothing is copied, and whatever the bytes are, no search leaves them.
#[derive(Clone, Copy, Debug)]
pub struct Hnsw<'a> {
    pub(super) shape: Shape,
    upper: &'a [u8],
    twins: &'a [u8],
    links: &'a [u8],
    /// Of the codes, when there are any.
    pub(super) coder: Option<Coder<'a>>,
    vectors: &'a [u8],
    image: &'a [u8],
}

impl<'a> Hnsw<'a> {
    /// Looks at the header and the lengths alone, in constant time: [`Hnsw::verify`] reads everything. Damage behind the
    /// header makes answers wrong, never a read out of bounds.
    ///
    /// # Errors
    /// When this is no image, one of another version, or a damaged or truncated one.
    pub fn open(image: &'a [u8]) -> Result<Hnsw<'a>, IndexError> {
        Hnsw::of_fields(image, &Fields::open(image, MAGIC, VERSION)?)
    }

    /// As [`Hnsw::open`], of an image that was opened before: its header's checksum is not computed again.
    ///
    /// # Errors
    /// As [`Hnsw::open`].
    pub fn reopen(image: &'a [u8]) -> Result<Hnsw<'a>, IndexError> {
        Hnsw::of_fields(image, &Fields::reopen(image, MAGIC, VERSION)?)
    }

    fn of_fields(image: &'a [u8], fields: &Fields<'_>) -> Result<Hnsw<'a>, IndexError> {
        let shape = shape_of(fields).ok_or(header::CONTRADICTS)?;
        if shape.image_bytes() != Some(image.len()) {
            return Err(header::WRONG_LENGTH);
        }
        let sections = shape.sections().and_then(|lengths| Sections::of(image).split(lengths));
        let [upper, twins, links, signs, centre, vectors] = sections.ok_or(header::WRONG_LENGTH)?;
        let coder = shape.encoding.code_bits().map(|_| Coder { space: shape.space, signs, centre });
        Ok(Hnsw { shape, upper, twins, links, coder, vectors, image })
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

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        self.shape.space.dim
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.shape.space.metric
    }

    /// The codes of all rows; none when there are no codes.
    pub(super) fn records(&self) -> Records<'a> {
        Records { bytes: self.vectors, record_bytes: self.shape.record_bytes() }
    }

    /// The 16-bit copies of all rows, if there are any.
    pub(super) fn halves(&self) -> Option<VectorRows<'a>> {
        let element = self.shape.encoding.element()?;
        Some(VectorRows { bytes: self.vectors, dim: self.dim(), element })
    }

    /// A vertex and the rows that are equal to it, ascending.
    pub(super) fn twins(&self, row: u32) -> impl Iterator<Item = u32> + use<'a> {
        chain(if self.shape.has_twins { self.twins } else { &[] }, self.shape.row_count, row)
    }

    /// A level; nothing for one that is none.
    pub(super) fn level(&self, level: usize) -> Level<'a> {
        if level == 0 {
            let links = &self.links[..self.shape.row_count * self.shape.degree(0) * 4];
            return Level { rows: &[], below: &[], links: links.as_chunks().0, degree: self.shape.degree(0) };
        }
        let before: usize = (1..level).flat_map(|level| self.shape.level_bytes(level)).sum();
        let split = || {
            let lengths = self.shape.level_bytes(level);
            let (rows, rest) = self.upper.get(before..)?.split_at_checked(lengths[0])?;
            let (below, rest) = rest.split_at_checked(lengths[1])?;
            Some((rows, below, rest.get(..lengths[2])?))
        };
        let (rows, below, links) = split().unwrap_or_default();
        let (rows, below, links) = (rows.as_chunks().0, below.as_chunks().0, links.as_chunks().0);
        Level { rows, below, links, degree: self.shape.degree(level) }
    }
}

/// The vertices of one level and their links; numbers come from outside and are checked where they are followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level<'a> {
    rows: &'a [[u8; 4]],
    below: &'a [[u8; 4]],
    links: &'a [[u8; 4]],
    degree: usize,
}

impl<'a> Level<'a> {
    /// Number of vertices.
    pub fn count(&self) -> usize {
        self.links.len() / self.degree.max(1)
    }

    /// Whether places are rows.
    pub fn is_ground(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a place; on level 0 they are the same.
    #[inline]
    pub fn row(&self, place: u32) -> u32 {
        if self.is_ground() {
            place
        } else {
            self.rows.get(place as usize).map_or(u32::MAX, |row| u32::from_le_bytes(*row))
        }
    }

    /// The place of a row.
    pub fn place(&self, row: u32) -> Option<u32> {
        if self.is_ground() {
            return Some(row);
        }
        let place = self.rows.binary_search_by_key(&row, |row| u32::from_le_bytes(*row)).ok()?;
        Some(place as u32)
    }

    /// The place on `below`, the level below.
    pub fn below(&self, place: u32, below: &Level<'_>) -> u32 {
        let found = self.below.get(place as usize).map(|place| u32::from_le_bytes(*place));
        found.filter(|place| (*place as usize) < below.count()).unwrap_or(0)
    }

    /// The links of a place; one to itself is none.
    #[inline]
    pub fn links(&self, place: u32) -> &'a [[u8; 4]] {
        let first = place as usize * self.degree;
        self.links.get(first..first + self.degree).unwrap_or_default()
    }
}

fn shape_of(fields: &Fields<'_>) -> Option<Shape> {
    let space = CodeSpace::of_fields(fields)?;
    let shape = Shape {
        space,
        row_count: fields.word(2) as usize,
        m: fields.word(3) as usize,
        encoding: Encoding::ALL.into_iter().find(|encoding| encoding.word() == fields.word(4))?,
        members: std::array::from_fn(|index| fields.word(MEMBERS_FIELD + index)),
        entry: fields.word(6),
        entry_level: fields.word(7) as usize,
        has_twins: fields.word(8) & HAS_TWINS != 0,
        is_refined: fields.word(8) & IS_UNREFINED == 0,
    };
    let entry_count = match shape.entry_level {
        0 => shape.row_count,
        level => *shape.members.get(level - 1)? as usize,
    };
    let is_possible = (1..=M_MAX).contains(&shape.m)
        && shape.row_count <= 1 << 31
        && shape.entry_level <= shape.upper_count()
        && (shape.entry as usize) < entry_count
        && fields.word(8) <= HAS_TWINS | IS_UNREFINED
        // Without copies, only the column can decide.
        && (shape.is_refined || shape.encoding != Encoding::Column)
        && shape.members.iter().all(|members| *members as usize <= shape.row_count);
    is_possible.then_some(shape)
}
