//! The bytes of an image: header, rotation, centre, twins, routes, blocks. See FORMAT.md.

use crc_fast::{CrcAlgorithm, checksum};

use super::routes::ROUTE_BLOCKS;
use crate::index::IndexError;
use crate::index::header::{metric_of, metric_word};
use crate::index::twins::chain;
use crate::kernel::{CODE_DIM_STEP, CODE_PLANES_MAX, NEIGHBOURS, NeighbourCodes, ROTATION_ROUNDS};
use crate::types::Metric;

const MAGIC: &[u8; 8] = b"SHOALGRF";
const VERSION: u32 = 4;
/// Bytes of the header, and what every section and block is a multiple of.
const ALIGNMENT: usize = 64;
const HEADER_BYTES: usize = 128;
/// Sections with checksums.
const SECTIONS: usize = 5;
/// Most dimensions of a vector, with room for the lift of IP and for padding.
const CODE_DIM_MAX: usize = 1 << 16;
/// The five `f32` behind the vector of a block.
pub(super) const SCALARS_BYTES: usize = 20;
/// An id (u32), an addend (u16) and a factor (u8) per neighbour.
const NEIGHBOURS_BYTES: usize = NEIGHBOURS * 7;

/// The numbers that say where everything lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub metric: Metric,
    pub row_count: usize,
    /// Elements of a vector as users see it.
    pub dim: usize,
    /// Elements after padding and rotation.
    pub code_dim: usize,
    /// Bits per dimension of a neighbour's code.
    pub planes: usize,
    /// The vertex in the middle, from which routes lead to where searches begin.
    pub entry: u32,
    /// Whether some rows are twins: equal to another row, which alone is a vertex.
    pub has_twins: bool,
    /// For IP, the greatest squared norm of a row: rows are lifted to it. Else 0.
    pub squared_norm_max: f32,
}

impl Shape {
    /// Elements of a vector in the space where distances are Euclidean: one more for IP.
    pub fn inner_dim(&self) -> usize {
        self.dim + usize::from(self.metric == Metric::Ip)
    }

    pub fn block_bytes(&self) -> usize {
        self.head_bytes() + self.codes_bytes()
    }

    /// Bytes of a block before the neighbours' codes, which lie at its end: a block is read from its beginning to its end.
    pub fn head_bytes(&self) -> usize {
        (self.code_dim + SCALARS_BYTES + NEIGHBOURS_BYTES).next_multiple_of(ALIGNMENT)
    }

    /// Bytes of all neighbours' codes in a block.
    pub fn codes_bytes(&self) -> usize {
        self.planes * self.code_dim * 4
    }

    fn signs_bytes(&self) -> usize {
        self.code_dim * 4 * ROTATION_ROUNDS
    }

    fn centre_bytes(&self) -> usize {
        (self.inner_dim() * 4).next_multiple_of(ALIGNMENT)
    }

    fn twins_bytes(&self) -> usize {
        (self.row_count * 4).next_multiple_of(ALIGNMENT)
    }

    fn routes_bytes(&self) -> usize {
        ROUTE_BLOCKS * self.block_bytes()
    }

    fn blocks_offset(&self) -> usize {
        HEADER_BYTES + self.signs_bytes() + self.centre_bytes() + self.twins_bytes() + self.routes_bytes()
    }

    /// Bytes of the whole image; `None` when there is no such number.
    pub fn image_bytes(&self) -> Option<usize> {
        self.row_count.checked_mul(self.block_bytes())?.checked_add(self.blocks_offset())
    }
}

/// An image that is being written, in parts that do not overlap.
pub(super) struct Parts<'a> {
    pub header: &'a mut [u8],
    pub signs: &'a mut [u8],
    pub centre: &'a mut [u8],
    pub twins: &'a mut [u8],
    pub routes: &'a mut [u8],
    pub blocks: &'a mut [u8],
}

impl<'a> Parts<'a> {
    /// `image` has `shape.image_bytes()` bytes.
    pub fn of(shape: &Shape, image: &'a mut [u8]) -> Option<Parts<'a>> {
        let (header, rest) = image.split_at_mut_checked(HEADER_BYTES)?;
        let (signs, rest) = rest.split_at_mut_checked(shape.signs_bytes())?;
        let (centre, rest) = rest.split_at_mut_checked(shape.centre_bytes())?;
        let (twins, rest) = rest.split_at_mut_checked(shape.twins_bytes())?;
        let (routes, blocks) = rest.split_at_mut_checked(shape.routes_bytes())?;
        Some(Parts { header, signs, centre, twins, routes, blocks })
    }

    /// Writes the header, which makes the image whole.
    pub fn seal(self, shape: &Shape) {
        let words = [
            VERSION,
            HEADER_BYTES as u32,
            metric_word(shape.metric),
            shape.dim as u32,
            shape.code_dim as u32,
            NEIGHBOURS as u32,
            shape.row_count as u32,
            shape.entry,
            shape.squared_norm_max.to_bits(),
            shape.block_bytes() as u32,
            shape.planes as u32,
            u32::from(shape.has_twins),
        ];
        self.header.fill(0);
        self.header[..8].copy_from_slice(MAGIC);
        for (index, word) in words.iter().enumerate() {
            self.header[8 + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
        }
        let sections = [self.signs, self.centre, self.blocks, self.twins, self.routes];
        let image_bytes = HEADER_BYTES + sections.iter().map(|section| section.len()).sum::<usize>();
        let checksums = sections.map(|section| checksum(CrcAlgorithm::Crc64Nvme, section));
        for (index, word) in [image_bytes as u64].iter().chain(&checksums).enumerate() {
            self.header[56 + index * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        let of_header = checksum(CrcAlgorithm::Crc64Nvme, &self.header[..HEADER_BYTES - 8]);
        self.header[HEADER_BYTES - 8..].copy_from_slice(&of_header.to_le_bytes());
    }
}

/// A graph over the bytes of an image: nothing is copied, and whatever the bytes are, no search leaves them.
#[derive(Clone, Copy, Debug)]
pub struct Graph<'a> {
    pub(super) shape: Shape,
    pub(super) signs: &'a [u8],
    pub(super) centre: &'a [u8],
    twins: &'a [u8],
    routes: &'a [u8],
    pub(super) blocks: &'a [u8],
    pub(super) block_bytes: usize,
    checksums: [u64; SECTIONS],
}

impl<'a> Graph<'a> {
    /// Looks at the header and the lengths alone, in constant time: [`Graph::verify`] reads everything. Damage behind the
    /// header makes answers wrong, never a read out of bounds.
    ///
    /// # Errors
    /// When this is no image, one of another version, or a damaged or truncated one.
    pub fn open(image: &'a [u8]) -> Result<Graph<'a>, IndexError> {
        let header = header_of(image)?;
        if checksum(CrcAlgorithm::Crc64Nvme, &header[..HEADER_BYTES - 8]) != long_at(header, HEADER_BYTES - 8) {
            return Err(IndexError::Damaged("its header's checksum is wrong"));
        }
        Graph::reopen(image)
    }

    /// As [`Graph::open`], of an image that was opened before: its header's checksum is not computed again.
    ///
    /// # Errors
    /// As [`Graph::open`].
    pub fn reopen(image: &'a [u8]) -> Result<Graph<'a>, IndexError> {
        let header = header_of(image)?;
        if word_at(header, 8) != VERSION {
            return Err(IndexError::Damaged("its format has another version"));
        }
        let shape = shape_of(header)?;
        let is_whole = shape.image_bytes() == Some(image.len()) && long_at(header, 56) == image.len() as u64;
        if !is_whole || word_at(header, 44) as usize != shape.block_bytes() {
            return Err(IndexError::Damaged("it has not the length that its header tells"));
        }
        let (signs, rest) = image[HEADER_BYTES..].split_at(shape.signs_bytes());
        let (centre, rest) = rest.split_at(shape.centre_bytes());
        let (twins, rest) = rest.split_at(shape.twins_bytes());
        let (routes, blocks) = rest.split_at(shape.routes_bytes());
        let checksums = std::array::from_fn(|index| long_at(header, 64 + index * 8));
        Ok(Graph { shape, signs, centre, twins, routes, blocks, block_bytes: shape.block_bytes(), checksums })
    }

    /// The graph that is being built, before its header is there.
    pub(super) fn of_parts(shape: Shape, parts: &'a Parts<'_>) -> Graph<'a> {
        let Parts { signs, centre, twins, routes, blocks, .. } = parts;
        let checksums = [0; SECTIONS];
        Graph { shape, signs, centre, twins, routes, blocks, block_bytes: shape.block_bytes(), checksums }
    }

    /// Reads the whole image and compares its checksums.
    ///
    /// # Errors
    /// When a byte is not what was written.
    pub fn verify(&self) -> Result<(), IndexError> {
        let sections = [self.signs, self.centre, self.blocks, self.twins, self.routes];
        let found = sections.map(|section| checksum(CrcAlgorithm::Crc64Nvme, section));
        if found == self.checksums { Ok(()) } else { Err(IndexError::Damaged("a section's checksum is wrong")) }
    }

    /// Number of vectors.
    pub fn row_count(&self) -> usize {
        self.shape.row_count
    }

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        self.shape.dim
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.shape.metric
    }

    /// The block of a vertex, or `None` for an id that is none.
    #[inline]
    pub(super) fn block(&self, id: u32) -> Option<Block<'a>> {
        Block::of(self.bytes_of(id)?, &self.shape)
    }

    /// The bytes of the block of a vertex, or `None` for an id that is none.
    #[inline]
    pub(super) fn bytes_of(&self, id: u32) -> Option<&'a [u8]> {
        let first = id as usize * self.block_bytes;
        self.blocks.get(first..first + self.block_bytes)
    }

    /// A block of the tree of routes, whose root is block 0.
    #[inline]
    pub(super) fn route(&self, index: usize) -> Option<Block<'a>> {
        Block::of(self.route_bytes(index)?, &self.shape)
    }

    /// The bytes of a block of the tree of routes.
    #[inline]
    pub(super) fn route_bytes(&self, index: usize) -> Option<&'a [u8]> {
        let first = index * self.block_bytes;
        self.routes.get(first..first + self.block_bytes)
    }

    /// A vertex and the rows that are equal to it, ascending.
    #[inline]
    pub(super) fn twins(&self, vertex: u32) -> impl Iterator<Item = u32> + use<'a> {
        chain(if self.shape.has_twins { self.twins } else { &[] }, self.shape.row_count, vertex)
    }
}

/// One vertex: its vector and its neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    /// The squared norm of the centred vector.
    pub squared_norm: f32,
    /// What the codes of the vector are multiplied with.
    pub scale: f32,
    /// The rotated vector, one signed byte per element.
    pub vector: &'a [u8],
    pub neighbours: NeighbourCodes<'a>,
    /// 32 little-endian ids; from outside, so not below the row count for sure.
    pub ids: &'a [[u8; 4]; NEIGHBOURS],
}

impl<'a> Block<'a> {
    #[inline]
    fn of(bytes: &'a [u8], shape: &Shape) -> Option<Block<'a>> {
        let (head, codes) = bytes.split_at_checked(shape.head_bytes())?;
        let (vector, rest) = head.split_at_checked(shape.code_dim)?;
        let (scalars, rest) = rest.split_first_chunk::<SCALARS_BYTES>()?;
        let (ids, rest) = rest.split_first_chunk::<{ NEIGHBOURS * 4 }>()?;
        let (addends, rest) = rest.split_first_chunk()?;
        let factors = rest.first_chunk()?;
        let scalars = scalars.as_chunks::<4>().0.first_chunk::<{ SCALARS_BYTES / 4 }>()?;
        let [squared_norm, scale, addend_low, addend_step, factor_step] = scalars.map(f32::from_le_bytes);
        Some(Block {
            squared_norm,
            scale,
            vector,
            neighbours: NeighbourCodes { codes, addends, factors, addend_low, addend_step, factor_step },
            ids: ids.as_chunks::<4>().0.first_chunk::<NEIGHBOURS>()?,
        })
    }
}

fn header_of(image: &[u8]) -> Result<&[u8; HEADER_BYTES], IndexError> {
    let header = image.first_chunk::<HEADER_BYTES>().ok_or(IndexError::Damaged("it is shorter than a header"))?;
    if &header[..8] == MAGIC { Ok(header) } else { Err(IndexError::Damaged("it does not begin like one")) }
}

fn shape_of(header: &[u8; HEADER_BYTES]) -> Result<Shape, IndexError> {
    let metric = metric_of(word_at(header, 16)).ok_or(IndexError::Damaged("its metric is unknown"))?;
    let shape = Shape {
        metric,
        dim: word_at(header, 20) as usize,
        code_dim: word_at(header, 24) as usize,
        row_count: word_at(header, 32) as usize,
        entry: word_at(header, 36),
        squared_norm_max: f32::from_bits(word_at(header, 40)),
        planes: word_at(header, 48) as usize,
        has_twins: word_at(header, 52) == 1,
    };
    let is_possible = word_at(header, 12) as usize == HEADER_BYTES
        && word_at(header, 28) as usize == NEIGHBOURS
        && shape.dim > 0
        && (1..=CODE_PLANES_MAX).contains(&shape.planes)
        && shape.code_dim.is_multiple_of(CODE_DIM_STEP)
        && (shape.inner_dim()..=CODE_DIM_MAX).contains(&shape.code_dim)
        && (shape.entry as usize) < shape.row_count
        && word_at(header, 52) <= 1
        && !shape.squared_norm_max.is_nan();
    if is_possible { Ok(shape) } else { Err(IndexError::Damaged("its header contradicts itself")) }
}

fn word_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    header[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn long_at(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Makes a changed header pass its checksum, so that what is behind that is tested.
#[cfg(test)]
pub(super) fn fix_header_checksum(image: &mut [u8]) {
    if let Some(header) = image.first_chunk_mut::<HEADER_BYTES>() {
        let of_header = checksum(CrcAlgorithm::Crc64Nvme, &header[..HEADER_BYTES - 8]);
        header[HEADER_BYTES - 8..].copy_from_slice(&of_header.to_le_bytes());
    }
}
