//! Vectors as 8-bit codes, for indexes that do not hold the vectors themselves.
//!
//! A row is lifted to a space where every metric is squared Euclidean distance (COSINE by normalising, IP by one more element,
//! Bachrach et al., RecSys 2014), the mean of the rows is subtracted and the whole rotated at random: no element stands out
//! then, and one scale per row makes finer codes than one per dimension (errors of distances below 1 % down to 16 dimensions).

use super::IndexError;
use super::graph::space::{dot, normalise, quantise};
use super::header::{ALIGNMENT, Fields, metric_word};
use super::packed::{CodeBits, PackScratch};
use crate::kernel::{
    ByteKernels, ByteRows, CODE_DIM_STEP, CodeKernels, Kernels, ROTATION_ROUNDS, Rows, VectorRows, rotate,
    round_to_words,
};
use crate::types::Metric;

/// Bytes of squared norm and scale in front of the codes of a row.
const SCALARS_BYTES: usize = 8;
/// Most elements of a code.
pub(super) const CODE_DIM_MAX: usize = 1 << 16;
/// Largest element of a 16-bit query: far finer than the codes it meets.
const QUERY_MAX: f32 = 8191.0;
/// Rows whose mean is the centre: more hardly move it.
const CENTRE_ROWS_MAX: usize = 1 << 16;
/// Rows whose norms are computed at once.
const NORM_ROWS: usize = 1024;

/// What the space of the codes is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CodeSpace {
    pub metric: Metric,
    /// Elements of a vector as users see it.
    pub dim: usize,
    /// For IP, the greatest squared norm of a row: rows are lifted to it. Else 0.
    pub squared_norm_max: f32,
}

impl CodeSpace {
    /// The space for these rows.
    pub fn of(metric: Metric, rows: &VectorRows<'_>) -> CodeSpace {
        let mut space = CodeSpace { metric, dim: rows.dim, squared_norm_max: 0.0 };
        if metric == Metric::Ip {
            let mut norms = [0.0; NORM_ROWS];
            for first in (0..rows.len()).step_by(NORM_ROWS) {
                let range = first..rows.len().min(first + NORM_ROWS);
                let norms = &mut norms[..range.len()];
                if let Some(block) = rows.block(Rows::Range(range)) {
                    Kernels::get().squared_norms(&block, norms);
                    space.squared_norm_max = norms.iter().copied().fold(space.squared_norm_max, f32::max);
                }
            }
        }
        space
    }

    /// What an image's header says: metric, dimension and squared norm are its fields 0, 1 and 5.
    pub fn of_fields(fields: &Fields<'_>) -> Option<CodeSpace> {
        let squared_norm_max = f32::from_bits(fields.word(5));
        let space = CodeSpace { metric: fields.metric(0)?, dim: fields.word(1) as usize, squared_norm_max };
        (1..CODE_DIM_MAX).contains(&space.dim).then_some(space)
    }

    /// Metric, dimension and squared norm as fields of a header.
    pub fn words(&self) -> [u32; 3] {
        [metric_word(self.metric), self.dim as u32, self.squared_norm_max.to_bits()]
    }

    /// Elements of a lifted vector.
    pub fn inner_dim(&self) -> usize {
        self.dim + usize::from(self.metric == Metric::Ip)
    }

    /// Elements of a code.
    pub fn code_dim(&self) -> usize {
        self.inner_dim().next_multiple_of(CODE_DIM_STEP)
    }

    /// Bytes of the rotation.
    pub fn signs_bytes(&self) -> usize {
        self.code_dim() * 4 * ROTATION_ROUNDS
    }

    /// Bytes of the centre.
    pub fn centre_bytes(&self) -> usize {
        (self.inner_dim() * 4).next_multiple_of(ALIGNMENT)
    }

    /// Bytes of one row: squared norm, scale, codes.
    pub fn record_bytes(&self) -> usize {
        self.packed_bytes(CodeBits::Eight)
    }

    /// As [`CodeSpace::record_bytes`], when an element of a code has so many bits.
    pub fn packed_bytes(&self, bits: CodeBits) -> usize {
        SCALARS_BYTES + bits.bytes(self.code_dim())
    }

    /// A row before centring: normalised, lifted or as it is, padded with zeros.
    fn lift(&self, row: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        out[..row.len()].copy_from_slice(row);
        match self.metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => {}
            Metric::Cosine => normalise(&mut out[..row.len()]),
            Metric::Ip => out[row.len()] = (self.squared_norm_max - dot(row, row)).max(0.0).sqrt(),
        }
    }

    /// Writes the centre: the mean of the lifted rows.
    pub fn write_centre(&self, rows: &VectorRows<'_>, centre: &mut [u8]) {
        let count = rows.len().min(CENTRE_ROWS_MAX);
        let mut sums = vec![0.0f64; self.inner_dim()];
        let (mut row, mut lifted) = (vec![0.0f32; self.dim], vec![0.0f32; self.inner_dim()]);
        for index in 0..count {
            rows.widen((index as u128 * rows.len() as u128 / count as u128) as usize, &mut row);
            self.lift(&row, &mut lifted);
            sums.iter_mut().zip(&lifted).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        centre.fill(0);
        for (bytes, sum) in centre.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            *bytes = ((sum / count.max(1) as f64) as f32).to_le_bytes();
        }
    }
}

/// Makes codes of vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coder<'a> {
    pub space: CodeSpace,
    pub signs: &'a [u8],
    /// Little-endian `f32`.
    pub centre: &'a [u8],
}

impl Coder<'_> {
    /// Writes the record of a row. `placed` is memory to work in.
    ///
    /// # Errors
    /// When an element is not finite.
    pub fn write_record(&self, row: &[f32], placed: &mut Vec<f32>, record: &mut [u8]) -> Result<(), IndexError> {
        if !row.iter().all(|value| value.is_finite()) {
            return Err(IndexError::Build("a vector has an element that is not finite"));
        }
        let squared_norm = self.place_row(row, placed);
        let (scalars, codes) = record.split_at_mut(SCALARS_BYTES);
        let scale = quantise(placed, bytemuck::cast_slice_mut(codes));
        scalars[..4].copy_from_slice(&squared_norm.to_le_bytes());
        scalars[4..].copy_from_slice(&scale.to_le_bytes());
        Ok(())
    }

    /// Writes the record of a row whose elements are finite, with 4 or 6 bits for each.
    pub fn write_packed(&self, row: &[f32], bits: CodeBits, scratch: &mut PackScratch, record: &mut [u8]) {
        let squared_norm = self.place_row(row, &mut scratch.placed);
        let (scalars, codes) = record.split_at_mut(SCALARS_BYTES);
        let scale = bits.pack(squared_norm, scratch, codes);
        scalars[..4].copy_from_slice(&squared_norm.to_le_bytes());
        scalars[4..].copy_from_slice(&scale.to_le_bytes());
    }

    /// Puts a row into the space of the codes, and gives its squared norm there.
    fn place_row(&self, row: &[f32], placed: &mut Vec<f32>) -> f32 {
        placed.resize(self.space.code_dim(), 0.0);
        self.space.lift(row, placed);
        self.centre_and_rotate(placed)
    }

    /// Makes a query of a vector; it is not lifted for IP.
    pub fn place_query(&self, query: &[f32], out: &mut CodedQuery) {
        out.placed.clear();
        out.placed.extend_from_slice(query);
        out.placed.resize(self.space.code_dim(), 0.0);
        if self.space.metric == Metric::Cosine {
            normalise(&mut out.placed[..query.len()]);
        }
        out.lift = dot(query, query) + self.space.squared_norm_max;
        out.squared_norm = self.centre_and_rotate(&mut out.placed);
        out.make_words();
    }

    fn centre_and_rotate(&self, values: &mut [f32]) -> f32 {
        for (value, centre) in values.iter_mut().zip(&self.centre.as_chunks::<4>().0[..self.space.inner_dim()]) {
            *value -= f32::from_le_bytes(*centre);
        }
        rotate(values, self.signs);
        dot(values, values)
    }
}

/// A query in the space of the codes.
#[derive(Debug, Default)]
pub(super) struct CodedQuery {
    placed: Vec<f32>,
    words: Vec<i16>,
    word_scale: f32,
    squared_norm: f32,
    /// For IP: what squared distances have on top of twice the negated product.
    lift: f32,
}

impl CodedQuery {
    fn make_words(&mut self) {
        let most = self.placed.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // No sum of products with codes can leave 32 bits.
        let word_max = QUERY_MAX.min((i32::MAX / 127) as f32 / self.placed.len() as f32 - 1.0);
        let inverse = if most > 0.0 { word_max / most } else { 0.0 };
        self.word_scale = most / word_max;
        self.words.resize(self.placed.len(), 0);
        round_to_words(&self.placed, inverse, &mut self.words);
    }

    /// The squared distance in the space of the codes; not a number for a record of another length.
    #[inline]
    pub fn distance(&self, kernels: CodeKernels, record: &[u8]) -> f32 {
        let Some((scalars, codes)) = Scalars::split(record).filter(|(_, codes)| codes.len() == self.words.len()) else {
            return f32::NAN;
        };
        self.distance_of(scalars, kernels.dot_query(codes, &self.words, &[]))
    }

    /// As [`CodedQuery::distance`], from a record with fewer bits. `codes` is memory to unpack it in.
    #[inline]
    pub fn packed_distance(&self, kernels: CodeKernels, bits: CodeBits, record: &[u8], codes: &mut Vec<u8>) -> f32 {
        let fits = |(_, packed): &(Scalars, &[u8])| packed.len() == bits.bytes(self.words.len());
        let Some((scalars, packed)) = Scalars::split(record).filter(fits) else { return f32::NAN };
        codes.resize(self.words.len(), 0);
        bits.unpack(packed, codes);
        self.distance_of(scalars, kernels.dot_query(codes, &self.words, &[]))
    }

    /// As [`CodedQuery::distance`] of listed records, several at a time, into `distances.list`: none when one of the list is no
    /// record. For records that lie anywhere and were asked for: those that follow each other are read faster one by one.
    pub fn distances(
        &self,
        kernels: CodeKernels,
        records: &Records<'_>,
        list: &[u32],
        distances: &mut RecordDistances,
    ) {
        let RecordDistances { products, list: out } = distances;
        out.clear();
        products.resize(list.len(), 0);
        let Some(rows) = ByteRows::new(records.bytes, records.record_bytes, SCALARS_BYTES, self.words.len()) else {
            return;
        };
        if kernels.dots_query(&rows, list, &self.words, products) {
            out.extend(list.iter().zip(products).map(|(row, product)| {
                let scalars = records.get(*row as usize).and_then(Scalars::split);
                scalars.map_or(f32::NAN, |(scalars, _)| self.distance_of(scalars, *product))
            }));
        }
    }

    #[inline]
    fn distance_of(&self, scalars: Scalars, product: i32) -> f32 {
        let product = product as f32 * (self.word_scale * scalars.scale);
        (self.squared_norm + scalars.squared_norm) - 2.0 * product
    }

    /// The metric's distance, smaller is nearer.
    pub fn user_distance(&self, metric: Metric, distance: f32) -> f32 {
        match metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => distance.max(0.0),
            Metric::Cosine => (distance * 0.5 - 1.0).clamp(-1.0, 1.0),
            Metric::Ip => (distance - self.lift) * 0.5,
        }
    }
}

#[derive(Clone, Copy)]
struct Scalars {
    squared_norm: f32,
    scale: f32,
}

impl Scalars {
    #[inline]
    fn split(record: &[u8]) -> Option<(Scalars, &[u8])> {
        let (squared_norm, rest) = record.split_first_chunk::<4>()?;
        let (scale, codes) = rest.split_first_chunk::<4>()?;
        Some((Scalars { squared_norm: f32::from_le_bytes(*squared_norm), scale: f32::from_le_bytes(*scale) }, codes))
    }
}

/// The records of all rows, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    pub bytes: &'a [u8],
    pub record_bytes: usize,
}

impl<'a> Records<'a> {
    /// The record of a row, or `None` for a row that is none.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a [u8]> {
        let first = row * self.record_bytes;
        self.bytes.get(first..first + self.record_bytes)
    }

    /// Asks for the record of a row.
    #[inline]
    pub fn prefetch(&self, kernels: CodeKernels, row: usize) {
        self.prefetch_head(kernels, row, self.record_bytes);
    }

    /// Asks for the first bytes of the record of a row.
    #[inline]
    pub fn prefetch_head(&self, kernels: CodeKernels, row: usize, most: usize) {
        if let Some(record) = self.get(row) {
            kernels.prefetch(&record[..record.len().min(most)]);
        }
    }

    /// The squared distances of a row to others, into `distances.list`; not numbers for rows that are none.
    pub fn distances(&self, left: u32, list: &[u32], distances: &mut RecordDistances) {
        let RecordDistances { products, list: out } = distances;
        out.clear();
        products.resize(list.len(), 0);
        let code_dim = self.record_bytes.saturating_sub(SCALARS_BYTES);
        let rows = ByteRows::new(self.bytes, self.record_bytes, SCALARS_BYTES, code_dim);
        let Some((rows, of_left)) = rows.and_then(|rows| Some((rows, rows.get(left)?))) else { return };
        ByteKernels::get().dots(of_left, &rows, list, products);
        let scalars = |row: u32| self.get(row as usize).and_then(Scalars::split).map(|(scalars, _)| scalars);
        let Some(left) = scalars(left) else { return };
        out.extend(list.iter().zip(products).map(|(row, product)| {
            scalars(*row).map_or(f32::NAN, |right| {
                let product = 2.0 * (left.scale * right.scale) * *product as f32;
                ((left.squared_norm + right.squared_norm) - product).max(0.0)
            })
        }));
    }
}

/// Distances of one row to many, and memory to compute them in.
#[derive(Debug, Default)]
pub(super) struct RecordDistances {
    products: Vec<i32>,
    pub list: Vec<f32>,
}
