//! Tests of the code kernels.

use super::*;

fn bytes(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn every_level_gives_the_same_bits() {
    for dim in [32usize, 64, 800, 4096 + 32] {
        let code = bytes(dim, 1);
        let left: Vec<i8> = code.iter().map(|byte| *byte as i8).collect();
        let right: Vec<i8> = bytes(dim, 2).iter().map(|byte| *byte as i8).collect();
        let query: Vec<i16> = right.iter().map(|value| i16::from(*value) * 60).collect();
        let codes = bytes(dim * 4, 3);
        let entries = bytes(dim * 4, 4);
        let floats = |seed| {
            let mut out = [0u8; NEIGHBOURS * 4];
            for (index, byte) in bytes(NEIGHBOURS, seed).iter().enumerate() {
                out[index * 4..][..4].copy_from_slice(&(f32::from(*byte) * 0.37).to_le_bytes());
            }
            out
        };
        let (addends, factors) = (floats(5), floats(6));
        let neighbours = NeighbourCodes { codes: &codes, addends: &addends, factors: &factors };
        let table = QueryTable { entries: &entries, scale: 0.013, offset: -(dim as f32), base: 7.5 };
        let results: Vec<_> = CodeKernels::every()
            .into_iter()
            .map(|kernels| {
                let mut out = [0.0; 32];
                let below = kernels.estimate(neighbours, table, 50.0, &mut out);
                (kernels.dot(&left, &right), kernels.dot_query(&code, &query), below, out.map(f32::to_bits))
            })
            .collect();
        for result in &results[1..] {
            assert_eq!(result, &results[0], "{dim}");
        }
    }
}
