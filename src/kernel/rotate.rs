//! A random rotation that costs `n log n`: fast Hadamard transforms of two overlapping windows with random sign flips.
//!
//! Additions and subtractions alone, then one multiplication per element, in an order that depends on the length alone:
//! every SIMD level gives the same bits.

/// Rounds of flips and transforms. Even, so that both windows are mixed equally often; four mix sparse vectors well.
pub const ROTATION_ROUNDS: usize = 4;

/// Rotates `values` in place. `signs` holds [`ROTATION_ROUNDS`] times `values.len()` little-endian words, each 0 or the sign
/// bit of an `f32`; the rotation preserves norms.
///
/// # Panics
/// When `signs` has another length or `values` is no multiple of 32.
pub fn rotate(values: &mut [f32], signs: &[u8]) {
    assert!(signs.len() == values.len() * 4 * ROTATION_ROUNDS && values.len().is_multiple_of(32) && !values.is_empty());
    #[cfg(target_arch = "x86_64")]
    if super::avx512::Avx512::detect().is_some() {
        // SAFETY: the CPU has AVX-512, just detected.
        return unsafe { rotate_avx512(values, signs) };
    }
    rotate_plain(values, signs, flip_and_exchange_all);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rotate_avx512(values: &mut [f32], signs: &[u8]) {
    rotate_plain(values, signs, |values, signs| flip_and_exchange_all_avx512(values, signs));
}

/// As [`flip_and_exchange_all`]; left to the compiler, it becomes gathers and scatters over many registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn flip_and_exchange_all_avx512(values: &mut [f32], signs: &[u8]) {
    use std::arch::x86_64::*;
    let one = _mm512_set1_ps(1.0);
    let halves = [0xAAAA, 0xCCCC, 0xF0F0, 0xFF00].map(|odd| _mm512_mask_blend_ps(odd, one, _mm512_set1_ps(-1.0)));
    for (sixteen, signs) in values.as_chunks_mut::<16>().0.iter_mut().zip(signs.as_chunks::<64>().0) {
        // SAFETY: sixteen floats, and as many words, are one register.
        let (lanes, signs) = unsafe { (_mm512_loadu_ps(sixteen.as_ptr()), _mm512_loadu_ps(signs.as_ptr().cast())) };
        let mut lanes = _mm512_xor_ps(lanes, _mm512_and_ps(signs, _mm512_set1_ps(-0.0)));
        lanes = _mm512_fmadd_ps(lanes, halves[0], _mm512_permute_ps::<0b10_11_00_01>(lanes));
        lanes = _mm512_fmadd_ps(lanes, halves[1], _mm512_permute_ps::<0b01_00_11_10>(lanes));
        lanes = _mm512_fmadd_ps(lanes, halves[2], _mm512_shuffle_f32x4::<0b10_11_00_01>(lanes, lanes));
        lanes = _mm512_fmadd_ps(lanes, halves[3], _mm512_shuffle_f32x4::<0b01_00_11_10>(lanes, lanes));
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(sixteen.as_mut_ptr(), lanes) };
    }
}

#[inline(always)]
fn rotate_plain(values: &mut [f32], signs: &[u8], flip_and_exchange_all: impl Fn(&mut [f32], &[u8])) {
    let dim = values.len();
    let window = 1 << dim.ilog2();
    let whole_scale = if window == dim { 1.0 } else { 1.0 / (window as f32).sqrt() };
    for (round, signs) in signs.chunks_exact(dim * 4).enumerate() {
        let first = if round % 2 == 0 { 0 } else { dim - window };
        flip(&mut values[..first], &signs[..first * 4]);
        flip_and_exchange_all(&mut values[first..first + window], &signs[first * 4..][..window * 4]);
        flip(&mut values[first + window..], &signs[(first + window) * 4..]);
        transform(&mut values[first..first + window], whole_scale);
        if window != dim {
            // What lies outside a window must meet what lies inside: halves are mixed by a rotation of 45 degrees.
            let (left, right) = values.split_at_mut(dim / 2);
            butterflies(left, right, std::f32::consts::FRAC_1_SQRT_2);
        }
    }
    if window == dim {
        let scale = (0..ROTATION_ROUNDS).fold(1.0f32, |scale, _| scale / (window as f32).sqrt());
        values.iter_mut().for_each(|value| *value *= scale);
    }
}

#[inline(always)]
fn flip(values: &mut [f32], signs: &[u8]) {
    for (value, sign) in values.iter_mut().zip(signs.as_chunks::<4>().0) {
        *value = f32::from_bits(value.to_bits() ^ u32::from_le_bytes(*sign) & (1 << 31));
    }
}

/// The stages of a Hadamard transform between elements 16 and more apart, then a scale; a power of two, at least 32. Two stages are
/// done at once: what costs is reading and writing.
#[inline(always)]
fn transform(values: &mut [f32], scale: f32) {
    let mut half = 16;
    while half * 4 < values.len() {
        for four in values.chunks_exact_mut(half * 4) {
            let (left, right) = four.split_at_mut(half * 2);
            let ((first, second), (third, fourth)) = (left.split_at_mut(half), right.split_at_mut(half));
            for (((first, second), third), fourth) in first.iter_mut().zip(second).zip(third).zip(fourth) {
                let (sum, difference) = (*first + *second, *first - *second);
                let (other_sum, other_difference) = (*third + *fourth, *third - *fourth);
                (*first, *second) = (sum + other_sum, difference + other_difference);
                (*third, *fourth) = (sum - other_sum, difference - other_difference);
            }
        }
        half *= 4;
    }
    if half * 4 == values.len() {
        for pair in values.chunks_exact_mut(half * 2) {
            let (left, right) = pair.split_at_mut(half);
            butterflies(left, right, 1.0);
        }
        half *= 2;
    }
    let (left, right) = values.split_at_mut(half);
    butterflies(left, right, scale);
}

/// Sign flips, and the four stages within every sixteen elements.
#[inline(always)]
fn flip_and_exchange_all(values: &mut [f32], signs: &[u8]) {
    flip(values, signs);
    for sixteen in values.as_chunks_mut::<16>().0 {
        *sixteen = exchange::<8>(exchange::<4>(exchange::<2>(exchange::<1>(*sixteen))));
    }
}

/// Butterflies within one register: the product with 1 or -1 is exact, and a shuffle and an addition are all that is left.
#[inline(always)]
fn exchange<const HALF: usize>(old: [f32; 16]) -> [f32; 16] {
    let mut new = [0.0; 16];
    for (lane, new) in new.iter_mut().enumerate() {
        let sign = if lane & HALF == 0 { 1.0 } else { -1.0 };
        *new = old[lane ^ HALF] + old[lane] * sign;
    }
    new
}

#[inline(always)]
fn butterflies(left: &mut [f32], right: &mut [f32], scale: f32) {
    for (left, right) in left.iter_mut().zip(right) {
        (*left, *right) = ((*left + *right) * scale, (*left - *right) * scale);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_norms_and_spreads_one_element() {
        for dim in [32usize, 64, 96, 800, 1536] {
            let signs: Vec<u8> = (0..dim * ROTATION_ROUNDS)
                .flat_map(|index| ((index as u32).wrapping_mul(0x9E37_79B9) & 1 << 31).to_le_bytes())
                .collect();
            for at in [0, dim / 2, dim - 1] {
                let mut values = vec![0.0f32; dim];
                values[at] = 1.0;
                rotate(&mut values, &signs);
                let norm: f32 = values.iter().map(|value| value * value).sum();
                let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                assert!((norm - 1.0).abs() < 1e-4, "{dim}: {norm}");
                assert!(most < 0.8, "{dim} {at}: {most}");
                let mut plain = vec![0.0f32; dim];
                plain[at] = 1.0;
                rotate_plain(&mut plain, &signs, flip_and_exchange_all);
                assert_eq!(plain, values);
            }
        }
    }
}
