//! What a walk may visit next: the keys of vertices, in no order. The few nearest are looked through whenever one is taken; the
//! many others, most of which are never visited, only when those are used up.

/// When there are so many of the nearest, the farther half of them joins the others.
const NEAR_MAX: usize = 64;
/// So many of the others become the nearest, at least.
const REFILL_MIN: usize = 24;
/// The square of what becomes the nearest of many, by how many they are: to look through the nearest then takes as long as to find
/// them among the others.
const REFILL_SQUARED: usize = 3;

/// Vertices by estimated distance.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    near: Vec<u64>,
    far: Vec<u64>,
    /// Nothing far is nearer.
    far_least: u64,
    /// What is put in and is not less is far.
    pivot: u64,
    near_max: usize,
}

impl Frontier {
    /// Empties it.
    pub fn clear(&mut self) {
        self.near.clear();
        self.far.clear();
        self.far_least = u64::MAX;
        self.pivot = u64::MAX;
        self.near_max = NEAR_MAX;
    }

    /// Puts vertices in; those that are not nearer than `end` will hardly be visited.
    #[inline(always)]
    pub fn push_all<const N: usize>(&mut self, keys: &[u64; N], count: usize, end: u64) {
        let pivot = self.pivot.min(end);
        // Which are near is unforeseeable: no branch.
        let (mut near, mut far) = ([0; N], [0; N]);
        let (mut near_count, mut far_count) = (0, 0);
        for key in &keys[..count] {
            near[near_count % N] = *key;
            far[far_count % N] = *key;
            near_count += usize::from(*key < pivot);
            far_count += usize::from(*key >= pivot);
        }
        self.near.extend_from_slice(&near[..near_count]);
        self.far.extend_from_slice(&far[..far_count]);
        self.far_least = far[..far_count].iter().fold(self.far_least, |least, key| least.min(*key));
        if self.near.len() > self.near_max {
            self.halve();
        }
    }

    /// Takes the nearest, unless it is not nearer than `end`.
    #[inline(always)]
    pub fn take(&mut self, end: u64) -> Option<u64> {
        if self.near.is_empty() {
            self.refill(end);
        }
        let mut nearest = (u64::MAX, 0);
        for (place, key) in self.near.iter().enumerate() {
            nearest = if *key < nearest.0 { (*key, place) } else { nearest };
        }
        (nearest.0 < end).then(|| self.near.swap_remove(nearest.1))
    }

    #[cold]
    fn halve(&mut self) {
        let (_, pivot, _) = self.near.select_nth_unstable(self.near_max / 2);
        self.pivot = *pivot;
        self.far_least = self.far_least.min(*pivot);
        self.far.extend(self.near.drain(self.near_max / 2..));
    }

    #[cold]
    fn refill(&mut self, end: u64) {
        if self.far_least >= end {
            return;
        }
        let count = (self.far.len() * REFILL_SQUARED).isqrt().max(REFILL_MIN);
        self.near_max = NEAR_MAX.max(count * 2);
        if count < self.far.len() {
            let (_, pivot, _) = self.far.select_nth_unstable(count);
            self.pivot = *pivot;
            self.far_least = *pivot;
            self.near.extend(self.far.drain(..count));
        } else {
            self.pivot = u64::MAX;
            self.far_least = u64::MAX;
            self.near.append(&mut self.far);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = u64::MAX;

    fn filled(keys: impl IntoIterator<Item = u64>, end: u64) -> Frontier {
        let mut frontier = Frontier::default();
        frontier.clear();
        keys.into_iter().for_each(|key| frontier.push_all(&[key], 1, end));
        frontier
    }

    #[test]
    fn the_nearest_comes_first_however_many_there_are() {
        let scattered = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        for count in [0, 1, REFILL_MIN + 1, NEAR_MAX + 1, 5_000] {
            let mut frontier = filled((0..count as u64).map(scattered), END);
            let taken: Vec<u64> = std::iter::from_fn(|| frontier.take(END)).collect();
            assert!(taken.is_sorted() && taken.len() == count, "{count}");
        }
    }

    #[test]
    fn what_comes_later_is_taken_in_its_turn() {
        let mut frontier = filled((1..=1000).map(|index| index * 10), END);
        for index in 1..=600 {
            assert_eq!(frontier.take(END), Some(index * 10));
            let nearer = [index * 10 + 1, index * 10 + 5];
            frontier.push_all(&nearer, 2, END);
            assert_eq!([frontier.take(END), frontier.take(END)], nearer.map(Some));
        }
    }

    #[test]
    fn only_the_first_of_a_batch_are_put_in() {
        let mut frontier = filled([], END);
        frontier.push_all(&[3, 1, 2], 2, END);
        assert_eq!([frontier.take(END), frontier.take(END), frontier.take(END)], [Some(1), Some(3), None]);
    }

    #[test]
    fn what_lies_beyond_the_end_comes_once_the_end_has_moved() {
        let mut frontier = filled([50, 10, 30, 40], 20);
        assert_eq!([frontier.take(20), frontier.take(20)], [Some(10), None]);
        assert_eq!([frontier.take(50), frontier.take(50), frontier.take(50)], [Some(30), Some(40), None]);
        assert_eq!([frontier.take(51), frontier.take(51)], [Some(50), None]);
    }
}
