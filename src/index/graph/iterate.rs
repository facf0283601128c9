//! A search that goes on for as long as more rows are wanted, nearest first, each row once.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::filtered::Plan;
use super::layout::{Block, Graph};
use super::search::{Candidate, Scratch, SearchParameters};
use super::space::Space;
use crate::index::{Hit, IndexError, TopK};
use crate::kernel::CodeKernels;
use crate::types::Bitmap;

/// Nearest first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Nearest(Candidate);

impl Eq for Nearest {}

impl PartialOrd for Nearest {
    fn partial_cmp(&self, other: &Nearest) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nearest {
    fn cmp(&self, other: &Nearest) -> Ordering {
        self.0.order(&other.0)
    }
}

/// The state of a search between two calls. Its memory grows with the rows it met, and is a bit per row besides.
#[derive(Debug)]
pub struct Iteration<'a> {
    graph: Graph<'a>,
    query: Vec<f32>,
    parameters: SearchParameters<'a>,
    scratch: Scratch,
    visited: Bitmap,
    /// Estimated, perhaps visited since.
    frontier: BinaryHeap<Reverse<Nearest>>,
    /// Wanted, with 8-bit distances, not handed out.
    pending: BinaryHeap<Reverse<Nearest>>,
}

impl<'a> Graph<'a> {
    /// Begins a search whose rows are taken batch by batch; `parameters.ef` is how far it looks ahead of what it hands out.
    ///
    /// # Errors
    /// When the query's length, the filter or the column does not fit the graph.
    pub fn iterate(&self, query: &[f32], parameters: SearchParameters<'a>) -> Result<Iteration<'a>, IndexError> {
        self.check(query, parameters.filter, parameters.source)?;
        let mut scratch = Scratch::new();
        scratch.query.place(&Space { shape: &self.shape, signs: self.signs, centre: self.centre }, query);
        let mut iteration = Iteration {
            graph: *self,
            query: query.to_vec(),
            parameters,
            scratch,
            visited: Bitmap::zeros(self.shape.row_count),
            frontier: BinaryHeap::new(),
            pending: BinaryHeap::new(),
        };
        let is_scan = parameters
            .filter
            .is_some_and(|filter| self.plan(parameters.k, parameters.ef, filter.count_ones()) == Plan::Scan);
        if is_scan {
            iteration.look_at_unvisited();
        } else {
            iteration.frontier.push(Reverse(Nearest(Candidate { distance: f32::INFINITY, id: self.shape.entry })));
            iteration.begin();
        }
        Ok(iteration)
    }
}

impl Iteration<'_> {
    /// The next `count` rows, nearest first; fewer when there are no more. Rows of one call are in order; a row may be a little
    /// nearer than the last ones of the call before.
    pub fn next_nearest(&mut self, count: usize) -> Vec<Hit> {
        while self.pending.len() < count.saturating_add(self.parameters.ef) {
            match self.frontier.pop() {
                Some(Reverse(Nearest(next))) => self.visit(next.id),
                // What no edge leads to is still to be found.
                None if self.visited.count_ones() < self.visited.row_count() => self.look_at_unvisited(),
                None => break,
            }
        }
        let nearest: Vec<Candidate> =
            std::iter::from_fn(|| self.pending.pop()).take(count).map(|Reverse(Nearest(next))| next).collect();
        let mut top = TopK::new(nearest.len());
        let SearchParameters { source, file_index, .. } = self.parameters;
        self.graph.offer(&self.query, source, &nearest, file_index, &mut self.scratch, &mut top);
        top.into_sorted()
    }

    /// Rows whose neighbours or vectors were looked at so far.
    pub fn visited_count(&self) -> usize {
        self.visited.count_ones()
    }

    fn begin(&mut self) {
        let graph = self.graph;
        let near: Vec<_> = graph.near_parts(CodeKernels::get(), &self.scratch.query).collect();
        for (part, middle) in graph.route(0).map(|root| (root, graph.shape.entry)).into_iter().chain(near) {
            let distance = self.scratch.query.distance(CodeKernels::get(), &part, &[]);
            self.frontier.push(Reverse(Nearest(Candidate { distance, id: middle })));
            self.follow(&part, distance);
        }
    }

    fn visit(&mut self, id: u32) {
        let Some(block) = self.graph.block(id).filter(|_| !self.visited.get(id as usize)) else { return };
        let distance = self.scratch.query.distance(CodeKernels::get(), &block, &[]);
        for id in self.graph.twins(id) {
            if !self.visited.get(id as usize) {
                self.visited.set(id as usize, true);
                self.note(Candidate { distance, id });
            }
        }
        self.follow(&block, distance);
    }

    fn follow(&mut self, block: &Block<'_>, distance: f32) {
        let kernels = CodeKernels::get();
        let mut estimates = [0.0; 32];
        self.scratch.query.estimate(kernels, block, distance, f32::INFINITY, &[], &mut estimates);
        for (id, estimate) in block.ids.iter().zip(estimates) {
            let id = u32::from_le_bytes(*id);
            if (id as usize) < self.visited.row_count() && !self.visited.get(id as usize) {
                self.frontier.push(Reverse(Nearest(Candidate { distance: estimate, id })));
            }
        }
    }

    fn note(&mut self, found: Candidate) {
        if self.parameters.filter.is_none_or(|filter| filter.get(found.id as usize)) {
            self.pending.push(Reverse(Nearest(found)));
        }
    }

    fn look_at_unvisited(&mut self) {
        let kernels = CodeKernels::get();
        for row in 0..self.visited.row_count() {
            let is_wanted = self.parameters.filter.is_none_or(|filter| filter.get(row));
            if is_wanted
                && !self.visited.get(row)
                && let Some(block) = self.graph.block(row as u32)
            {
                let distance = self.scratch.query.distance(kernels, &block, &[]);
                self.note(Candidate { distance, id: row as u32 });
            }
        }
        self.visited = Bitmap::ones(self.visited.row_count());
    }
}
