//! Tests of the code kernels.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::kernel::bytes::tests::bytes;

#[test]
fn every_level_gives_the_same_bits() {
    for (dim, planes) in [(32usize, 4usize), (64, 2), (64, 3), (800, 1), (800, 4), (4096 + 32, 1), (4096 + 32, 3)] {
        let code = bytes(dim, 1);
        let right: Vec<i8> = bytes(dim, 2).iter().map(|byte| *byte as i8).collect();
        let query: Vec<i16> = right.iter().map(|value| i16::from(*value) * 60).collect();
        let codes = bytes(dim * 4 * planes, 3);
        // The greatest entries, too: sums must not overflow.
        for entries in [bytes(dim * 4, 4), vec![255; dim * 4]] {
            let (addends, factors) = (bytes(NEIGHBOURS * 2, 5), bytes(NEIGHBOURS, 6));
            let neighbours = NeighbourCodes {
                codes: &codes,
                addends: addends.first_chunk().unwrap(),
                factors: factors.first_chunk().unwrap(),
                addend_low: -3.5,
                addend_step: 0.0037,
                factor_step: 0.37,
            };
            let table = QueryTable { entries: &entries, scale: 0.013, offset: -(dim as f32), base: 7.5, ahead: &codes };
            let results: Vec<_> = CodeKernels::every()
                .into_iter()
                .map(|kernels| {
                    let mut out = [0.0; 32];
                    let below = kernels.estimate(neighbours, table, 50.0, &mut out);
                    let rows = ByteRows::new(&codes, dim + 1, 1, dim).unwrap();
                    let mut products = [0; 6];
                    let listed = [2, 0, 1, 1, 2, 0];
                    let is_done = kernels.dots_query(&rows, &Rows::Listed(&listed), &query, &mut products);
                    assert!(is_done && products[1] == kernels.dot_query(&codes[1..][..dim], &query, &[]));
                    assert!(!kernels.dots_query(&rows, &Rows::Listed(&[0, u32::MAX]), &query, &mut [0; 2]));
                    // Behind each other, four at a time and one by one, from any row on.
                    let all: Vec<i32> = (0..codes.len() / (dim + 1))
                        .map(|row| kernels.dot_query(&codes[row * (dim + 1) + 1..][..dim], &query, &[]))
                        .collect();
                    for first in 0..3 {
                        let mut in_order = vec![0; all.len() - first];
                        assert!(kernels.dots_query(&rows, &Rows::Range(first..all.len()), &query, &mut in_order));
                        assert_eq!(in_order, all[first..]);
                        let beyond = Rows::Range(first..all.len() + 1);
                        assert!(!kernels.dots_query(&rows, &beyond, &query, &mut vec![0; all.len() + 1 - first]));
                    }
                    (kernels.dot_query(&code, &query, &codes), products, below, out.map(f32::to_bits))
                })
                .collect();
            for result in &results[1..] {
                assert_eq!(result, &results[0], "{dim} {planes}");
            }
        }
    }
}
