//! The true nearest rows: read from a file, or computed on every core.

use std::path::Path;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use super::vectors::{Table, load_rows};
use crate::index::flat::scan;
use crate::index::{Queries, TopK, VectorColumn};
use crate::types::{Bitmap, Error, Metric, Result};

/// Queries that a thread takes at once: they share one pass over the rows.
const BATCH_QUERIES: usize = 64;

/// A bar on the terminal; none elsewhere.
pub(super) fn progress_bar(what: &'static str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3} %  {elapsed}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The `k` nearest rows of each query, of those that may be found.
pub(super) fn compute(
    metric: Metric,
    base: &Table<f32>,
    queries: &Table<f32>,
    k: usize,
    filter: Option<&Bitmap>,
) -> Result<Table<u32>> {
    let row_count = filter.map_or(base.rows(), Bitmap::count_ones);
    if k > row_count {
        return Err(Error::invalid(format!("--k {k} is more than the {row_count} rows that may be found")));
    }
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let bar = progress_bar("exact neighbours", queries.rows());
    let mut values = vec![0; queries.rows() * k];
    let batches = queries.values.chunks(BATCH_QUERIES * queries.dim).zip(values.chunks_mut(BATCH_QUERIES * k));
    let batches = Mutex::new(batches);
    let work = || {
        loop {
            let batch = batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
            let Some((batch, out)) = batch else { return };
            let queries = Queries::dense(queries.dim, metric, batch.to_vec());
            let mut tops = vec![TopK::new(k); out.len() / k];
            let column = VectorColumn::of_f32(bytemuck::cast_slice(&base.values), base.dim);
            scan(&queries, column, 0..base.rows(), filter, None, 0, &mut tops);
            for (out, top) in out.chunks_mut(k).zip(tops) {
                out.iter_mut().zip(top.into_sorted()).for_each(|(out, hit)| *out = hit.row);
            }
            bar.inc((out.len() / k) as u64);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    Ok(Table { dim: k, values })
}

/// The first `k` of each row of a file.
pub(super) fn read(path: &Path, metric: Metric, rows: usize, query_count: usize, k: usize) -> Result<Table<u32>> {
    let table = load_rows(path, metric)?;
    let fits = table.rows() >= query_count && table.dim >= k && table.values.iter().all(|row| (*row as usize) < rows);
    if !fits {
        let found = format!("it has {} x {}", table.rows(), table.dim);
        let wanted = format!("{query_count} x {k} numbers of rows below {rows} are needed");
        return Err(Error::invalid(format!("{} is no truth for these data: {wanted}; {found}", path.display())));
    }
    let values = (0..query_count).flat_map(|query| table.row(query)[..k].to_vec()).collect();
    Ok(Table { dim: k, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_find_what_a_plain_search_finds() {
        let base = Table { dim: 1, values: (0..500).map(|row| row as f32).collect() };
        let queries = Table { dim: 1, values: (0..200).map(|query| query as f32 + 0.1).collect() };
        let truth = compute(Metric::L2, &base, &queries, 2, None).unwrap();
        for query in 0..200 {
            assert_eq!(truth.row(query), [query as u32, query as u32 + 1]);
        }
        assert!(compute(Metric::L2, &base, &queries, 501, None).is_err());
        let mut even = Bitmap::zeros(500);
        (0..500).step_by(2).for_each(|row| even.set(row, true));
        assert_eq!(compute(Metric::L2, &base, &queries, 1, Some(&even)).unwrap().row(4), [4]);
        assert!(compute(Metric::L2, &base, &queries, 251, Some(&even)).is_err());
    }

    #[test]
    fn a_truth_of_other_data_is_refused() {
        let mut file = tempfile::Builder::new().suffix(".ivecs").tempfile().unwrap();
        std::io::Write::write_all(&mut file, &[2, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0]).unwrap();
        let read = |rows, query_count, k| read(file.path(), Metric::L2, rows, query_count, k);
        assert_eq!(read(7, 1, 1).unwrap().values, [5]);
        assert!(read(6, 1, 1).is_err());
        assert!(read(7, 2, 1).is_err());
        assert!(read(7, 1, 3).is_err());
    }
}
