//! The k nearest rows seen so far.

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

/// A bounded heap of the k nearest hits; ties are broken by (file_index, row), so that results are deterministic.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    hits: Vec<Hit>,
}

impl TopK {
    /// Keeps the `k` nearest.
    pub fn new(k: usize) -> TopK {
        TopK { k, hits: Vec::new() }
    }

    /// What a new hit must be below to be kept: the worst kept distance, or infinity while there is room.
    pub fn bound(&self) -> f32 {
        todo!()
    }

    /// Offers a hit.
    pub fn push(&mut self, hit: Hit) {
        let _ = (hit, self.k, &mut self.hits);
        todo!()
    }

    /// The kept hits, nearest first.
    pub fn into_sorted(self) -> Vec<Hit> {
        todo!()
    }
}
