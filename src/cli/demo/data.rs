//! The demo's data set: the 20,000 most frequent words of GloVe 6B, 50 dimensions, as float16 (see data/README.md).

use half::f16;

/// Dimensions of a word vector.
pub(in crate::cli) const DIM: usize = 50;

static WORDS: &str = include_str!("../../../data/glove-20k-words.txt");
static VECTORS: &[u8] = include_bytes!("../../../data/glove-20k-50d.f16");

/// The words, most frequent first; word i has vector i.
pub(in crate::cli) fn words() -> Vec<&'static str> {
    WORDS.lines().collect()
}

/// The vectors of words `from..to`, end to end.
pub(in crate::cli) fn vectors(from: usize, to: usize) -> Vec<f32> {
    VECTORS[from * DIM * 2..to * DIM * 2]
        .chunks_exact(2)
        .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_finite_vector() {
        let count = words().len();
        assert_eq!(count, 20_000);
        assert_eq!(VECTORS.len(), count * DIM * 2);
        assert!(vectors(0, count).iter().all(|value| value.is_finite()));
    }
}
