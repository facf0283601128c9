//! Large searches are shared: parts of one are done by whichever searchers are idle (`ipc/board.rs`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;

use super::search::prepare;
use super::session::Session;
use crate::index::{Hit, TopK};
use crate::ipc::board::{Board, PART_BYTES_MAX, PART_COUNT, Post, Posted};
use crate::ipc::pool::PoolServer;
use crate::proto::milvus::SearchRequest;
use crate::query::{Part, Search, SearchOptions, Snapshot};
use crate::types::{Result, Timestamp};

/// Fewest bytes of vectors, counted once per query, of a search that is shared. A core scans about 10 GB a second, so this
/// is some 1.5 ms; to wake a helper and let it read the request takes 0.1 ms.
const SHARED_BYTES_MIN: usize = 16 << 20;
/// How long a searcher waits at least for parts that others have under way: a few times what waking up takes.
const WAIT_MIN: Duration = Duration::from_micros(200);
/// Pause between two looks at a part that is under way.
const LOOK_PAUSE: Duration = Duration::from_micros(50);
/// Bytes of a hit in a result: file, row, distance.
const HIT_BYTES: usize = 12;

/// A searcher among the searchers.
#[derive(Debug)]
pub(super) struct Team<'a> {
    /// Where parts are offered.
    pub board: Board,
    /// Where requests come first.
    pub server: &'a PoolServer,
    /// The last post of each searcher that this one cannot help with.
    pub refused: RefCell<HashMap<usize, Posted>>,
}

impl<'a> Team<'a> {
    pub fn new(board: Board, server: &'a PoolServer) -> Team<'a> {
        Team { board, server, refused: RefCell::default() }
    }

    /// The nearest rows, with the help of idle searchers; `None` when nobody could help, or it would not pay.
    pub fn nearest(
        &self,
        session: &Session<'_>,
        snapshot: &Snapshot,
        options: &SearchOptions<'_>,
        search: &Search<'_>,
    ) -> Result<Option<Vec<TopK>>> {
        let Some((posted, parts)) = self.share(session, snapshot, options, search) else { return Ok(None) };
        let mut tops = search.no_hits(search.query_count());
        let mut is_done = [false; PART_COUNT];
        let mut longest = WAIT_MIN;
        while let Some(index) = self.board.take(posted) {
            let started = Instant::now();
            search.search_part(&parts[index], &mut tops[parts[index].queries.clone()])?;
            is_done[index] = true;
            longest = longest.max(started.elapsed());
        }
        // A part that is under way takes about as long as one of ours, unless its helper was killed or has lost its core.
        let end = Instant::now() + 2 * longest;
        for (index, part) in parts.iter().enumerate().filter(|(index, _)| !is_done[*index]) {
            let tops = &mut tops[part.queries.clone()];
            match self.wait_for(posted, index, end).and_then(|bytes| hits_of(&bytes, part)) {
                Some(hits) => {
                    hits.into_iter().zip(tops).for_each(|(hits, top)| hits.into_iter().for_each(|hit| top.push(hit)))
                }
                None => search.search_part(part, tops)?,
            }
        }
        Ok(Some(tops))
    }

    /// Posts a search that is worth it while others are idle.
    fn share(
        &self,
        session: &Session<'_>,
        snapshot: &Snapshot,
        options: &SearchOptions<'_>,
        search: &Search<'_>,
    ) -> Option<(Posted, Vec<Part>)> {
        let idle_count = self.board.idle_count();
        if idle_count == 0 {
            return None;
        }
        let parts = search.parts(PART_COUNT);
        let bytes = parts.weight().saturating_mul(options.queries.values.byte_len());
        if bytes < SHARED_BYTES_MIN {
            return None;
        }
        let parts: Vec<Part> = (0..PART_COUNT).map(|index| parts.get(index)).collect();
        let result_bytes = |part: &Part| {
            let rows: usize = part.rows.iter().map(|(_, window)| window.len()).sum();
            part.queries.len() * (4 + HIT_BYTES * options.fetch().min(rows))
        };
        if parts.iter().any(|part| result_bytes(part) > PART_BYTES_MAX) {
            return None;
        }
        let manifest = &snapshot.view.manifest;
        let posted = self.board.post(&Post {
            timestamp: snapshot.timestamp.0,
            collection: manifest.collection.0 as u64,
            epoch: manifest.epoch.0,
            database: session.database.as_bytes().to_vec(),
            body: session.body.to_vec(),
        })?;
        self.server.wake_others(idle_count.min(PART_COUNT - 1));
        Some((posted, parts))
    }

    fn wait_for(&self, posted: Posted, part: usize, end: Instant) -> Option<Vec<u8>> {
        loop {
            let result = self.board.gather(posted, part);
            if result.is_some() || Instant::now() >= end {
                return result;
            }
            thread::sleep(LOOK_PAUSE);
        }
    }

    /// Helps somebody until no part is left or a request is there; `false` when nobody needs help.
    pub fn help(&self, session: &Session<'_>) -> bool {
        let is_refused = |posted: Posted| self.refused.borrow().get(&posted.entry()) == Some(&posted);
        let Some((posted, post)) = self.board.find(is_refused) else { return false };
        let helped = catch_unwind(AssertUnwindSafe(|| self.help_with(session, posted, &post)));
        if !matches!(helped, Ok(Some(()))) {
            // It is the other's request: it will meet the same error and answer it.
            self.refused.borrow_mut().insert(posted.entry(), posted);
        }
        true
    }

    /// Does parts of a post; `None` when this searcher cannot (it sees another state of the collection, or an error).
    fn help_with(&self, session: &Session<'_>, posted: Posted, post: &Post) -> Option<()> {
        let mut request = SearchRequest::decode(post.body.as_slice()).ok()?;
        let session = Session { database: std::str::from_utf8(&post.database).ok()?, ..*session };
        let mut found = session.find(&request.db_name, &request.collection_name).ok()?;
        let manifest = &found.view().manifest;
        if (manifest.collection.0 as u64, manifest.epoch.0) != (post.collection, post.epoch) {
            return None;
        }
        let timestamp = Timestamp(post.timestamp);
        found.snapshot.timestamp = timestamp;
        let prepared = prepare(&mut found, &mut request).ok()?;
        // An iterator's request names its timestamp: it is the one of the post, or this is not the same search.
        if found.snapshot.timestamp != timestamp {
            return None;
        }
        let search = Search::new(&found.snapshot, &prepared.options).ok()?;
        let parts = search.parts(PART_COUNT);
        while !self.server.has_ready() {
            let Some(index) = self.board.take(posted) else { break };
            // For tests that stop or kill a helper with a part in its hands; an error there means nothing.
            crate::sys::failpoint::reach("board.taken");
            let part = parts.get(index);
            let mut tops = search.no_hits(part.queries.len());
            search.search_part(&part, &mut tops).ok()?;
            self.board.give(posted, index, &bytes_of(tops));
        }
        Some(())
    }
}

/// For each query: the number of hits, then the hits.
fn bytes_of(tops: Vec<TopK>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for top in tops {
        let hits = top.into_sorted();
        bytes.extend_from_slice(&(hits.len() as u32).to_ne_bytes());
        for hit in hits {
            for word in [hit.file_index, hit.row, hit.distance.to_bits()] {
                bytes.extend_from_slice(&word.to_ne_bytes());
            }
        }
    }
    bytes
}

/// The hits of each query of a part; `None` when they are not of this part: another process wrote them.
fn hits_of(bytes: &[u8], part: &Part) -> Option<Vec<Vec<Hit>>> {
    let mut words = bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
    let mut of_queries = Vec::with_capacity(part.queries.len());
    for _ in part.queries.clone() {
        let mut hits = Vec::new();
        for _ in 0..words.next()? {
            let (file_index, row, distance) = (words.next()?, words.next()?, words.next()?);
            if !part.has_row(file_index, row) {
                return None;
            }
            hits.push(Hit { file_index, row, distance: f32::from_bits(distance) });
        }
        of_queries.push(hits);
    }
    Some(of_queries)
}
