//! The distances of a flat scan, to the bit, for rows that another index found.

use super::IndexError;
use super::flat::{DistanceRange, inverse_norm, negate_cosines};
use super::{Hit, TopK};
use crate::kernel::{CodeKernels, Kernels, RowBlock, Rows, VectorRows};
use crate::types::{Bitmap, Metric};

/// Whether what a search brings fits an index of `row_count` vectors of `dim` elements.
///
/// # Errors
/// When the query's length, the filter or the column does not.
pub(super) fn check_fit(
    dim: usize,
    row_count: usize,
    query: &[f32],
    filter: Option<&Bitmap>,
    source: Option<VectorRows<'_>>,
) -> Result<(), IndexError> {
    if query.len() != dim {
        return Err(IndexError::Mismatch("the query has another dimension"));
    }
    if filter.is_some_and(|filter| filter.row_count() != row_count) {
        return Err(IndexError::Mismatch("the filter has another row count"));
    }
    if source.is_some_and(|source| source.dim != dim || source.len() < row_count) {
        return Err(IndexError::Mismatch("the vector column has fewer rows, or others"));
    }
    Ok(())
}

/// One query, prepared to be compared with rows of a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExactQuery<'a> {
    kernels: Kernels,
    metric: Metric,
    query: &'a [f32],
    rows: VectorRows<'a>,
    /// For COSINE.
    inverse_norm: f32,
}

/// Memory for the distances of some rows, reused.
#[derive(Debug, Default)]
pub(super) struct ExactScratch {
    pub distances: Vec<f32>,
    norms: Vec<f32>,
}

impl<'a> ExactQuery<'a> {
    /// # Errors
    /// When the query has another dimension than the rows.
    pub fn new(metric: Metric, query: &'a [f32], rows: VectorRows<'a>) -> Result<ExactQuery<'a>, IndexError> {
        check_fit(rows.dim, rows.len(), query, None, None)?;
        let kernels = Kernels::get();
        let mut norm = [0.0];
        if metric == Metric::Cosine
            && let Some(block) = RowBlock::new(bytemuck::cast_slice(query), query.len(), Rows::Range(0..1))
        {
            kernels.squared_norms(&block, &mut norm);
        }
        Ok(ExactQuery { kernels, metric, query, rows, inverse_norm: inverse_norm(norm[0]) })
    }

    /// Puts the distances of listed rows into `scratch.distances`: none when a row is none.
    pub fn compute(&self, list: &[u32], scratch: &mut ExactScratch) {
        let ExactScratch { distances, norms, .. } = scratch;
        distances.clear();
        let Some(block) = self.rows.block(Rows::Listed(list)).filter(|block| !block.is_empty()) else { return };
        distances.resize(list.len(), 0.0);
        match self.metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => {
                self.kernels.squared_distances(self.query, &block, distances)
            }
            Metric::Ip => {
                self.kernels.inner_products(self.query, &block, distances);
                distances.iter_mut().for_each(|distance| *distance = -*distance);
            }
            Metric::Cosine => {
                norms.clear();
                norms.resize(list.len(), 0.0);
                self.kernels.inner_products_and_norms(self.query, &block, distances, norms);
                norms.iter_mut().for_each(|norm| *norm = inverse_norm(*norm));
                negate_cosines(self.query, &block, &[self.inverse_norm], norms, distances);
            }
        }
    }

    /// Offers listed rows within the range, and tells how many.
    pub fn offer(&self, list: &[u32], target: &Target, scratch: &mut ExactScratch, top: &mut TopK) -> usize {
        self.compute(list, scratch);
        let mut offered = 0;
        for (row, distance) in list.iter().zip(&scratch.distances) {
            if target.takes(*distance) {
                offered += 1;
                top.push(Hit { file_index: target.file_index, row: *row, distance: *distance });
            }
        }
        offered
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// Asks for the cache lines of a row.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        self.prefetch_head(row, usize::MAX);
    }

    /// Asks for the first bytes of a row.
    #[inline]
    pub fn prefetch_head(&self, row: u32, most: usize) {
        let first = row as usize * self.rows.row_bytes();
        if let Some(bytes) = self.rows.bytes.get(first..first + self.rows.row_bytes().min(most)) {
            CodeKernels::get().prefetch(bytes);
        }
    }
}

/// What hits are labelled with, and which are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub file_index: u32,
    pub range: Option<DistanceRange>,
}

impl Target {
    /// Whether a hit at this distance is wanted.
    #[inline]
    pub fn takes(&self, distance: f32) -> bool {
        self.range.is_none_or(|range| range.low <= distance && distance < range.high)
    }
}
