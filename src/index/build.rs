//! Building an index over the vectors of one table file: one trait for every kind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::IndexError;
use super::graph::{self, Stage};
use super::hnsw::HnswBuilder;
use super::ivf::IvfBuilder;
use super::spec::{BuildSettings, GraphSettings, IndexSpec};
use crate::kernel::VectorRows;

/// A build that knows how many bytes it will write. What the size depends on may be computed already.
pub trait BuildIndex {
    /// Bytes of the image.
    fn image_bytes(&self) -> usize;

    /// Builds into `image`, which has [`BuildIndex::image_bytes`] bytes, all zero.
    ///
    /// # Errors
    /// When the image has another length, or the vectors cannot be indexed.
    fn write(self: Box<Self>, image: &mut [u8]) -> Result<(), IndexError>;
}

/// How far a build is, in rows: written by its threads, read by whoever shows it.
#[derive(Default)]
pub struct BuildProgress {
    rows_done: AtomicU64,
    observer: Option<Box<dyn Fn(u64) + Send + Sync>>,
}

impl BuildProgress {
    /// Progress that is told to somebody whenever it grows, from any of the build's threads.
    pub fn observed(observer: impl Fn(u64) + Send + Sync + 'static) -> BuildProgress {
        BuildProgress { rows_done: AtomicU64::new(0), observer: Some(Box::new(observer)) }
    }

    /// Notes how many rows are done. Of several stages, each counts for its share.
    pub fn set(&self, rows_done: usize) {
        let rows_done = rows_done as u64;
        if self.rows_done.fetch_max(rows_done, Ordering::Relaxed) < rows_done
            && let Some(observer) = &self.observer
        {
            observer(rows_done);
        }
    }

    /// Rows done so far; never goes back.
    pub fn rows_done(&self) -> u64 {
        self.rows_done.load(Ordering::Relaxed)
    }
}

/// Begins a build of all rows, on `threads` threads.
///
/// # Errors
/// When nothing is built for the kind, or the vectors do not fit it.
pub fn builder<'a>(
    spec: &IndexSpec,
    rows: VectorRows<'a>,
    threads: usize,
    progress: &'a BuildProgress,
) -> Result<Box<dyn BuildIndex + 'a>, IndexError> {
    if rows.dim != spec.dim {
        return Err(IndexError::Build("the vectors have another dimension"));
    }
    match &spec.settings {
        BuildSettings::Flat => Err(IndexError::Build("nothing is built for FLAT")),
        BuildSettings::Graph(settings) => Ok(Box::new(GraphBuild::new(spec, settings, rows, threads, progress)?)),
        BuildSettings::Ivf(settings) => {
            Ok(Box::new(IvfBuilder::new(settings.parameters(spec, threads), rows, progress)?))
        }
        BuildSettings::Hnsw(settings) => {
            Ok(Box::new(HnswBuilder::new(settings.parameters(spec, threads), rows, progress)?))
        }
    }
}

/// The quantised graph.
struct GraphBuild<'a> {
    parameters: graph::BuildParameters,
    rows: VectorRows<'a>,
    image_bytes: usize,
    progress: &'a BuildProgress,
}

impl<'a> GraphBuild<'a> {
    fn new(
        spec: &IndexSpec,
        settings: &GraphSettings,
        rows: VectorRows<'a>,
        threads: usize,
        progress: &'a BuildProgress,
    ) -> Result<GraphBuild<'a>, IndexError> {
        let parameters = graph::BuildParameters {
            code_bits: settings.code_bits,
            ef_construction: settings.ef_construction,
            rounds: settings.rounds,
            seed: settings.seed,
            threads,
            ..graph::BuildParameters::new(spec.metric, spec.dim)
        };
        let builder = graph::Builder::of_rows(parameters, rows, &|_| ())?;
        // What is chosen for the vectors is not chosen twice.
        let parameters = builder.parameters();
        let image_bytes = builder.image_bytes().ok_or(IndexError::Build("there are too many vectors for one file"))?;
        Ok(GraphBuild { parameters, rows, image_bytes, progress })
    }
}

impl BuildIndex for GraphBuild<'_> {
    fn image_bytes(&self) -> usize {
        self.image_bytes
    }

    fn write(self: Box<Self>, image: &mut [u8]) -> Result<(), IndexError> {
        let rounds = self.parameters.rounds;
        let report = |at: graph::Progress| self.progress.set(graph_rows_done(at, rounds));
        graph::Builder::of_rows(self.parameters, self.rows, &report)?.build(image)
    }
}

/// Rows done of a graph, with each stage's share of the time: a round of searches takes longer than everything before it.
fn graph_rows_done(at: graph::Progress, rounds: usize) -> usize {
    const FIRST_SHARE: usize = 3;
    const SEARCH_SHARE: usize = 6;
    const ROUND_SHARE: usize = SEARCH_SHARE + 1;
    let (before, share) = match at.stage {
        Stage::Quantise => (0, 1),
        Stage::Partition => (1, 1),
        Stage::Link(0) => (2, 1),
        Stage::Search(round) => (FIRST_SHARE + round * ROUND_SHARE, SEARCH_SHARE),
        Stage::Link(round) => (FIRST_SHARE + (round - 1) * ROUND_SHARE + SEARCH_SHARE, 1),
    };
    let done = at.row_count * before + at.done * share;
    done / (FIRST_SHARE + rounds * ROUND_SHARE)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn progress_is_told_when_it_grows_and_never_goes_back() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let by = Arc::clone(&told);
        let progress = BuildProgress::observed(move |rows| by.lock().unwrap().push(rows));
        [5, 3, 5, 9, 0].into_iter().for_each(|rows| progress.set(rows));
        assert_eq!((&told.lock().unwrap()[..], progress.rows_done()), (&[5, 9][..], 9));
    }

    #[test]
    fn the_stages_of_a_graph_add_up_to_its_rows() {
        let rounds = 2;
        let stages = [
            Stage::Quantise,
            Stage::Partition,
            Stage::Link(0),
            Stage::Search(0),
            Stage::Link(1),
            Stage::Search(1),
            Stage::Link(2),
        ];
        let at = |stage, done| graph_rows_done(graph::Progress { stage, done, row_count: 1700 }, rounds);
        let mut before = 0;
        for stage in stages {
            assert_eq!(at(stage, 0), before, "{stage:?} begins where the one before ended");
            before = at(stage, 1700);
        }
        assert_eq!(before, 1700);
    }
}
