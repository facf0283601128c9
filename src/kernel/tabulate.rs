//! Look-up tables of a query for FastScan: for every four dimensions the sums under all sixteen patterns of signs, in 8 bits.
//!
//! Integers alone, so every SIMD level gives the same bits.

/// Dimensions whose tables are made at once.
const STEP: usize = 32;
/// Largest word in size that [`tabulate`] takes: four of them twice, and what rounds them, are 16 bits.
pub const WORD_MAX: f32 = 8150.0;
/// Largest entry.
const ENTRY_MAX: u32 = 255;

/// What turns sums of table entries back: `scale * sum + offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TableScale {
    /// Of the sum.
    pub scale: f32,
    /// Added.
    pub offset: f32,
}

/// Fills `entries` (4 bytes per word) for `words`, which are at most [`WORD_MAX`] in size and are the query divided by `word_scale`.
/// Entry `p` of a group of four words holds their sum, word `i` positive where bit `i` of `p` is 1 and negative where it is 0.
///
/// # Panics
/// When the lengths do not fit, or there are not whole steps of 32 words.
pub fn tabulate(words: &[i16], word_scale: f32, entries: &mut [u8]) -> TableScale {
    assert!(words.len().is_multiple_of(STEP) && entries.len() == words.len() * 4);
    #[cfg(target_arch = "x86_64")]
    if super::avx512::Avx512::detect().is_some() {
        // SAFETY: the CPU has AVX-512, just detected.
        return unsafe { tabulate_avx512(words, word_scale, entries) };
    }
    tabulate_plain(words, word_scale, entries)
}

/// How sums of words become entries.
#[derive(Clone, Copy)]
struct Rounding {
    /// Entries are the upper half of a product with it.
    factor: u16,
    /// Added before.
    half: u16,
}

impl Rounding {
    /// `widest` is the greatest sum of sizes of a group.
    fn new(widest: u32) -> Rounding {
        let factor = ((ENTRY_MAX << 16) / (2 * widest).max(ENTRY_MAX + 1)).min(u32::from(u16::MAX)) as u16;
        Rounding { factor, half: (1 << 15) / factor.max(1) }
    }

    /// `total` is the sum of the sizes of all words.
    fn scale(self, word_scale: f32, total: u32) -> TableScale {
        TableScale { scale: word_scale * (65536.0 / f32::from(self.factor)), offset: -word_scale * total as f32 }
    }
}

/// Rounds `values * inverse` to 16 bits; products are within them.
///
/// # Panics
/// When the lengths differ.
pub fn round_to_words(values: &[f32], inverse: f32, words: &mut [i16]) {
    assert_eq!(values.len(), words.len());
    for (value, word) in values.iter().zip(words) {
        let product = (value * inverse).clamp(-32767.0, 32767.0);
        let number = if product.is_nan() { 0.0 } else { product };
        // SAFETY: it is a number within the bounds of 16 bits.
        *word = unsafe { number.round_ties_even().to_int_unchecked::<i32>() } as i16;
    }
}

fn tabulate_plain(words: &[i16], word_scale: f32, entries: &mut [u8]) -> TableScale {
    let groups = words.as_chunks::<4>().0;
    let reach = |group: &[i16; 4]| group.iter().map(|word| u32::from(word.unsigned_abs())).sum::<u32>();
    let rounding = Rounding::new(groups.iter().map(reach).max().unwrap_or(0));
    for (group, entries) in groups.iter().zip(entries.as_chunks_mut::<16>().0) {
        let low = reach(group) as i32 - group.iter().map(|word| i32::from(*word)).sum::<i32>();
        let low = (low as u16).wrapping_add(rounding.half);
        for (pattern, entry) in entries.iter_mut().enumerate() {
            let twice = |bit: usize| if pattern >> bit & 1 == 1 { (group[bit] as u16) << 1 } else { 0 };
            let sum = (0..4).fold(low, |sum, bit| sum.wrapping_add(twice(bit)));
            *entry = ((u32::from(sum) * u32::from(rounding.factor)) >> 16) as u8;
        }
    }
    rounding.scale(word_scale, groups.iter().map(reach).sum())
}

/// The places of word `bit` of the groups `2 * pair` and `2 * pair + 1` of 32 words, each for the sixteen entries of its group.
#[cfg(target_arch = "x86_64")]
const PLACES: [[[u16; 32]; 4]; 4] = places();

#[cfg(target_arch = "x86_64")]
const fn places() -> [[[u16; 32]; 4]; 4] {
    let mut places = [[[0; 32]; 4]; 4];
    let mut at = 0;
    while at < 4 * 4 * 32 {
        let (pair, bit, lane) = (at / 128, at / 32 % 4, at % 32);
        places[pair][bit][lane] = (pair * 8 + lane / 16 * 4 + bit) as u16;
        at += 1;
    }
    places
}

/// Lanes whose pattern has the bit.
#[cfg(target_arch = "x86_64")]
const POSITIVE: [u32; 4] = [0xAAAA_AAAA, 0xCCCC_CCCC, 0xF0F0_F0F0, 0xFF00_FF00];

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tabulate_avx512(words: &[i16], word_scale: f32, entries: &mut [u8]) -> TableScale {
    use std::arch::x86_64::*;
    // The sum of each four words in each of their places.
    let of_group = |words: __m512i| {
        let pairs = _mm512_add_epi16(words, _mm512_ror_epi64::<16>(words));
        _mm512_add_epi16(pairs, _mm512_ror_epi64::<32>(pairs))
    };
    let chunks = words.as_chunks::<STEP>().0;
    // SAFETY: 32 words are one register.
    let load = |chunk: &[i16; STEP]| unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
    let (mut widest, mut total) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for chunk in chunks {
        let sizes = _mm512_abs_epi16(load(chunk));
        widest = _mm512_max_epu16(widest, of_group(sizes));
        total = _mm512_add_epi32(total, _mm512_madd_epi16(sizes, _mm512_set1_epi16(1)));
    }
    let widest = _mm512_max_epu32(_mm512_srli_epi32::<16>(widest), _mm512_and_si512(widest, _mm512_set1_epi32(0xFFFF)));
    let rounding = Rounding::new(_mm512_reduce_max_epu32(widest));
    let (factor, half) = (_mm512_set1_epi16(rounding.factor as i16), _mm512_set1_epi16(rounding.half as i16));
    // SAFETY: as above.
    let places = PLACES.map(|of_pair| of_pair.map(|lanes| unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }));
    for (chunk, entries) in chunks.iter().zip(entries.as_chunks_mut::<{ STEP * 4 }>().0) {
        let words = load(chunk);
        let low = _mm512_add_epi16(of_group(_mm512_sub_epi16(_mm512_abs_epi16(words), words)), half);
        let twice = _mm512_add_epi16(words, words);
        for (pair, places) in places.iter().enumerate() {
            let mut sum = _mm512_permutexvar_epi16(places[0], low);
            for (places, positive) in places.iter().zip(POSITIVE) {
                sum = _mm512_add_epi16(sum, _mm512_maskz_permutexvar_epi16(positive, *places, twice));
            }
            let bytes = _mm512_cvtepi16_epi8(_mm512_mulhi_epu16(sum, factor));
            // SAFETY: 32 bytes from `pair * 32` lie in the entries of a chunk.
            unsafe { _mm256_storeu_si256(entries.as_mut_ptr().add(pair * 32).cast(), bytes) };
        }
    }
    rounding.scale(word_scale, _mm512_reduce_add_epi32(total) as u32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn tables_give_back_signed_sums() {
        let values: Vec<f32> = (0..64).map(|index| ((index * 37 % 64) as f32 - 31.5) / 7.0).collect();
        let word_scale = 4.5 / WORD_MAX;
        let mut words = vec![0; 64];
        round_to_words(&values, 1.0 / word_scale, &mut words);
        let mut entries = vec![0; 256];
        let scale = tabulate(&words, word_scale, &mut entries);
        let mut plain = vec![0; 256];
        assert_eq!(tabulate_plain(&words, word_scale, &mut plain), scale);
        assert_eq!(plain, entries);
        for pattern in 0..16usize {
            let sum: u32 = entries.chunks_exact(16).map(|group| u32::from(group[pattern])).sum();
            let signed = |index: usize| if pattern >> (index % 4) & 1 == 1 { 1.0 } else { -1.0 };
            let exact: f32 = values.iter().enumerate().map(|(index, value)| signed(index) * value).sum();
            assert!((scale.scale * sum as f32 + scale.offset - exact).abs() < scale.scale * 8.0);
        }
    }

    #[test]
    fn the_largest_and_the_smallest_words_keep_their_order() {
        for word in [WORD_MAX as i16, -(WORD_MAX as i16), 257, 1, 0] {
            let words = [word; 32];
            let (mut entries, mut plain) = ([0; 128], [0; 128]);
            let scale = tabulate(&words, 1.0, &mut entries);
            assert_eq!((tabulate_plain(&words, 1.0, &mut plain), plain), (scale, entries));
            let back = |pattern: usize| scale.scale * f32::from(entries[pattern]) + scale.offset / 8.0;
            let error = (f32::from(word) * 8.0 / 255.0).abs().max(1.0);
            assert!((back(15) - f32::from(word) * 4.0).abs() <= error, "{word}: {}", back(15));
            assert!((back(0) + f32::from(word) * 4.0).abs() <= error, "{word}: {}", back(0));
        }
    }

    #[test]
    fn what_is_no_number_becomes_some_word() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MIN_POSITIVE, f32::MAX] {
            let mut words = [7; 32];
            round_to_words(&[value; 32], 1.0, &mut words);
            assert!(words.iter().all(|word| *word == words[0]));
        }
    }
}
