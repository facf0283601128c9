//! The candidates of a search: the nearest known so far, sorted, of which some were taken.

/// The lowest bit of a key says that the candidate was taken.
const TAKEN: u64 = 1;
/// That bit is free in keys that are in no pool.
pub(super) const MARK: u64 = 1;
/// Room behind the candidates, so that a search of them works on whole registers.
const STEP: usize = 16;
/// A place among so many is found by counting what is before it.
const COUNTED_MAX: usize = 32;
/// More than this are sorted and merged at once; fewer are put in one by one.
const ONE_BY_ONE_MAX: usize = 3;

/// Each candidate is one integer: its distance, then its id.
#[derive(Debug, Default)]
pub(in crate::index) struct Pool {
    /// Ascending; the greatest behind `len`.
    keys: Vec<u64>,
    len: usize,
    capacity: usize,
    /// Only so many of the nearest are taken.
    reach: usize,
    /// The first candidate that was not taken.
    next: usize,
}

/// A candidate as an integer, nearer ones less. Ids are below 2^31.
#[inline]
pub(in crate::index) fn key(distance: f32, id: u32) -> u64 {
    u64::from(ascending(distance.to_bits())) << 32 | u64::from(id) << 1
}

/// The distance of a key.
#[inline]
pub(super) fn distance_in(key: u64) -> f32 {
    f32::from_bits(descending((key >> 32) as u32))
}

/// The id of a key.
#[inline]
pub(super) fn id_in(key: u64) -> u32 {
    key as u32 >> 1
}

/// The bits of a float as an integer that is the greater the greater the float is.
#[inline]
fn ascending(bits: u32) -> u32 {
    bits ^ (((bits as i32 >> 31) as u32) | 1 << 31)
}

/// Back from [`ascending`].
#[inline]
fn descending(ascending: u32) -> u32 {
    ascending ^ (!((ascending as i32 >> 31) as u32) | 1 << 31)
}

impl Pool {
    /// Empties it and sets how many of the nearest may be taken, at least 1, and how many are kept besides.
    pub fn begin(&mut self, reach: usize, spare: usize) {
        self.reach = reach.max(1);
        self.capacity = self.reach + spare;
        let room = (self.capacity + 1).next_multiple_of(STEP);
        self.keys.clear();
        self.keys.resize(room, u64::MAX);
        self.len = 0;
        self.next = 0;
    }

    /// A candidate must be nearer than this to get in; infinity until the pool is full.
    #[inline]
    pub fn bound(&self) -> f32 {
        if self.len == self.capacity { distance_in(self.keys[self.len - 1]) } else { f32::INFINITY }
    }

    /// The distance of a place, infinity when there are fewer candidates; places count from 0 and are below the capacity.
    #[inline]
    pub fn distance_of(&self, place: usize) -> f32 {
        if place < self.len { distance_in(self.keys[place]) } else { f32::INFINITY }
    }

    /// Puts a candidate in; the farthest falls out of a full pool. One that is no number, or not within the bound, is ignored.
    #[inline]
    pub fn insert(&mut self, distance: f32, id: u32) {
        if distance < self.bound() || (self.len < self.capacity && !distance.is_nan()) {
            self.insert_key(key(distance, id));
        }
    }

    /// Puts candidates in, in any order; the farthest fall out of a full pool. None is no number.
    #[inline]
    pub fn insert_all(&mut self, keys: &mut [u64]) {
        if keys.len() > ONE_BY_ONE_MAX {
            keys.sort_unstable();
            return self.merge(keys);
        }
        for key in keys {
            if self.len < self.capacity || *key < self.keys[self.len - 1] {
                self.insert_key(*key);
            }
        }
    }

    #[inline]
    fn insert_key(&mut self, key: u64) {
        self.len = self.len.min(self.capacity - 1);
        // Long lists are halved, short ones counted: no step depends on a guess.
        let (mut first, mut count) = (0, self.len.next_multiple_of(STEP));
        while count > COUNTED_MAX {
            let half = count / 2;
            first += if self.keys[first + half - 1] <= key { half } else { 0 };
            count -= half;
        }
        let counted = &self.keys[first..first + count];
        let place = first + counted.iter().map(|other| u64::from(*other <= key)).sum::<u64>() as usize;
        let place = place.min(self.len);
        self.keys.copy_within(place..self.len, place + 1);
        self.keys[place] = key;
        self.len += 1;
        self.next = self.next.min(place);
    }

    /// From the far end, so that nothing is moved twice.
    fn merge(&mut self, keys: &[u64]) {
        let (mut old, mut new) = (self.len, keys.len());
        let len = (old + new).min(self.capacity);
        for _ in len..old + new {
            let is_new = new > 0 && (old == 0 || keys[new - 1] >= self.keys[old - 1]);
            new -= usize::from(is_new);
            old -= usize::from(!is_new);
        }
        self.len = len;
        for place in (0..len).rev() {
            if new == 0 {
                break;
            }
            let is_new = old == 0 || keys[new - 1] >= self.keys[old - 1];
            self.keys[place] = if is_new { keys[new - 1] } else { self.keys[old - 1] };
            new -= usize::from(is_new);
            old -= usize::from(!is_new);
            self.next = if is_new { self.next.min(place) } else { self.next };
        }
    }

    /// The nearest that was not taken.
    #[inline]
    pub fn nearest(&self) -> Option<u32> {
        if self.next < self.len.min(self.reach) { self.keys.get(self.next).map(|key| id_in(*key)) } else { None }
    }

    /// Those that may be taken next, nearest first.
    #[inline]
    pub fn ahead(&self) -> impl Iterator<Item = u32> + '_ {
        let end = self.len.min(self.reach);
        self.keys[self.next.min(end)..end].iter().filter(|key| *key & TAKEN == 0).map(|key| id_in(*key))
    }

    /// Those that were not taken, nearest first.
    pub fn rest(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys[..self.len].iter().filter(|key| *key & TAKEN == 0).map(|key| id_in(*key))
    }

    /// All candidates, nearest first, whether taken or not.
    pub fn all(&self) -> impl Iterator<Item = (f32, u32)> + '_ {
        self.keys[..self.len].iter().map(|key| (distance_in(*key), id_in(*key)))
    }

    /// Takes the one that [`Pool::ahead`] gives at a place.
    #[inline]
    pub fn take(&mut self, place: usize) -> Option<u32> {
        if place == 0 {
            return self.take_nearest();
        }
        let end = self.len.min(self.reach);
        let mut left = self.keys[self.next.min(end)..end].iter_mut().filter(|key| **key & TAKEN == 0);
        let key = left.nth(place)?;
        *key |= TAKEN;
        Some(id_in(*key))
    }

    /// Takes the nearest that was not taken.
    #[inline]
    pub fn take_nearest(&mut self) -> Option<u32> {
        let id = self.nearest()?;
        self.keys[self.next] |= TAKEN;
        while self.next < self.len && self.keys[self.next] & TAKEN != 0 {
            self.next += 1;
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_taken_nearest_first_and_the_farthest_fall_out() {
        let mut pool = Pool::default();
        pool.begin(4, 0);
        for (id, distance) in [5.0, 3.0, 9.0, 1.0, 4.0, 7.0].into_iter().enumerate() {
            pool.insert(distance, id as u32);
        }
        assert_eq!(pool.bound(), 5.0);
        assert_eq!([pool.take_nearest(), pool.take_nearest()], [Some(3), Some(1)]);
        pool.insert(0.5, 8);
        assert_eq!([pool.take_nearest(), pool.take_nearest(), pool.take_nearest()], [Some(8), Some(4), None]);
    }

    #[test]
    fn many_at_once_lie_as_if_put_in_one_by_one() {
        let distance = |index: u32| f32::from_bits(0x3f80_0000 | index.wrapping_mul(0x9E37_79B9) >> 12) - 1.5;
        for (reach, spare, batch) in [(5, 25, 32), (1, 0, 4), (40, 0, 7), (3, 20, 2), (100, 60, 32)] {
            let (mut pool, mut other) = (Pool::default(), Pool::default());
            pool.begin(reach, spare);
            other.begin(reach, spare);
            for round in 0..10 {
                let ids = round * batch..(round + 1) * batch;
                let mut keys: Vec<u64> = ids.clone().map(|id| key(distance(id), id)).collect();
                pool.insert_all(&mut keys);
                ids.for_each(|id| other.insert(distance(id), id));
                assert_eq!(pool.take_nearest(), other.take_nearest());
                assert!(pool.all().eq(other.all()) && pool.rest().eq(other.rest()));
                assert_eq!((pool.bound(), pool.nearest()), (other.bound(), other.nearest()));
            }
        }
    }

    #[test]
    fn one_of_those_ahead_is_taken_out_of_turn() {
        let mut pool = Pool::default();
        pool.begin(4, 1);
        (0..5).for_each(|id| pool.insert(id as f32, id));
        assert_eq!((pool.take(2), pool.ahead().collect::<Vec<_>>()), (Some(2), vec![0, 1, 3]));
        assert_eq!((pool.take(2), pool.take(2), pool.take(0)), (Some(3), None, Some(0)));
        assert_eq!(
            (pool.take_nearest(), pool.take_nearest(), pool.rest().collect::<Vec<_>>()),
            (Some(1), None, vec![4])
        );
    }

    #[test]
    fn what_is_kept_besides_is_not_taken() {
        let mut pool = Pool::default();
        pool.begin(1, 2);
        for (id, distance) in [4.0, 3.0, 2.0, 1.0].into_iter().enumerate() {
            pool.insert(distance, id as u32);
        }
        assert_eq!([pool.take_nearest(), pool.take_nearest()], [Some(3), None]);
        assert_eq!(pool.rest().collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn a_pool_of_one_keeps_the_nearest() {
        let mut pool = Pool::default();
        pool.begin(1, 0);
        pool.insert(f32::INFINITY, 0);
        assert_eq!(pool.take_nearest(), Some(0));
        pool.insert(2.0, 1);
        pool.insert(3.0, 2);
        assert_eq!([pool.take_nearest(), pool.take_nearest()], [Some(1), None]);
    }
}
