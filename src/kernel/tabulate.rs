//! Look-up tables of a query for FastScan: for every four dimensions the sums under all sixteen patterns of signs, in 8 bits.
//!
//! Written so that a compiler makes SIMD of it on every level; additions have one order, so every level gives the same bits.

/// What turns sums of table entries back: `scale * sum + offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TableScale {
    /// Of the sum.
    pub scale: f32,
    /// Added.
    pub offset: f32,
}

/// Fills `entries` (4 bytes per value) for `values`, a multiple of four. Entry `p` of a group of four values holds their sum, value `i`
/// positive where bit `i` of `p` is 1 and negative where it is 0.
///
/// # Panics
/// When the lengths do not fit.
pub fn tabulate(values: &[f32], entries: &mut [u8]) -> TableScale {
    assert!(values.len().is_multiple_of(4) && entries.len() == values.len() * 4);
    #[cfg(target_arch = "x86_64")]
    if super::avx512::Avx512::detect().is_some() {
        // SAFETY: the CPU has AVX-512, just detected.
        return unsafe { tabulate_avx512(values, entries) };
    }
    tabulate_plain(values, entries)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn tabulate_avx512(values: &[f32], entries: &mut [u8]) -> TableScale {
    tabulate_plain(values, entries)
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

const SIGNS: [[f32; 16]; 4] = signs();

const fn signs() -> [[f32; 16]; 4] {
    let mut signs = [[-1.0; 16]; 4];
    let mut at = 0;
    while at < 64 {
        if ((at % 16) >> (at / 16)) & 1 == 1 {
            signs[at / 16][at % 16] = 1.0;
        }
        at += 1;
    }
    signs
}

#[inline(always)]
#[allow(clippy::manual_clamp, reason = "clamp leaves what is not a number, which has no integer")]
fn tabulate_plain(values: &[f32], entries: &mut [u8]) -> TableScale {
    let groups = values.as_chunks::<4>().0;
    let reach = |group: &[f32; 4]| (group[0].abs() + group[1].abs()) + (group[2].abs() + group[3].abs());
    let (mut widest, mut total) = (0.0f32, 0.0f32);
    for group in groups {
        let reach = reach(group);
        widest = widest.max(reach);
        total += reach;
    }
    let scale = widest * 2.0 / 255.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (group, entries) in groups.iter().zip(entries.as_chunks_mut::<16>().0) {
        let low = reach(group) * inverse + 0.5;
        let scaled = group.map(|value| value * inverse);
        let mut sums = [0i32; 16];
        for (pattern, sum) in sums.iter_mut().enumerate() {
            let left = SIGNS[0][pattern] * scaled[0] + SIGNS[1][pattern] * scaled[1];
            let right = SIGNS[2][pattern] * scaled[2] + SIGNS[3][pattern] * scaled[3];
            // SAFETY: each part is at most 255 / 4 in size or not a number, which the minimum makes 255.
            *sum = unsafe { ((left + right) + low).max(0.0).min(255.0).to_int_unchecked() };
        }
        *entries = sums.map(|sum| sum as u8);
    }
    TableScale { scale, offset: -total }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn tables_give_back_signed_sums() {
        let values: Vec<f32> = (0..64).map(|index| ((index * 37 % 64) as f32 - 31.5) / 7.0).collect();
        let mut entries = vec![0; 256];
        let scale = tabulate(&values, &mut entries);
        let mut plain = vec![0; 256];
        assert_eq!(tabulate_plain(&values, &mut plain), scale);
        assert_eq!(plain, entries);
        for pattern in 0..16usize {
            let sum: u32 = entries.chunks_exact(16).map(|group| u32::from(group[pattern])).sum();
            let signed = |index: usize| if pattern >> (index % 4) & 1 == 1 { 1.0 } else { -1.0 };
            let exact: f32 = values.iter().enumerate().map(|(index, value)| signed(index) * value).sum();
            assert!((scale.scale * sum as f32 + scale.offset - exact).abs() < scale.scale * 8.0);
        }
    }

    #[test]
    fn strange_values_make_some_table() {
        for value in [f32::NAN, f32::INFINITY, 0.0, f32::MIN_POSITIVE, f32::MAX] {
            tabulate(&[value; 32], &mut [0; 128]);
        }
    }
}
