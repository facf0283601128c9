//! Pages of a search iterator. A page goes on beyond the last hit of the one before: a row that a search missed would never
//! come. So all rows are compared, many more hits are found than a page has, and the pages that follow are cut out of these.
//!
//! What is kept is no state of an iterator: a page that another searcher answers, or that comes after the collection has
//! changed, is found anew, and is the same.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};

use prost::Message;

use super::search_params::{IteratorParams, is_of_one_page};
use crate::config::limits::{ITERATORS_KEPT_MAX, TIED_ROWS_MAX, TOP_K_MAX};
use crate::index::TopK;
use crate::index::flat::DistanceRange;
use crate::proto::milvus::SearchRequest;
use crate::query::{Search, SearchHits, SearchOptions, Snapshot};
use crate::shm::attach::CollectionView;
use crate::types::{Error, Metric, Result, Timestamp};

/// Pages that are found at once, and hits at least: an iterator is most often asked for several pages.
const PAGES_AT_ONCE: usize = 16;
const HITS_AT_ONCE_MIN: usize = 1024;

thread_local! {
    /// Used last comes last.
    static KEPT: RefCell<VecDeque<Kept>> = const { RefCell::new(VecDeque::new()) };
}

/// Hits that are looked for when a page has so many.
pub(super) fn hits_at_once(page: usize) -> usize {
    page.saturating_mul(PAGES_AT_ONCE).clamp(HITS_AT_ONCE_MIN, TOP_K_MAX).max(page)
}

/// What the pages of an iterator have in common: its request without what differs from page to page.
pub(super) fn in_common(request: &SearchRequest) -> Vec<u8> {
    let mut request = request.clone();
    request.search_params.retain(|pair| !is_of_one_page(&pair.key));
    SearchRequest { guarantee_timestamp: 0, output_fields: Vec::new(), ..request }.encode_to_vec()
}

/// What pages are cut out of.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    /// What the pages of this iterator have in common.
    pub in_common: Vec<u8>,
    /// This page.
    pub iterator: &'a IteratorParams,
    /// Where it looks for rows.
    pub snapshot: &'a Snapshot,
    /// The search that finds them.
    pub options: &'a SearchOptions<'a>,
}

/// Hits that were found for some pages.
#[derive(Debug)]
struct Kept {
    in_common: Vec<u8>,
    view: Weak<CollectionView>,
    timestamp: Timestamp,
    expired_until: Timestamp,
    run: Run,
}

/// Hits in a row.
#[derive(Clone, Debug)]
struct Run {
    /// No hit before the first is at this distance, or beyond it.
    low: f32,
    metric: Metric,
    hits: SearchHits,
    /// Behind the last one there is none.
    is_whole: bool,
}

impl Pages<'_> {
    /// The next page; `nearest` finds the hits of `options`.
    ///
    /// # Errors
    /// When the collection is damaged, or too many rows are exactly as far as the last one of the page.
    pub fn next(&self, search: &Search<'_>, nearest: impl FnOnce() -> Result<Vec<TopK>>) -> Result<SearchHits> {
        let low = self.options.range.map_or(f32::NEG_INFINITY, |range| range.low);
        let count = self.iterator.batch_size;
        if let Some(page) = self.kept(|run| run.page(low, count)) {
            return Ok(page);
        }
        let hits = search.finish(nearest()?)?.pop().unwrap_or_default();
        let is_whole = hits.rows.len() < self.options.top_k;
        let mut run = Run { low, metric: self.options.queries.metric, hits, is_whole };
        let page = match run.page(low, count) {
            Some(page) => page,
            None => {
                self.add_tied(&mut run)?;
                run.hits.clone()
            }
        };
        self.keep(run);
        Ok(page)
    }

    /// Adds all that are as far as the last hit.
    fn add_tied(&self, run: &mut Run) -> Result<()> {
        let Some(low) = run.hits.scores.last().map(|score| run.distance(*score)) else { return Ok(()) };
        let range = Some(DistanceRange { low, high: low.next_up() });
        let options = SearchOptions { top_k: TIED_ROWS_MAX, range, ..self.options.clone() };
        let search = Search::new(self.snapshot, &options)?;
        let tied = search.finish(search.nearest()?)?.pop().unwrap_or_default();
        if tied.rows.len() >= TIED_ROWS_MAX {
            return Err(Error::invalid(format_args!(
                "cannot end a page of the iterator: {TIED_ROWS_MAX} rows or more are exactly as far from the query; a filter \
                 that tells them apart makes several iterators of this one"
            )));
        }
        let before = run.before(low);
        run.hits.rows.truncate(before);
        run.hits.scores.truncate(before);
        run.hits.rows.extend(tied.rows);
        run.hits.scores.extend(tied.scores);
        Ok(())
    }

    fn kept(&self, page: impl FnOnce(&Run) -> Option<SearchHits>) -> Option<SearchHits> {
        KEPT.with_borrow_mut(|kept| {
            let place = kept.iter().position(|kept| self.is_of(kept))?;
            let entry = kept.remove(place)?;
            let page = page(&entry.run);
            kept.push_back(entry);
            page
        })
    }

    fn keep(&self, run: Run) {
        let Snapshot { timestamp, view, expired_until } = self.snapshot;
        let entry = Kept {
            in_common: self.in_common.clone(),
            view: Arc::downgrade(view),
            timestamp: *timestamp,
            expired_until: *expired_until,
            run,
        };
        KEPT.with_borrow_mut(|kept| {
            kept.retain(|kept| !self.is_of(kept) && kept.view.strong_count() > 0);
            if kept.len() >= ITERATORS_KEPT_MAX {
                kept.pop_front();
            }
            kept.push_back(entry);
        });
    }

    fn is_of(&self, kept: &Kept) -> bool {
        let Snapshot { timestamp, view, expired_until } = self.snapshot;
        (kept.timestamp, kept.expired_until) == (*timestamp, *expired_until)
            && std::ptr::eq(kept.view.as_ptr(), Arc::as_ptr(view))
            && kept.in_common == self.in_common
    }
}

impl Run {
    /// The first `count` hits that are not before `low`, and those that are as far as the last of them; `None` when there may be
    /// others.
    fn page(&self, low: f32, count: usize) -> Option<SearchHits> {
        let range = self.page_range(low, count)?;
        let SearchHits { rows, scores, .. } = &self.hits;
        Some(SearchHits { rows: rows[range.clone()].to_vec(), scores: scores[range].to_vec(), groups: Vec::new() })
    }

    fn page_range(&self, low: f32, count: usize) -> Option<Range<usize>> {
        let scores = &self.hits.scores;
        let begin = self.before(low);
        let last = begin.saturating_add(count).min(scores.len());
        let end = match scores[begin..last].last() {
            Some(score) => self.before(self.distance(*score).next_up()),
            None => begin,
        };
        (low >= self.low && (self.is_whole || end < scores.len())).then_some(begin..end)
    }

    /// How many hits are nearer.
    fn before(&self, distance: f32) -> usize {
        self.hits.scores.partition_point(|score| self.distance(*score) < distance)
    }

    fn distance(&self, score: f32) -> f32 {
        if self.metric.is_similarity() { 0.0 - score } else { score }
    }
}
