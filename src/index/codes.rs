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
/// Squared norms of vectors that are normalised to the last bits; the cosines of others are not those of their codes.
const NORMAL_SQUARES: std::ops::Range<f32> = 1e-30..1e30;
/// Packed records that are unpacked before they are compared.
const UNPACKED_ROWS: usize = 16;
/// What is computed to find a bound is itself rounded.
const ROUND_UP: f32 = 1.001;
/// Roundings, each of 2^-24 of a squared norm at most, between a distance and the one of rotated vectors that are not quantised: four
/// rounds of at most 17 additions, of rows and queries; then one for every fourth element.
const ROUNDINGS: f32 = 320.0;

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

    /// As [`Coder::write_record`], and gives how far the code is from the row: what [`CodedQuery::margins`] needs of all rows. A row whose distances its code does not tell gets no number as its squared norm.
    ///
    /// # Errors
    /// When an element is not finite.
    pub fn write_bounded(
        &self,
        row: &[f32],
        placed: &mut Vec<f32>,
        record: &mut [u8],
    ) -> Result<CodeErrors, IndexError> {
        self.write_record(row, placed, record)?;
        let Some((Scalars { squared_norm, scale }, codes)) = Scalars::split(record) else {
            return Ok(CodeErrors::default());
        };
        let codes: &[i8] = bytemuck::cast_slice(codes);
        let square =
            placed.iter().zip(codes).map(|(value, code)| (value - scale * f32::from(*code)).powi(2)).sum::<f32>();
        if self.space.metric == Metric::Cosine && !NORMAL_SQUARES.contains(&dot(row, row)) {
            // A zero vector has cosine 0 to everything: twice the squared norm of a direction.
            let is_zero = row.iter().all(|value| *value == 0.0);
            let squared_norm = if is_zero { squared_norm + 1.0 } else { f32::NAN };
            record[..4].copy_from_slice(&squared_norm.to_le_bytes());
        }
        // Rounding moves no element by more than half a step; what is too small for that to be true is lost in the margins.
        let most = (self.space.code_dim() as f32).sqrt();
        let steps_max = if scale > 0.0 { (square.sqrt() / scale * ROUND_UP).min(most) } else { 0.0 };
        Ok(CodeErrors { steps_max, scale_max: scale })
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

    /// Makes a query of a vector. For IP it is neither lifted nor centred: distances are twice the negated products with centred rows.
    pub fn place_query(&self, query: &[f32], out: &mut CodedQuery) {
        out.placed.clear();
        out.placed.extend_from_slice(query);
        out.placed.resize(self.space.code_dim(), 0.0);
        let square = dot(query, query);
        (out.space, out.squared_norm, out.norm_weight, out.lift) = (Some(self.space), 0.0, 1.0, 0.0);
        match self.space.metric {
            Metric::Ip => {
                let centre = self.centre().map(f32::from_le_bytes);
                out.lift = 2.0 * centre.zip(query).map(|(centre, value)| centre * value).sum::<f32>();
                out.norm_weight = 0.0;
                rotate(&mut out.placed, self.signs);
            }
            Metric::Cosine => {
                normalise(&mut out.placed[..query.len()]);
                out.squared_norm = self.centre_and_rotate(&mut out.placed);
            }
            Metric::L2 | Metric::Hamming | Metric::Jaccard => {
                out.squared_norm = self.centre_and_rotate(&mut out.placed)
            }
        }
        out.square = square;
        out.make_words();
    }

    fn centre(&self) -> impl Iterator<Item = [u8; 4]> {
        self.centre.as_chunks::<4>().0[..self.space.inner_dim()].iter().copied()
    }

    fn centre_and_rotate(&self, values: &mut [f32]) -> f32 {
        for (value, centre) in values.iter_mut().zip(self.centre()) {
            *value -= f32::from_le_bytes(centre);
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
    /// Of the vector as it came.
    square: f32,
    /// In the space of the codes; 0 for IP.
    squared_norm: f32,
    /// What squared norms of rows count: nothing for IP.
    norm_weight: f32,
    /// For IP: what distances have on top of twice the negated product, twice the product with the centre.
    lift: f32,
    space: Option<CodeSpace>,
}

/// How far a distance of codes may be from that of the vectors: `of_scale` times a row's scale, and of squared norms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margins {
    of_scale: f32,
    of_squares: f32,
    always: f32,
    /// No margin of a row is greater.
    pub greatest: f32,
}

/// How far codes are from their vectors at most, of all rows of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CodeErrors {
    /// In steps of the code's own scale.
    pub steps_max: f32,
    /// The greatest scale.
    pub scale_max: f32,
}

impl CodeErrors {
    /// Of both.
    pub fn max(self, other: CodeErrors) -> CodeErrors {
        let CodeErrors { steps_max, scale_max } = other;
        CodeErrors { steps_max: self.steps_max.max(steps_max), scale_max: self.scale_max.max(scale_max) }
    }
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

    /// As [`CodedQuery::distances`], of records with 4 or 6 bits for each element. `unpacked` is memory to work in.
    pub fn packed_distances(
        &self,
        kernels: CodeKernels,
        (records, bits): (&Records<'_>, CodeBits),
        list: &[u32],
        unpacked: &mut Vec<u8>,
        distances: &mut RecordDistances,
    ) {
        distances.list.clear();
        let record_bytes = SCALARS_BYTES + self.words.len();
        if records.record_bytes != SCALARS_BYTES + bits.bytes(self.words.len()) {
            return;
        }
        unpacked.resize(UNPACKED_ROWS * record_bytes, 0);
        for some in list.chunks(UNPACKED_ROWS) {
            for (row, record) in some.iter().zip(unpacked.chunks_exact_mut(record_bytes)) {
                let Some(packed) = records.get(*row as usize) else { return distances.list.clear() };
                let (scalars, codes) = record.split_at_mut(SCALARS_BYTES);
                scalars.copy_from_slice(&packed[..SCALARS_BYTES]);
                bits.unpack(&packed[SCALARS_BYTES..], codes);
            }
            // Listed, several are read at once also when they are long: all of them are in the cache.
            let places: [u32; UNPACKED_ROWS] = std::array::from_fn(|place| place as u32);
            self.add_distances(
                kernels,
                &Records { bytes: unpacked, record_bytes },
                &Rows::Listed(&places[..some.len()]),
                distances,
            );
        }
    }

    /// The distances of some records in the space of the codes, several at a time, into `distances.list`: none when one of them is no record.
    pub fn distances(
        &self,
        kernels: CodeKernels,
        records: &Records<'_>,
        which: &Rows<'_>,
        distances: &mut RecordDistances,
    ) {
        distances.list.clear();
        self.add_distances(kernels, records, which, distances);
    }

    /// As [`CodedQuery::distances`], behind those that are there.
    fn add_distances(
        &self,
        kernels: CodeKernels,
        records: &Records<'_>,
        which: &Rows<'_>,
        distances: &mut RecordDistances,
    ) {
        let RecordDistances { products, list: out } = distances;
        let count = match which {
            Rows::Range(range) => range.len(),
            Rows::Listed(list) => list.len(),
        };
        products.resize(count, 0);
        let Some(rows) = ByteRows::new(records.bytes, records.record_bytes, SCALARS_BYTES, self.words.len()) else {
            return;
        };
        if !kernels.dots_query(&rows, which, &self.words, products) {
            return;
        }
        let distance = |record: Option<&[u8]>, product: i32| {
            record.and_then(Scalars::split).map_or(f32::NAN, |(scalars, _)| self.distance_of(scalars, product))
        };
        match which {
            Rows::Range(range) => {
                let records = records.bytes[range.start * records.record_bytes..].chunks_exact(records.record_bytes);
                out.extend(records.zip(products).map(|(record, product)| distance(Some(record), *product)));
            }
            Rows::Listed(list) => {
                let records = list.iter().map(|row| records.get(*row as usize));
                out.extend(records.zip(products).map(|(record, product)| distance(record, *product)));
            }
        }
    }

    #[inline]
    fn distance_of(&self, scalars: Scalars, product: i32) -> f32 {
        let product = product as f32 * (self.word_scale * scalars.scale);
        (self.squared_norm + self.norm_weight * scalars.squared_norm) - 2.0 * product
    }

    /// How far distances of codes may be from those of a scan, when codes are no farther from their rows than `errors`; `None`
    /// when codes say nothing about this query.
    ///
    /// With `q = w + f` and `x = s c + e`, words and codes in front, the product of `q` and `x` differs from that of `w` and `s c` by
    /// `f s c + q e`, which is at most `|f| s |c| + |q| s steps_max`; what floats are rounded by comes on top.
    pub fn margins(&self, errors: CodeErrors) -> Option<Margins> {
        let space = self.space?;
        let dim = self.words.len() as f32;
        let norm = if space.metric == Metric::Ip { self.square.sqrt() } else { self.squared_norm.sqrt() };
        let of_words = 0.51 * self.word_scale * 127.0 * dim;
        let rounding = (ROUNDINGS + dim * 0.25) * f32::EPSILON * 0.5;
        let always = match space.metric {
            Metric::Cosine => rounding,
            // A row, lifted, and the centre have the greatest norm at most.
            Metric::Ip => rounding * 4.0 * norm * space.squared_norm_max.sqrt(),
            Metric::L2 | Metric::Hamming | Metric::Jaccard => 0.0,
        };
        let is_told = space.metric != Metric::Cosine || NORMAL_SQUARES.contains(&self.square);
        let CodeErrors { steps_max, scale_max } = errors;
        let of_scale = 2.0 * ROUND_UP * (of_words + norm * steps_max);
        let always = always + rounding * self.squared_norm;
        // No element of a code is greater than 127.
        let square_max = 127.0f32.powi(2) * dim * scale_max * scale_max + 1.0;
        let greatest = ROUND_UP * (of_scale * scale_max + rounding * square_max + always);
        is_told.then_some(Margins { of_scale, of_squares: rounding, always, greatest })
    }

    /// How far the distance of a record may be from that of its vector.
    #[inline]
    pub fn margin(&self, margins: &Margins, record: &[u8]) -> f32 {
        let Some((scalars, _)) = Scalars::split(record) else { return f32::INFINITY };
        let of_squares = margins.of_squares * (self.norm_weight * scalars.squared_norm);
        margins.of_scale * scalars.scale + (of_squares + margins.always)
    }

    /// The metric's distance, smaller is nearer.
    pub fn user_distance(&self, metric: Metric, distance: f32) -> f32 {
        match metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => distance.max(0.0),
            Metric::Cosine => (distance * 0.5 - 1.0).clamp(-1.0, 1.0),
            Metric::Ip => (distance - self.lift) * 0.5,
        }
    }

    /// The other way round.
    pub fn code_distance(&self, metric: Metric, distance: f32) -> f32 {
        match metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => distance,
            Metric::Cosine => (distance + 1.0) * 2.0,
            Metric::Ip => distance * 2.0 + self.lift,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::index::graph::space::write_signs;
    use crate::index::trial::clustered;

    /// A query along the difference of a row from its code has the greatest error there is.
    #[test]
    fn the_greatest_error_of_a_distance_is_within_its_margin_and_fills_it() {
        const DIM: usize = 32;
        const ROWS: usize = 300;
        let space = CodeSpace { metric: Metric::L2, dim: DIM, squared_norm_max: 0.0 };
        let (mut signs, centre) = (vec![0; space.signs_bytes()], vec![0; space.centre_bytes()]);
        write_signs(&mut signs, 1);
        let coder = Coder { space, signs: &signs, centre: &centre };
        let values = clustered(ROWS, DIM, 1);
        let mut bytes = vec![0; ROWS * space.record_bytes()];
        let mut placed = Vec::new();
        let mut errors = CodeErrors::default();
        for (row, record) in values.chunks_exact(DIM).zip(bytes.chunks_exact_mut(space.record_bytes())) {
            errors = errors.max(coder.write_bounded(row, &mut placed, record).unwrap());
        }
        // The rotation's rows, to go back with.
        let axes: Vec<Vec<f32>> = (0..DIM)
            .map(|axis| {
                let mut unit = [0.0; DIM];
                unit[axis] = 1.0;
                coder.place_row(&unit, &mut placed);
                placed.clone()
            })
            .collect();
        let records = Records { bytes: &bytes, record_bytes: space.record_bytes() };
        let (mut query, mut distances, mut filled) = (CodedQuery::default(), RecordDistances::default(), 0.0f32);
        for (index, row) in values.chunks_exact(DIM).enumerate() {
            let record = records.get(index).unwrap();
            let (Scalars { scale, .. }, codes) = Scalars::split(record).unwrap();
            coder.place_row(row, &mut placed);
            let error: Vec<f32> =
                placed.iter().zip(codes).map(|(value, code)| value - scale * f32::from(*code as i8)).collect();
            let along: Vec<f32> = axes.iter().map(|axis| 500.0 * dot(axis, &error)).collect();
            coder.place_query(&along, &mut query);
            let margins = query.margins(errors).unwrap();
            query.distances(CodeKernels::get(), &records, &Rows::Range(index..index + 1), &mut distances);
            let exact: f64 = along.iter().zip(row).map(|(left, right)| f64::from(left - right).powi(2)).sum();
            let (wrong, margin) = ((f64::from(distances.list[0]) - exact).abs() as f32, query.margin(&margins, record));
            assert!(wrong <= margin && margin <= margins.greatest, "row {index}: {wrong}, {margin}, {margins:?}");
            filled = filled.max(wrong / margin);
        }
        assert!(filled > 0.85, "{filled}");
    }
}
