//! Which candidates become neighbours: near ones, in different directions (robust prune, as in NSG and Vamana).

use super::encode::Vectors;
use super::search::Candidate;
use crate::kernel::{CodeKernels, NEIGHBOURS};

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

/// Chooses neighbours for `vertex` out of `candidates`, which are sorted and without repeats afterwards. A candidate is
/// passed over when one chosen before is nearer to it by `alpha` (a factor of squared distances) than the vertex is.
pub(super) fn prune(vectors: &Vectors, vertex: u32, candidates: &mut Vec<Candidate>, alpha: f32) -> Neighbours {
    let kernels = CodeKernels::get();
    candidates.retain(|candidate| candidate.id != vertex && candidate.distance.is_finite());
    candidates.sort_unstable_by(Candidate::order);
    // The same vertex may come with distances of different roundings, so repeats need not be adjacent.
    let mut chosen = Neighbours::NONE;
    for candidate in candidates.iter() {
        if usize::from(chosen.count) == NEIGHBOURS {
            break;
        }
        let is_covered = chosen.all().iter().any(|other| {
            other.id == candidate.id || alpha * vectors.distance(kernels, other.id, candidate.id) < candidate.distance
        });
        if !is_covered {
            chosen.fill(*candidate);
        }
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
