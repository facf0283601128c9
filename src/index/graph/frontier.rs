//! What a walk may visit next: the estimated distances of vertices in a heap, and those that were taken from it early enough
//! for their blocks to be on their way when they are visited.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pool::{ascending, descending};

/// Vertices that are taken from the heap before they are visited, at most.
pub(super) const AHEAD_MAX: usize = 3;

/// Vertices by estimated distance; one may be in it several times.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    /// Distances as integers of the same order above ids: one comparison, no branch for equal ones.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Frontier {
    pub fn clear(&mut self) {
        self.heap.clear();
    }

    #[inline]
    pub fn push(&mut self, distance: f32, id: u32) {
        self.heap.push(Reverse(u64::from(ascending(distance.to_bits())) << 32 | u64::from(id)));
    }

    /// Takes the nearest.
    #[inline]
    pub fn pop(&mut self) -> Option<(f32, u32)> {
        let Reverse(key) = self.heap.pop()?;
        Some((f32::from_bits(descending((key >> 32) as u32)), key as u32))
    }

    /// The nearest.
    #[inline]
    pub fn nearest(&self) -> Option<u32> {
        self.heap.peek().map(|Reverse(key)| *key as u32)
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
