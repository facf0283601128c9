//! From vectors to an image. Rows are inserted in random order, batch after batch: the rows of a batch look for neighbours in
//! the graph as it was before the batch, on all threads, then their links are written. So threads change nothing in the outcome.

use std::sync::atomic::{AtomicBool, Ordering};

use crc_fast::{CrcAlgorithm, checksum};

use super::layout::{Encoding, LevelMut, Parts, Shape, UPPER_LEVELS_MAX, seal};
use super::link::{Chooser, Neighbour, Offer, answer, write_links};
use super::walk::{Distances, RowDistances, Walker};
use crate::index::codes::{CODE_DIM_MAX, CodeSpace, Coder, RecordDistances, Records};
use crate::index::graph::space::{mix, write_signs};
use crate::index::graph::workers::for_each_piece;
use crate::index::packed::{CodeBits, PackScratch};
use crate::index::twins::Twins;
use crate::index::{BuildIndex, BuildProgress, IndexError};
use crate::kernel::{CodeKernels, VectorElement, VectorRows};
use crate::types::Metric;

/// Rows that a thread takes at once when vectors are copied.
const PIECE_ROWS: usize = 64;
/// Rows of a batch that a thread takes at once.
const PIECE_INSERTS: usize = 4;
/// A batch is this part of the rows that are there: its rows do not see each other.
const BATCH_SHARE: usize = 16;
/// Most rows of a batch: enough for many threads.
const BATCH_ROWS_MAX: usize = 2048;

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub struct HnswParameters {
    /// How vectors are compared.
    pub metric: Metric,
    /// Links of a vertex on upper levels; twice as many on level 0.
    pub m: usize,
    /// Pool of the searches for neighbours.
    pub ef_construction: usize,
    /// Where searches find the vectors.
    pub encoding: Encoding,
    /// Whether distances are those of the column, though there are copies.
    pub is_refined: bool,
    /// Of everything random.
    pub seed: u64,
    /// Threads to build with.
    pub threads: usize,
}

/// Builds one image.
pub struct HnswBuilder<'a> {
    parameters: HnswParameters,
    rows: VectorRows<'a>,
    shape: Shape,
    image_bytes: usize,
    progress: &'a BuildProgress,
}

impl<'a> HnswBuilder<'a> {
    /// Looks at the shape of the data alone.
    ///
    /// # Errors
    /// When there are no rows, or too many.
    pub fn new(
        parameters: HnswParameters,
        rows: VectorRows<'a>,
        progress: &'a BuildProgress,
    ) -> Result<HnswBuilder<'a>, IndexError> {
        if rows.is_empty() {
            return Err(IndexError::Build("there are no vectors"));
        }
        if rows.len() >= 1 << 31 || rows.dim >= CODE_DIM_MAX {
            return Err(IndexError::Build("there are too many vectors for one file, or they are too long"));
        }
        let mut shape = Shape {
            space: CodeSpace::of(parameters.metric, &rows),
            row_count: rows.len(),
            m: parameters.m,
            encoding: parameters.encoding,
            members: [0; UPPER_LEVELS_MAX],
            entry_level: 0,
            entry: 0,
            has_twins: false,
            is_refined: parameters.is_refined || parameters.encoding == Encoding::Column,
        };
        let levels = Levels { seed: parameters.seed, m: parameters.m };
        for row in 0..rows.len() as u32 {
            shape.members[..levels.of(row)].iter_mut().for_each(|members| *members += 1);
        }
        let image_bytes = shape.image_bytes().ok_or(IndexError::Build("there are too many vectors for one file"))?;
        Ok(HnswBuilder { parameters, rows, shape, image_bytes, progress })
    }

    /// Codes of all rows, by which the build compares them.
    fn write_records(&self, coder: Coder<'_>, records: &mut [u8]) -> Result<(), IndexError> {
        let mut records: Vec<&mut [u8]> = records.chunks_exact_mut(self.shape.space.record_bytes()).collect();
        let is_strange = AtomicBool::new(false);
        let write = |state: &mut (Vec<f32>, Vec<f32>), first: usize, piece: &mut [&mut [u8]]| {
            let (row, placed) = state;
            row.resize(self.rows.dim, 0.0);
            for (index, record) in piece.iter_mut().enumerate() {
                self.rows.widen(first + index, row);
                if coder.write_record(row, placed, record).is_err() {
                    is_strange.store(true, Ordering::Relaxed);
                }
            }
        };
        for_each_piece(self.parameters.threads, &mut records, PIECE_ROWS, Default::default, write, |_| ());
        if is_strange.into_inner() {
            return Err(IndexError::Build("a vector has an element that is not finite"));
        }
        Ok(())
    }

    /// Codes of all rows in fewer bits than the build compares them by.
    fn write_packed(&self, coder: Coder<'_>, bits: CodeBits, records: &mut [u8]) {
        let mut records: Vec<&mut [u8]> = records.chunks_exact_mut(self.shape.record_bytes()).collect();
        let write = |state: &mut (Vec<f32>, PackScratch), first: usize, piece: &mut [&mut [u8]]| {
            let (row, scratch) = state;
            row.resize(self.rows.dim, 0.0);
            for (index, record) in piece.iter_mut().enumerate() {
                self.rows.widen(first + index, row);
                coder.write_packed(row, bits, scratch, record);
            }
        };
        for_each_piece(self.parameters.threads, &mut records, PIECE_ROWS, Default::default, write, |_| ());
    }

    /// Copies of all rows in 16 bits per element.
    fn write_halves(&self, element: VectorElement, vectors: &mut [u8]) {
        let mut copies: Vec<&mut [u8]> = vectors.chunks_exact_mut(self.rows.dim * 2).collect();
        let write = |row: &mut Vec<f32>, first: usize, piece: &mut [&mut [u8]]| {
            row.resize(self.rows.dim, 0.0);
            for (index, copy) in piece.iter_mut().enumerate() {
                self.rows.widen(first + index, row);
                for (bytes, value) in copy.as_chunks_mut::<2>().0.iter_mut().zip(row.iter()) {
                    *bytes = match element {
                        VectorElement::BF16 => half::bf16::from_f32(*value).to_le_bytes(),
                        _ => half::f16::from_f32(value.clamp(-F16_MAX, F16_MAX)).to_le_bytes(),
                    };
                }
            }
        };
        for_each_piece(self.parameters.threads, &mut copies, PIECE_ROWS, Vec::new, write, |_| ());
    }

    /// Writes row numbers and places of all levels, and empty links.
    fn write_levels(&self, levels: &mut [LevelMut<'_>]) {
        let level_of = Levels { seed: self.parameters.seed, m: self.parameters.m };
        for upper in 1..levels.len() {
            let (lower, uppers) = levels.split_at_mut(upper);
            let (level, below) = (&mut uppers[0], lower[upper - 1].view());
            let members = (0..self.shape.row_count as u32).filter(|row| level_of.of(*row) >= upper);
            for (bytes, row) in level.rows.as_chunks_mut::<4>().0.iter_mut().zip(members) {
                *bytes = row.to_le_bytes();
            }
            for (bytes, row) in level.below.as_chunks_mut::<4>().0.iter_mut().zip(level.rows.as_chunks::<4>().0) {
                *bytes = below.place(u32::from_le_bytes(*row)).unwrap_or(0).to_le_bytes();
            }
        }
        for level in levels.iter_mut() {
            for place in 0..level.view().count() as u32 {
                write_links(level, place, std::iter::empty());
            }
        }
    }

    /// The order in which rows are inserted, twins left out: upper levels first, so that the first row is where all searches
    /// begin; else at random, so that the rows of a batch are seldom near each other.
    fn order(&self, twins: &Twins) -> Vec<u32> {
        let level_of = Levels { seed: self.parameters.seed, m: self.parameters.m };
        let mut order: Vec<u32> = (0..self.shape.row_count as u32).filter(|row| twins.is_vertex(*row)).collect();
        order.sort_by_cached_key(|row| {
            (std::cmp::Reverse(level_of.of(*row)), mix(self.parameters.seed ^ mix(u64::from(*row) ^ 1 << 40)), *row)
        });
        order
    }

    fn insert_all(&self, levels: &mut [LevelMut<'_>], records: Records<'_>, order: &[u32]) {
        let level_of = Levels { seed: self.parameters.seed, m: self.parameters.m };
        let mut inserted = 1;
        while inserted < order.len() {
            let batch_rows = (inserted / BATCH_SHARE).clamp(1, BATCH_ROWS_MAX);
            let batch = &order[inserted..order.len().min(inserted + batch_rows)];
            let mut found: Vec<Insert> = batch.iter().map(|row| Insert { row: *row, links: Vec::new() }).collect();
            let search = |finder: &mut Finder, _: usize, piece: &mut [Insert]| {
                for insert in piece {
                    insert.links = finder.find(self, levels, records, insert.row, level_of.of(insert.row));
                }
            };
            let threads = if batch.len() <= PIECE_INSERTS { 1 } else { self.parameters.threads };
            for_each_piece(threads, &mut found, PIECE_INSERTS, Finder::default, search, |_| ());
            for (index, level) in levels.iter_mut().enumerate() {
                self.connect(level, index, records, &found);
            }
            inserted += batch.len();
            self.progress.set(inserted);
        }
    }

    /// Writes the links that the rows of a batch chose on one level, and the answers.
    fn connect(&self, level: &mut LevelMut<'_>, index: usize, records: Records<'_>, found: &[Insert]) {
        let mut offers = Vec::new();
        for insert in found {
            let Some(links) = insert.links.get(index) else { continue };
            let Some(place) = level.view().place(insert.row) else { continue };
            write_links(level, place, links.iter().map(|neighbour| neighbour.place));
            offers.extend(links.iter().map(|neighbour| Offer {
                target: neighbour.place,
                source: Neighbour { distance: neighbour.distance, place },
            }));
        }
        answer(level, records, &mut offers, self.parameters.threads);
    }
}

/// Largest finite number of half precision.
const F16_MAX: f32 = 65_504.0;

impl BuildIndex for HnswBuilder<'_> {
    fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    fn write(mut self: Box<Self>, image: &mut [u8]) -> Result<(), IndexError> {
        if image.len() != self.image_bytes {
            return Err(IndexError::Build("the image has another length than asked for"));
        }
        let parts = Parts::of(&self.shape, image).ok_or(IndexError::Build("the image is too short"))?;
        let space = self.shape.space;
        let bits = self.shape.encoding.code_bits();
        // What a search does not need is not in the image, but the build needs it.
        let own_bytes = |bytes: usize, is_own: bool| vec![0u8; if is_own { bytes } else { 0 }];
        let mut own_signs = own_bytes(space.signs_bytes(), bits.is_none());
        let mut own_centre = own_bytes(space.centre_bytes(), bits.is_none());
        let mut own_records = own_bytes(space.record_bytes() * self.shape.row_count, bits != Some(CodeBits::Eight));
        let mut levels = parts.levels;
        let vectors = parts.vectors;
        if let Some(element) = self.shape.encoding.element() {
            self.write_halves(element, vectors);
        }
        let (signs, centre) = match bits {
            Some(_) => (parts.signs, parts.centre),
            None => (&mut own_signs[..], &mut own_centre[..]),
        };
        write_signs(signs, self.parameters.seed);
        space.write_centre(&self.rows, centre);
        let coder = Coder { space, signs, centre };
        let (records, packed) = match bits {
            Some(CodeBits::Eight) => (vectors, None),
            Some(bits) => (&mut own_records[..], Some((bits, vectors))),
            None => (&mut own_records[..], None),
        };
        self.write_records(coder, records)?;
        if let Some((bits, packed)) = packed {
            self.write_packed(coder, bits, packed);
        }
        let records = Records { bytes: records, record_bytes: space.record_bytes() };
        let record = |row: u32| records.get(row as usize).unwrap_or_default();
        let hash = |row| checksum(CrcAlgorithm::Crc64Nvme, record(row));
        let twins = Twins::of(self.shape.row_count, hash, |left, right| record(left) == record(right));
        twins.write(parts.twins);
        self.shape.has_twins = twins.exist();
        self.write_levels(&mut levels);
        let order = self.order(&twins);
        if let Some(first) = order.first() {
            let level_of = Levels { seed: self.parameters.seed, m: self.parameters.m };
            self.shape.entry_level = level_of.of(*first);
            self.shape.entry = levels[self.shape.entry_level].view().place(*first).unwrap_or(0);
        }
        self.insert_all(&mut levels[..=self.shape.entry_level], records, &order);
        self.progress.set(self.shape.row_count);
        seal(&self.shape, image);
        Ok(())
    }
}

/// How high rows reach: each level holds a random `m`-th of the one below.
#[derive(Clone, Copy)]
struct Levels {
    seed: u64,
    m: usize,
}

impl Levels {
    fn of(&self, row: u32) -> usize {
        let mut random = mix(self.seed ^ mix(u64::from(row) ^ 1 << 32));
        let mut level = 0;
        while level < UPPER_LEVELS_MAX && random.is_multiple_of(self.m.max(2) as u64) {
            level += 1;
            random = mix(random);
        }
        level
    }
}

/// A row of a batch and the neighbours it chose, from level 0 up.
struct Insert {
    row: u32,
    links: Vec<Vec<Neighbour>>,
}

/// Looks for neighbours; memory of one thread.
#[derive(Default)]
struct Finder {
    walker: Walker,
    chooser: Chooser,
    out: RecordDistances,
}

impl Finder {
    fn find(
        &mut self,
        builder: &HnswBuilder<'_>,
        levels: &[LevelMut<'_>],
        records: Records<'_>,
        row: u32,
        row_level: usize,
    ) -> Vec<Vec<Neighbour>> {
        let Finder { walker, chooser, out } = self;
        let mut distances = RowDistances { kernels: CodeKernels::get(), records, row, out };
        let mut found = vec![Vec::new(); row_level + 1];
        let Some(top) = levels.last() else { return found };
        let entry = builder.shape.entry;
        let first = distances.compute(&[top.view().row(entry)]).first().copied();
        let mut at = (first.unwrap_or(f32::INFINITY), entry);
        for (index, level) in levels.iter().enumerate().rev() {
            let level = level.view();
            if index > row_level {
                at = walker.descend(&level, at, &mut distances);
            } else {
                // Milvus takes any number: memory goes by what there is to find.
                let ef = builder.parameters.ef_construction.min(level.count());
                walker.walk(&level, at, ef, &mut distances);
                let neighbours = walker.pool.all().map(|(distance, place)| Neighbour { distance, place });
                chooser.candidates.clear();
                chooser.candidates.extend(neighbours.filter(|neighbour| neighbour.distance.is_finite()));
                at = chooser.candidates.first().map_or(at, |nearest| (nearest.distance, nearest.place));
                chooser.choose(&level, records, builder.shape.degree(index));
                found[index].clone_from(&chooser.candidates);
            }
            if let Some(below) = index.checked_sub(1).and_then(|below| levels.get(below)) {
                at.1 = level.below(at.1, &below.view());
            }
        }
        found
    }
}
