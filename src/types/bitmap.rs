//! A plain bitmap of rows: one bit per row, 64 to a word.

/// `row_count` bits; bits past the end are always 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    row_count: usize,
}

impl Bitmap {
    /// All bits 0.
    pub fn zeros(row_count: usize) -> Bitmap {
        Bitmap { words: vec![0; row_count.div_ceil(64)], row_count }
    }

    /// All bits 1.
    pub fn ones(row_count: usize) -> Bitmap {
        let mut bitmap = Bitmap { words: vec![u64::MAX; row_count.div_ceil(64)], row_count };
        bitmap.clear_tail();
        bitmap
    }

    /// Of words with row 0 in the lowest bit of the first; bits past the end do not matter.
    ///
    /// # Panics
    /// When there are not as many words as `row_count` bits need.
    pub fn from_words(words: Vec<u64>, row_count: usize) -> Bitmap {
        assert_eq!(words.len(), row_count.div_ceil(64));
        let mut bitmap = Bitmap { words, row_count };
        bitmap.clear_tail();
        bitmap
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// The words, row 0 in the lowest bit of the first.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words for writing; call [`Bitmap::clear_tail`] after bits past the end may have been set.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Sets the bits past `row_count` to 0.
    pub fn clear_tail(&mut self) {
        let used = self.row_count % 64;
        if used != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }

    /// The bit of a row. Panics when `row >= row_count`.
    pub fn get(&self, row: usize) -> bool {
        assert!(row < self.row_count);
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// Sets the bit of a row. Panics when `row >= row_count`.
    pub fn set(&mut self, row: usize, is_set: bool) {
        assert!(row < self.row_count);
        let mask = 1u64 << (row % 64);
        if is_set {
            self.words[row / 64] |= mask;
        } else {
            self.words[row / 64] &= !mask;
        }
    }

    /// Number of bits that are 1.
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Keeps the bits that are also set in `other`, which has the same row count.
    pub fn and(&mut self, other: &Bitmap) {
        assert_eq!(self.row_count, other.row_count);
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// The rows whose bit is 1, ascending.
    pub fn iter_ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                let rest = word & (word - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |word| index * 64 + word.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_end_at_the_row_count() {
        let bitmap = Bitmap::ones(70);
        assert_eq!(bitmap.count_ones(), 70);
        assert_eq!(bitmap.iter_ones().collect::<Vec<_>>(), (0..70).collect::<Vec<_>>());
    }
}
