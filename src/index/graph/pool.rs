//! The candidates of a search: the nearest known so far, sorted, of which some were taken.

/// The top bit of an id says that the candidate was taken.
const TAKEN: u32 = 1 << 31;
/// Room behind the candidates, so that a search of them works on whole registers.
const STEP: usize = 16;

/// Distances and ids apart: places are found by counting, without a branch that could be mispredicted.
#[derive(Debug, Default)]
pub(in crate::index) struct Pool {
    /// Ascending; infinity behind `len`.
    distances: Vec<f32>,
    ids: Vec<u32>,
    len: usize,
    capacity: usize,
    /// Only so many of the nearest are taken.
    reach: usize,
    /// The first candidate that was not taken.
    next: usize,
}

impl Pool {
    /// Empties it and sets how many of the nearest may be taken, at least 1, and how many are kept besides.
    pub fn begin(&mut self, reach: usize, spare: usize) {
        self.reach = reach.max(1);
        self.capacity = self.reach + spare;
        let room = (self.capacity + 1).next_multiple_of(STEP);
        self.distances.clear();
        self.distances.resize(room, f32::INFINITY);
        self.ids.resize(room, 0);
        self.len = 0;
        self.next = 0;
    }

    /// A candidate must be nearer than this to get in; infinity until the pool is full.
    #[inline]
    pub fn bound(&self) -> f32 {
        if self.len == self.capacity { self.distances[self.len - 1] } else { f32::INFINITY }
    }

    /// The distance of a place, infinity when there are fewer candidates; places count from 0 and are below the capacity.
    #[inline]
    pub fn distance_of(&self, place: usize) -> f32 {
        self.distances[place]
    }

    /// Puts a candidate in; the farthest falls out of a full pool. One that is no number, or not within the bound, is ignored.
    /// Ids are below 2^31.
    #[inline]
    pub fn insert(&mut self, distance: f32, id: u32) {
        if self.len == self.capacity {
            if self.distances[self.len - 1] <= distance {
                return;
            }
            self.len -= 1;
        }
        let used = &self.distances[..self.len.next_multiple_of(STEP)];
        let place = used.iter().map(|other| u32::from(*other <= distance)).sum::<u32>() as usize;
        let place = place.min(self.len);
        self.distances.copy_within(place..self.len, place + 1);
        self.ids.copy_within(place..self.len, place + 1);
        self.distances[place] = distance;
        self.ids[place] = id;
        self.len += 1;
        self.next = self.next.min(place);
    }

    /// The nearest that was not taken.
    #[inline]
    pub fn nearest(&self) -> Option<u32> {
        if self.next < self.len.min(self.reach) { self.ids.get(self.next).copied() } else { None }
    }

    /// Those that were not taken, nearest first.
    pub fn rest(&self) -> impl Iterator<Item = u32> + '_ {
        self.ids[..self.len].iter().copied().filter(|id| id & TAKEN == 0)
    }

    /// All candidates, nearest first, whether taken or not.
    pub fn all(&self) -> impl Iterator<Item = (f32, u32)> + '_ {
        let places = self.distances.iter().zip(&self.ids).take(self.len);
        places.map(|(distance, id)| (*distance, id & !TAKEN))
    }

    /// Takes the nearest that was not taken.
    #[inline]
    pub fn take_nearest(&mut self) -> Option<u32> {
        let id = self.nearest()?;
        self.ids[self.next] |= TAKEN;
        while self.next < self.len && self.ids[self.next] & TAKEN != 0 {
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
