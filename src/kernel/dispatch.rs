//! The kernels of this process: the best level the CPU has, found once.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
use super::{bytes::ByteKernels, integers, rows::RowBlock, scalar, tile::Task};

/// Queries that are computed together: callers that pass multiples of it waste nothing.
pub const QUERY_TILE: usize = 6;

/// The SIMD kernels that this CPU can run. Every level gives the same bits (see the module's invariant).
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    level: Level,
    bytes: ByteKernels,
}

/// A level of SIMD, with the proof that the CPU has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    /// Tests and other architectures.
    #[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "only without AVX2"))]
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Kernels {
    /// The best this CPU has.
    pub fn get() -> Kernels {
        static BEST: OnceLock<Kernels> = OnceLock::new();
        let best = || *Level::available().last().unwrap_or(&Level::Scalar);
        *BEST.get_or_init(|| Kernels { level: best(), bytes: ByteKernels::get() })
    }

    /// The level's name, for logs and benches.
    pub fn name(self) -> &'static str {
        match self.level {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => "avx512",
        }
    }

    /// Squared Euclidean distances: `out[query * rows.len() + row]`.
    ///
    /// # Panics
    /// When `queries` is not whole queries of `rows.dim()` elements or `out` has not one place per query and row.
    pub fn squared_distances(self, queries: &[f32], rows: &RowBlock<'_>, out: &mut [f32]) {
        check_lengths(queries, rows, out);
        self.run(Task::SquaredDistances { queries, rows, out });
    }

    /// Inner products: `out[query * rows.len() + row]`.
    ///
    /// # Panics
    /// When `queries` is not whole queries of `rows.dim()` elements or `out` has not one place per query and row.
    pub fn inner_products(self, queries: &[f32], rows: &RowBlock<'_>, out: &mut [f32]) {
        check_lengths(queries, rows, out);
        self.run(Task::InnerProducts { queries, rows, out });
    }

    /// Inner products with one query, and the squared norms of the rows, reading the rows once.
    ///
    /// # Panics
    /// When `query` has not `rows.dim()` elements or `out` or `norms` has not one place per row.
    pub fn inner_products_and_norms(self, query: &[f32], rows: &RowBlock<'_>, out: &mut [f32], norms: &mut [f32]) {
        assert!(query.len() == rows.dim() && norms.len() == rows.len());
        check_lengths(query, rows, out);
        self.run(Task::InnerProductsAndNorms { query, rows, out, norms });
    }

    /// The squared norms of the rows.
    ///
    /// # Panics
    /// When `norms` has not one place per row.
    pub fn squared_norms(self, rows: &RowBlock<'_>, norms: &mut [f32]) {
        assert_eq!(norms.len(), rows.len());
        self.run(Task::Norms { rows, norms });
    }

    /// The rows as `f32`, row by row.
    ///
    /// # Panics
    /// When `out` has not `rows.dim()` places per row.
    pub fn widen(self, rows: &RowBlock<'_>, out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * rows.dim());
        self.run(Task::Widen { rows, out });
    }

    fn run(self, task: Task<'_>) {
        if integers::are_for(&task) {
            // SAFETY: it was just asked, and lengths were checked above.
            return unsafe { self.bytes.run(task, |task| self.run_widened(task)) };
        }
        self.run_widened(task);
    }

    /// Elements become `f32` as they are loaded.
    fn run_widened(self, task: Task<'_>) {
        match self.level {
            Level::Scalar => scalar::run(task),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(token) => token.run(task),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(token) => token.run(task),
        }
    }

    /// Every level this CPU has, to compare them.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<Kernels> {
        let bytes = ByteKernels::every();
        let of_level = |(index, level)| Kernels { level, bytes: bytes[bytes.len().min(index + 1) - 1] };
        Level::available().into_iter().enumerate().map(of_level).collect()
    }
}

impl Level {
    /// From the plainest to the best.
    pub(super) fn available() -> Vec<Level> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "other levels are x86-64's"))]
        let mut levels = vec![Level::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::detect().map(Level::Avx2));
            levels.extend(Avx512::detect().map(Level::Avx512));
        }
        levels
    }
}

/// The kernels index without checks: what they rely on is checked here, once per block.
fn check_lengths(queries: &[f32], rows: &RowBlock<'_>, out: &[f32]) {
    assert!(queries.len().is_multiple_of(rows.dim()), "{} is not whole queries of {}", queries.len(), rows.dim());
    assert_eq!(out.len(), queries.len() / rows.dim() * rows.len());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
