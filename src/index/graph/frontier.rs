//! What a walk may visit next: the estimated distances of vertices in a heap, and those that were taken from it early enough
//! for their blocks to be on their way when they are visited.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pool::{distance_in, id_in, key};

/// Vertices that are taken from the heap before they are visited, at most.
pub(super) const AHEAD_MAX: usize = 3;

/// Vertices by estimated distance; one may be in it several times.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    /// Keys as in a pool: one comparison, no branch for equal distances.
    heap: BinaryHeap<Reverse<u64>>,
    /// Those that lie farther than where the walk ends, which may move.
    later: Vec<(f32, u32)>,
    /// The least distance of these.
    later_least: f32,
}

impl Frontier {
    pub fn clear(&mut self) {
        self.heap.clear();
        self.later.clear();
        self.later_least = f32::INFINITY;
    }

    /// Takes note of a vertex that is to be visited only if the walk goes farther: in the heap it would cost more than all else.
    #[inline]
    pub fn push_later(&mut self, distance: f32, id: u32) {
        self.later.push((distance, id));
        self.later_least = self.later_least.min(distance);
    }

    /// Puts those in that lie nearer than the end of the walk by now.
    #[inline]
    pub fn take_up(&mut self, end: f32) {
        if self.later_least >= end {
            return;
        }
        let mut least = f32::INFINITY;
        let heap = &mut self.heap;
        self.later.retain(|(distance, id)| {
            let is_later = *distance >= end;
            if is_later {
                least = least.min(*distance);
            } else {
                heap.push(Reverse(key(*distance, *id)));
            }
            is_later
        });
        self.later_least = least;
    }

    #[inline]
    pub fn push(&mut self, distance: f32, id: u32) {
        self.heap.push(Reverse(key(distance, id)));
    }

    /// Takes the nearest.
    #[inline]
    pub fn pop(&mut self) -> Option<(f32, u32)> {
        let Reverse(key) = self.heap.pop()?;
        Some((distance_in(key), id_in(key)))
    }

    /// The nearest.
    #[inline]
    pub fn nearest(&self) -> Option<u32> {
        self.heap.peek().map(|Reverse(key)| id_in(*key))
    }
}

/// A short queue.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    ids: [u32; AHEAD_MAX + 1],
    first: usize,
    count: usize,
}

impl Ahead {
    pub fn len(&self) -> usize {
        self.count
    }

    /// Puts a vertex in behind the others; there are at most `AHEAD_MAX`.
    #[inline]
    pub fn push(&mut self, id: u32) {
        self.ids[(self.first + self.count) % (AHEAD_MAX + 1)] = id;
        self.count += 1;
    }

    /// Takes the first.
    #[inline]
    pub fn pop(&mut self) -> Option<u32> {
        self.count = self.count.checked_sub(1)?;
        let id = self.ids[self.first];
        self.first = (self.first + 1) % (AHEAD_MAX + 1);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first_whatever_the_signs() {
        let mut frontier = Frontier::default();
        let distances = [3.5, -2.0, 0.0, f32::INFINITY, -0.25, 1e-30, -7e20];
        for (id, distance) in distances.into_iter().enumerate() {
            frontier.push(distance, id as u32);
        }
        assert_eq!(frontier.nearest(), Some(6));
        let popped: Vec<(f32, u32)> = std::iter::from_fn(|| frontier.pop()).collect();
        assert!(popped.is_sorted_by(|left, right| left.0 < right.0));
        assert!(popped.len() == 7 && popped.iter().all(|(distance, id)| distances[*id as usize] == *distance));
    }

    #[test]
    fn what_lies_farther_comes_once_the_end_has_moved() {
        let mut frontier = Frontier::default();
        frontier.clear();
        frontier.push(1.0, 1);
        [(5.0, 5), (3.0, 3), (4.0, 4)].into_iter().for_each(|(distance, id)| frontier.push_later(distance, id));
        frontier.take_up(2.0);
        assert_eq!((frontier.pop(), frontier.pop()), (Some((1.0, 1)), None));
        frontier.take_up(5.0);
        assert_eq!((frontier.pop(), frontier.pop(), frontier.pop()), (Some((3.0, 3)), Some((4.0, 4)), None));
        frontier.take_up(f32::INFINITY);
        assert_eq!(frontier.pop(), Some((5.0, 5)));
    }

    #[test]
    fn what_is_ahead_comes_in_the_order_it_was_put_in() {
        let mut ahead = Ahead::default();
        for round in 0..10 {
            (0..=AHEAD_MAX as u32).for_each(|id| ahead.push(round + id));
            assert_eq!(ahead.pop(), Some(round));
            assert_eq!(ahead.len(), AHEAD_MAX);
            assert!((1..=AHEAD_MAX as u32).all(|id| ahead.pop() == Some(round + id)));
            assert_eq!(ahead.pop(), None);
        }
    }
}
