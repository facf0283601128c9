//! The k nearest rows seen so far.

use std::cmp::Ordering;

use crate::types::Metric;

/// A row of one file and its score. Scores are "smaller is nearer" inside: similarity metrics are negated until the reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Which file of the snapshot's list.
    pub file_index: u32,
    /// Row of the file.
    pub row: u32,
    /// Distance, or the negated similarity.
    pub distance: f32,
}

impl Hit {
    /// The score as users see it: the distance, or the similarity.
    pub fn score(&self, metric: Metric) -> f32 {
        // Not `-distance`: a similarity of 0 must not become -0.
        if metric.is_similarity() { 0.0 - self.distance } else { self.distance }
    }

    /// Nearest first; ties by file, then row.
    pub fn order(&self, other: &Hit) -> Ordering {
        let place = |hit: &Hit| (hit.file_index, hit.row);
        self.distance.total_cmp(&other.distance).then_with(|| place(self).cmp(&place(other)))
    }
}

/// The k nearest hits; ties are broken by (file_index, row), so that results are deterministic in whatever order hits come.
///
/// Hits are collected until there are well over `k`, then the far ones are dropped at once: a selection of `2k` costs
/// about two comparisons per hit where a heap costs `log k`. Memory grows with the hits that come, up to `2k`.
#[derive(Clone, Debug, Default)]
pub struct TopK {
    k: usize,
    hits: Vec<Hit>,
    bound: f32,
}

/// Most hits beyond `k` that are collected before the far ones are dropped, when `k` is small: fewer would leave no room to
/// amortise the selection, more would keep the bound loose for longer.
const SPARE_MIN: usize = 16;

impl TopK {
    /// Keeps the `k` nearest.
    pub fn new(k: usize) -> TopK {
        TopK { k, hits: Vec::new(), bound: f32::INFINITY }
    }

    /// A hit that is farther cannot be kept. Infinity at first; never below the worst distance that will be kept, and
    /// brought down to it now and then.
    pub fn bound(&self) -> f32 {
        self.bound
    }

    /// Offers a hit. One whose distance is not a number is never kept.
    pub fn push(&mut self, hit: Hit) {
        if hit.distance <= self.bound && self.k > 0 {
            // Adding 0 makes -0 a 0, so that both are a tie.
            self.hits.push(Hit { distance: hit.distance + 0.0, ..hit });
            if self.hits.len() >= self.k + self.k.max(SPARE_MIN) {
                self.drop_far_hits();
            }
        }
    }

    /// Empties it, to keep the `k` nearest of others; its memory stays.
    pub fn begin(&mut self, k: usize) {
        self.k = k;
        self.hits.clear();
        self.bound = f32::INFINITY;
    }

    /// Brings the bound down to the worst distance that is kept, if there are `k`.
    pub fn tighten(&mut self) {
        self.drop_far_hits();
        if self.k > 0 && self.hits.len() == self.k && self.bound == f32::INFINITY {
            self.bound = self.hits.iter().map(|hit| hit.distance).fold(f32::NEG_INFINITY, f32::max);
        }
    }

    /// Sorts the kept hits and gives them, nearest first.
    pub fn sort(&mut self) -> &[Hit] {
        self.drop_far_hits();
        self.hits.sort_unstable_by(Hit::order);
        &self.hits
    }

    /// The kept hits, nearest first.
    pub fn into_sorted(mut self) -> Vec<Hit> {
        self.drop_far_hits();
        self.hits.sort_unstable_by(Hit::order);
        self.hits
    }

    fn drop_far_hits(&mut self) {
        if self.k > 0 && self.hits.len() > self.k {
            let (_, farthest, _) = self.hits.select_nth_unstable_by(self.k - 1, Hit::order);
            self.bound = farthest.distance;
            self.hits.truncate(self.k);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_kept_hits_are_the_first_of_all_sorted(
            distances in proptest::collection::vec(-4i8..4, 0..400),
            k in 0usize..70,
            rotation in 0usize..400,
        ) {
            let mut hits: Vec<Hit> = distances
                .iter()
                .enumerate()
                .map(|(index, distance)| Hit {
                    file_index: index as u32 / 100,
                    row: index as u32 % 100,
                    distance: f32::from(*distance) * 0.5,
                })
                .collect();
            let mut top = TopK::new(k);
            let middle = rotation.min(hits.len());
            hits.rotate_left(middle);
            for hit in &hits {
                top.push(*hit);
                prop_assert!(top.bound() >= -2.0);
            }
            hits.sort_by(Hit::order);
            hits.truncate(k);
            prop_assert_eq!(top.into_sorted(), hits);
        }
    }

    fn hit(row: u32, distance: f32) -> Hit {
        Hit { file_index: 0, row, distance }
    }

    #[test]
    fn not_a_number_is_never_kept() {
        let mut top = TopK::new(3);
        top.push(hit(0, f32::NAN));
        top.push(hit(1, f32::INFINITY));
        assert_eq!(top.into_sorted(), [hit(1, f32::INFINITY)]);
    }

    #[test]
    fn zeros_of_both_signs_are_a_tie() {
        let mut top = TopK::new(2);
        [hit(0, 0.0), hit(1, -0.0)].into_iter().for_each(|hit| top.push(hit));
        assert_eq!(top.into_sorted().iter().map(|hit| hit.row).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_similarity_of_nothing_has_no_sign() {
        assert!(hit(0, 0.0).score(Metric::Ip).is_sign_positive());
        assert_eq!(hit(0, -2.0).score(Metric::Cosine), 2.0);
        assert_eq!(hit(0, 2.0).score(Metric::L2), 2.0);
    }

    #[test]
    fn memory_grows_with_the_hits() {
        let mut top = TopK::new(16_384);
        (0..10).for_each(|row| top.push(hit(row, 1.0)));
        assert!(top.hits.capacity() < 100);
    }
}
