//! A search cut into parts that can be done in any order, by any process with the same snapshot.

use std::ops::Range;

/// This many query vectors per part make a part of some queries and all rows; fewer queries share the rows instead, because
/// each part by queries reads all rows again. Two searchers then answer 100 queries on 400,000 x 128 rows 1.7 times as fast as
/// one, and 1,024 queries likewise.
const QUERIES_PER_PART_MIN: usize = 64;

/// The parts of one search; every process with the same snapshot and options has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Of each file.
    spans: Vec<Span>,
    query_count: usize,
    /// Each part by queries evaluates the filter again.
    is_filtered: bool,
    part_count: usize,
}

/// Rows of one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// How many.
    pub row_count: usize,
    /// They belong to one part: the file has an index.
    pub is_whole: bool,
}

/// To search an index takes about as long as to scan this many rows.
const WHOLE_WEIGHT: usize = 1024;

impl Span {
    /// Rows to look at.
    fn weight(self) -> usize {
        if self.is_whole { self.row_count.min(WHOLE_WEIGHT) } else { self.row_count }
    }
}

/// Some of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which queries.
    pub queries: Range<usize>,
    /// Which rows of which files.
    pub rows: Vec<(usize, Range<usize>)>,
}

impl Parts {
    pub(super) fn new(spans: Vec<Span>, query_count: usize, is_filtered: bool, part_count: usize) -> Parts {
        Parts { spans, query_count, is_filtered, part_count: part_count.max(1) }
    }

    /// Rows of all files.
    pub fn row_count(&self) -> usize {
        self.spans.iter().map(|span| span.row_count).sum()
    }

    /// Rows that the search looks at, about.
    pub fn weight(&self) -> usize {
        self.spans.iter().map(|span| span.weight()).sum()
    }

    /// Whether the queries are shared, and not the rows.
    fn are_queries_shared(&self) -> bool {
        let whole: usize = self.spans.iter().filter(|span| span.is_whole).map(|span| span.weight()).sum();
        // Searches of an index have nothing in common, so nothing is lost when they are apart.
        let are_mostly_whole = !self.is_filtered && whole * 2 >= self.weight() && whole > 0;
        let queries_min = if are_mostly_whole { 1 } else { QUERIES_PER_PART_MIN };
        self.query_count >= self.part_count * queries_min
    }

    /// Part `index` of them.
    pub fn get(&self, index: usize) -> Part {
        if self.are_queries_shared() {
            return Part { queries: self.share(self.query_count, index), rows: self.window(0..self.weight()) };
        }
        Part { queries: 0..self.query_count, rows: self.window(self.share(self.weight(), index)) }
    }

    fn share(&self, count: usize, index: usize) -> Range<usize> {
        let bound =
            |index: usize| (count as u128 * index.min(self.part_count) as u128 / self.part_count as u128) as usize;
        bound(index)..bound(index + 1)
    }

    /// The files' rows that a range of all rows, file after file, comes to.
    fn window(&self, range: Range<usize>) -> Vec<(usize, Range<usize>)> {
        let mut first = 0;
        let mut windows = Vec::new();
        for (file, span) in self.spans.iter().enumerate() {
            let (start, end) = (range.start.max(first), range.end.min(first + span.weight()));
            match span.is_whole {
                // Of the part that its first row falls into.
                true if start == first && start < end => windows.push((file, 0..span.row_count)),
                false if start < end => windows.push((file, start - first..end - first)),
                _ => {}
            }
            first += span.weight();
        }
        windows
    }
}

impl Part {
    /// Whether a row of a file is in it.
    pub fn has_row(&self, file: u32, row: u32) -> bool {
        self.rows.iter().any(|(of, window)| *of == file as usize && window.contains(&(row as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_an_index_is_never_cut() {
        let spans = vec![Span { row_count: 9000, is_whole: true }, Span { row_count: 9000, is_whole: false }];
        let parts = Parts::new(spans, 3, false, 16);
        let windows: Vec<_> = (0..16).flat_map(|index| parts.get(index).rows).collect();
        assert_eq!(windows.iter().filter(|(file, _)| *file == 0).collect::<Vec<_>>(), [&(0, 0..9000)]);
        assert!(windows.iter().filter(|(file, _)| *file == 1).count() > 10);
    }

    #[test]
    fn parts_are_all_rows_of_all_queries_once() {
        let cases = [(vec![100, 0, 7, 1], 1), (vec![3], 3), (vec![], 2), (vec![5, 5], 1024), (vec![9], 1025)];
        // Every subset of the first three files has an index.
        for ((rows, query_count), whole) in
            cases.into_iter().flat_map(|case| (0..8).map(move |whole| (case.clone(), whole)))
        {
            let span = |(file, &row_count): (usize, &usize)| Span { row_count, is_whole: whole >> file & 1 == 1 };
            let parts = Parts::new(rows.iter().enumerate().map(span).collect(), query_count, whole % 2 == 0, 16);
            let mut seen: Vec<(usize, usize, usize)> = Vec::new();
            for part in (0..16).map(|index| parts.get(index)) {
                for query in part.queries.clone() {
                    for (file, window) in &part.rows {
                        seen.extend(window.clone().map(|row| (query, *file, row)));
                    }
                }
            }
            seen.sort_unstable();
            let of_query = |query| {
                let files = rows.iter().enumerate();
                files.flat_map(move |(file, rows)| (0..*rows).map(move |row| (query, file, row)))
            };
            assert_eq!(seen, (0..query_count).flat_map(of_query).collect::<Vec<_>>());
        }
    }
}
