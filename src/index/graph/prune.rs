//! Which candidates become neighbours: near ones, in different directions (robust prune, as in NSG and Vamana).

use super::encode::{Distances, Vectors};
use super::search::Candidate;
use crate::kernel::NEIGHBOURS;

/// The neighbours of one vertex: first those that pruning chose, then near ones that fill up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbours {
    list: [Candidate; NEIGHBOURS],
    count: u8,
    chosen_count: u8,
}

impl Neighbours {
    pub const NONE: Neighbours =
        Neighbours { list: [Candidate { distance: f32::INFINITY, id: 0 }; NEIGHBOURS], count: 0, chosen_count: 0 };

    /// All.
    pub fn all(&self) -> &[Candidate] {
        &self.list[..usize::from(self.count)]
    }

    /// Those that pruning chose.
    pub fn chosen(&self) -> &[Candidate] {
        &self.list[..usize::from(self.chosen_count)]
    }

    /// Puts a candidate behind the last, or in the place of another.
    pub fn put(&mut self, place: usize, candidate: Candidate) {
        if let Some(to) = self.list.get_mut(place) {
            *to = candidate;
            self.count = self.count.max(place as u8 + 1);
        }
    }

    /// Appends unless it is full or has the vertex already.
    pub fn fill(&mut self, candidate: Candidate) {
        let count = usize::from(self.count);
        if count < NEIGHBOURS && self.all().iter().all(|other| other.id != candidate.id) {
            self.list[count] = candidate;
            self.count += 1;
        }
    }
}

/// Memory in which neighbours are chosen.
#[derive(Default)]
pub(super) struct Pruner {
    /// Who may become a neighbour.
    pub candidates: Vec<Candidate>,
    /// Candidates that nothing covers so far, and their ids.
    open: Vec<Candidate>,
    ids: Vec<u32>,
    distances: Distances,
}

impl Pruner {
    /// Chooses neighbours for `vertex` out of the candidates. A candidate is passed over when one chosen before is nearer
    /// to it by `alpha` (a factor of squared distances) than the vertex is.
    pub fn prune(&mut self, vectors: &Vectors, vertex: u32, alpha: f32) -> Neighbours {
        let Pruner { candidates, open, ids, distances } = self;
        candidates.retain(|candidate| candidate.id != vertex && candidate.distance.is_finite());
        candidates.iter().for_each(|candidate| vectors.prefetch(candidate.id));
        candidates.sort_unstable_by(Candidate::order);
        let mut chosen = Neighbours::NONE;
        open.clear();
        open.extend_from_slice(candidates);
        // What a choice covers is found for all candidates at once.
        while let Some(nearest) = open.first().copied() {
            chosen.fill(nearest);
            if usize::from(chosen.count) == NEIGHBOURS {
                break;
            }
            ids.clear();
            ids.extend(open.iter().map(|candidate| candidate.id));
            vectors.distances(nearest.id, ids, distances);
            let mut others = distances.list.iter();
            // The same vertex may come with distances of different roundings.
            open.retain(|candidate| {
                let is_covered = others.next().is_some_and(|distance| alpha * distance < candidate.distance);
                !is_covered && candidate.id != nearest.id
            });
        }
        chosen.chosen_count = chosen.count;
        for candidate in candidates.iter() {
            if usize::from(chosen.count) == NEIGHBOURS {
                break;
            }
            chosen.fill(*candidate);
        }
        chosen
    }
}
