//! From vectors to an image: train centroids, assign rows, write lists and codes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::kmeans::{Assigner, Members, PIECE_ROWS, Training};
use super::layout::{Parts, Shape, seal};
use crate::index::codes::{CODE_DIM_MAX, CodeErrors, CodeSpace, Coder};
use crate::index::graph::space::{normalise, write_signs};
use crate::index::graph::workers::for_each_piece;
use crate::index::{BuildIndex, BuildProgress, IndexError};
use crate::kernel::VectorRows;
use crate::types::Metric;

/// Shares of the time: training, assigning, coding.
const SHARES: [f32; 3] = [0.5, 0.4, 0.1];

/// How inverted lists are built.
#[derive(Clone, Copy, Debug)]
pub struct IvfParameters {
    /// How vectors are compared.
    pub metric: Metric,
    /// Lists; a file with fewer rows gets as many as it has rows.
    pub list_count: usize,
    /// Whether 8-bit codes decide which rows are near; else the vectors of the column do.
    pub is_coarse: bool,
    /// Of everything random.
    pub seed: u64,
    /// Threads to build with.
    pub threads: usize,
}

/// Builds one image.
pub struct IvfBuilder<'a> {
    parameters: IvfParameters,
    rows: VectorRows<'a>,
    shape: Shape,
    image_bytes: usize,
    progress: &'a BuildProgress,
}

impl<'a> IvfBuilder<'a> {
    /// Looks at the shape of the data alone.
    ///
    /// # Errors
    /// When there are no rows, or too many.
    pub fn new(
        parameters: IvfParameters,
        rows: VectorRows<'a>,
        progress: &'a BuildProgress,
    ) -> Result<IvfBuilder<'a>, IndexError> {
        if rows.is_empty() {
            return Err(IndexError::Build("there are no vectors"));
        }
        if rows.len() >= u32::MAX as usize || rows.dim >= CODE_DIM_MAX {
            return Err(IndexError::Build("there are too many vectors for one file, or they are too long"));
        }
        let shape = Shape {
            space: CodeSpace::of(parameters.metric, &rows),
            row_count: rows.len(),
            list_count: parameters.list_count.clamp(1, rows.len()),
            is_coarse: parameters.is_coarse,
            errors: CodeErrors::default(),
        };
        let image_bytes = shape.image_bytes().ok_or(IndexError::Build("there are too many vectors for one file"))?;
        Ok(IvfBuilder { parameters, rows, shape, image_bytes, progress })
    }

    fn report(&self, stage: usize, share: f32) {
        let before: f32 = SHARES[..stage].iter().sum();
        self.progress.set(((before + share * SHARES[stage]) * self.rows.len() as f32) as usize);
    }

    /// The list of every row.
    fn assign(&self, centroids: &[f32]) -> Result<Vec<u32>, IndexError> {
        let dim = self.rows.dim;
        let mut nearest = vec![0u32; self.rows.len()];
        let is_strange = AtomicBool::new(false);
        let assign = |state: &mut (Assigner, Vec<f32>), first: usize, piece: &mut [u32]| {
            let (assigner, points) = state;
            points.resize(piece.len() * dim, 0.0);
            for (index, point) in points.chunks_exact_mut(dim).enumerate() {
                self.rows.widen(first + index, point);
                if self.parameters.metric == Metric::Cosine {
                    normalise(point);
                }
            }
            if !points.iter().all(|value| value.is_finite()) {
                is_strange.store(true, Ordering::Relaxed);
            }
            assigner.assign(points, centroids, dim, piece);
        };
        let make = || (Assigner::default(), Vec::new());
        let done = |rows: usize| self.report(1, rows as f32 / self.rows.len() as f32);
        for_each_piece(self.parameters.threads, &mut nearest, PIECE_ROWS, make, assign, done);
        if is_strange.into_inner() {
            return Err(IndexError::Build("a vector has an element that is not finite"));
        }
        Ok(nearest)
    }

    /// The codes of vectors, which `widen` gives by their places; tells how far the codes are from them.
    fn write_records(
        &self,
        coder: Coder<'_>,
        widen: impl Fn(usize, &mut [f32]) + Sync,
        records: &mut [u8],
        done: impl Fn(usize) + Sync,
    ) -> Result<CodeErrors, IndexError> {
        let mut records: Vec<&mut [u8]> = records.chunks_exact_mut(self.shape.space.record_bytes()).collect();
        let is_strange = AtomicBool::new(false);
        let errors = Mutex::new(CodeErrors::default());
        let write = |state: &mut (Vec<f32>, Vec<f32>), first: usize, piece: &mut [&mut [u8]]| {
            let (row, placed) = state;
            row.resize(self.rows.dim, 0.0);
            let mut of_piece = CodeErrors::default();
            for (index, record) in piece.iter_mut().enumerate() {
                widen(first + index, row);
                match coder.write_bounded(row, placed, record) {
                    Ok(of_row) => of_piece = of_piece.max(of_row),
                    Err(_) => is_strange.store(true, Ordering::Relaxed),
                }
            }
            let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
            *errors = errors.max(of_piece);
        };
        for_each_piece(self.parameters.threads, &mut records, PIECE_ROWS, Default::default, write, done);
        if is_strange.into_inner() {
            return Err(IndexError::Build("a vector has an element that is not finite"));
        }
        Ok(errors.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BuildIndex for IvfBuilder<'_> {
    fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    fn write(self: Box<Self>, image: &mut [u8]) -> Result<(), IndexError> {
        if image.len() != self.image_bytes {
            return Err(IndexError::Build("the image has another length than asked for"));
        }
        let parts = Parts::of(&self.shape, image).ok_or(IndexError::Build("the image is too short"))?;
        let training = Training {
            list_count: self.shape.list_count,
            is_spherical: self.parameters.metric == Metric::Cosine,
            seed: self.parameters.seed,
            threads: self.parameters.threads,
        };
        let centroids = training.run(&self.rows, |share| self.report(0, share));
        let members = Members::of(&self.assign(&centroids)?, self.shape.list_count);
        write_words(parts.centroids, centroids.iter().map(|value| value.to_bits()));
        write_words(parts.starts, members.starts.iter().copied());
        write_words(parts.rows, members.rows.iter().copied());
        write_signs(parts.signs, self.parameters.seed);
        self.shape.space.write_centre(&self.rows, parts.centre);
        let coder = Coder { space: self.shape.space, signs: parts.signs, centre: parts.centre };
        let dim = self.rows.dim;
        let centroid = |list: usize, out: &mut [f32]| out.copy_from_slice(&centroids[list * dim..][..dim]);
        let centroid_records = &mut parts.centroid_records[..self.shape.list_count * self.shape.space.record_bytes()];
        let of_centroids = self.write_records(coder, centroid, centroid_records, |_| ())?;
        let row = |place: usize, out: &mut [f32]| self.rows.widen(members.rows[place] as usize, out);
        let done = |rows: usize| self.report(2, rows as f32 / self.rows.len() as f32);
        let of_rows = self.write_records(coder, row, parts.records, done)?;
        seal(&Shape { errors: of_centroids.max(of_rows), ..self.shape }, image);
        self.progress.set(self.rows.len());
        Ok(())
    }
}

fn write_words(bytes: &mut [u8], words: impl Iterator<Item = u32>) {
    for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}
