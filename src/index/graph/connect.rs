//! What makes every vertex one that searches find: where they begin, and links to vertices that no link leads to, or that did not
//! find themselves. Such a link goes out from what a search for the vertex finds nearest, so that the searches of others for
//! it come by.

use super::build::BuildParameters;
use super::encode::{BlockBits, Vectors};
use super::layout::{Graph, Parts, Shape};
use super::prune::Neighbours;
use super::routes::Routes;
use super::search::{Candidate, Reach, Scratch};
use crate::kernel::NEIGHBOURS;
use crate::types::Bitmap;

/// Links what would not be found. A link that another vertex is reached by is never given up for it, so that in the end
/// every vertex is reached.
pub(super) struct Connector<'a, 'p> {
    parameters: &'a BuildParameters,
    shape: &'a Shape,
    vectors: &'a Vectors,
    parts: &'a mut Parts<'p>,
    neighbours: &'a mut [Neighbours],
    /// A bit per link of each vertex that must stay.
    kept: Vec<u32>,
    reached: Bitmap,
    /// Reached, in the order in which they were.
    order: Vec<u32>,
    /// Vertices before this place of the order have no room for a link.
    full: usize,
    scratch: Scratch,
    found: Vec<Candidate>,
    bits: BlockBits,
}

impl<'a, 'p> Connector<'a, 'p> {
    pub fn new(
        parameters: &'a BuildParameters,
        shape: &'a Shape,
        vectors: &'a Vectors,
        parts: &'a mut Parts<'p>,
        neighbours: &'a mut [Neighbours],
    ) -> Connector<'a, 'p> {
        let row_count = neighbours.len();
        Connector {
            parameters,
            shape,
            vectors,
            parts,
            neighbours,
            kept: vec![0; row_count],
            reached: Bitmap::zeros(row_count),
            order: Vec::with_capacity(row_count),
            full: 0,
            scratch: Scratch::new(),
            found: Vec::new(),
            bits: BlockBits::default(),
        }
    }

    /// Makes all vertices reachable; `lost` are those that searches did not find.
    pub fn connect(mut self, routes: &Routes, vertices: &[u32], lost: &[u32]) {
        self.spread(self.shape.entry);
        routes.all().for_each(|route| self.spread(route));
        for vertex in vertices {
            if !self.reached.get(*vertex as usize) {
                self.attach(*vertex);
                self.spread(*vertex);
            }
        }
        lost.iter().for_each(|vertex| self.attach(*vertex));
    }

    /// Marks what can be reached from a vertex.
    fn spread(&mut self, start: u32) {
        if self.reached.get(start as usize) {
            return;
        }
        let mut at = self.order.len();
        self.reached.set(start as usize, true);
        self.order.push(start);
        while let Some(vertex) = self.order.get(at).map(|vertex| *vertex as usize) {
            for (place, neighbour) in self.neighbours[vertex].all().iter().enumerate() {
                if !self.reached.get(neighbour.id as usize) {
                    self.reached.set(neighbour.id as usize, true);
                    self.order.push(neighbour.id);
                    self.kept[vertex] |= 1 << place;
                }
            }
            at += 1;
        }
    }

    /// Links a vertex from the nearest that a search for it finds, unless it finds the vertex itself.
    fn attach(&mut self, vertex: u32) {
        let row = self.vectors.rows[vertex as usize];
        let graph = Graph::of_parts(*self.shape, self.parts);
        let Connector { scratch, found, .. } = self;
        found.clear();
        scratch.query.place_vertex(self.shape, self.vectors.codes(vertex), row.scale, row.squared_norm);
        let ef = self.parameters.ef_construction.max(NEIGHBOURS);
        graph.walk(Reach { ef, spare: 0 }, scratch, &mut |candidate| found.push(candidate));
        if found.iter().any(|candidate| candidate.id == vertex) {
            return;
        }
        found.sort_unstable_by(Candidate::order);
        let near = self.found.iter().map(|candidate| candidate.id).find(|near| self.room(*near).is_some());
        let Some(holder) = near.or_else(|| self.any_with_room()) else { return };
        let Some(place) = self.room(holder) else { return };
        let distance = self.vectors.distance(holder, vertex);
        self.neighbours[holder as usize].put(place, Candidate { distance, id: vertex });
        self.kept[holder as usize] |= 1 << place;
        let ids = self.neighbours[holder as usize].all().iter().map(|candidate| candidate.id);
        let block_bytes = self.shape.block_bytes();
        let block = &mut self.parts.blocks[holder as usize * block_bytes..][..block_bytes];
        self.vectors.write_block(holder, ids, &mut self.bits, block);
    }

    /// Where a vertex can take another link: behind the last, or instead of the last that need not stay.
    fn room(&self, vertex: u32) -> Option<usize> {
        let count = self.neighbours[vertex as usize].all().len();
        if count < NEIGHBOURS {
            return Some(count);
        }
        let given_up = !self.kept[vertex as usize];
        given_up.checked_ilog2().map(|place| place as usize)
    }

    /// There is always one: each vertex needs two links to itself at most, and there is room for 32 per vertex.
    fn any_with_room(&mut self) -> Option<u32> {
        while let Some(vertex) = self.order.get(self.full).copied() {
            if self.room(vertex).is_some() {
                return Some(vertex);
            }
            self.full += 1;
        }
        None
    }
}
