//! Tests of `kernel/dispatch`.

use super::super::element::VectorElement;
use super::super::rows::{Rows, VectorRows};
use super::*;

/// xorshift: the same numbers on every run.
fn numbers(count: usize, scale: f32, mut seed: u64) -> Vec<f32> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next() * scale).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn dims() -> impl Iterator<Item = usize> {
    (1..=70).chain((71..=1030).step_by(59)).chain([255, 256, 257, 1023, 1024, 1025, 1030])
}

#[test]
fn every_level_gives_the_same_bits() {
    let levels = Kernels::every();
    for dim in dims() {
        for scale in [1.0, 1e18, 1e-20] {
            let (queries, values) = (numbers(5 * dim, scale, 7), numbers(7 * dim, scale, 8));
            let vectors = bytes(&values);
            let rows = RowBlock::new(&vectors, dim, Rows::Range(0..7)).unwrap();
            let all = levels.iter().map(|level| results(*level, &queries, &rows)).collect::<Vec<_>>();
            for (level, result) in levels.iter().zip(&all) {
                assert_eq!(result, &all[0], "{} at dim {dim}, scale {scale}", level.name());
            }
        }
    }
}

/// Everything a level computes, as bits.
fn results(level: Kernels, queries: &[f32], rows: &RowBlock<'_>) -> Vec<u32> {
    let pairs = queries.len() / rows.dim() * rows.len();
    let mut parts = vec![vec![0.0; pairs], vec![0.0; pairs], vec![0.0; rows.len()], vec![0.0; rows.len()]];
    level.squared_distances(queries, rows, &mut parts[0]);
    level.inner_products(queries, rows, &mut parts[1]);
    level.squared_norms(rows, &mut parts[2]);
    let mut products = vec![0.0; rows.len()];
    level.inner_products_and_norms(&queries[..rows.dim()], rows, &mut products, &mut parts[3]);
    parts.push(products);
    parts.concat().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn distances_are_those_of_double_precision() {
    for level in Kernels::every() {
        for dim in dims() {
            let (query, values) = (numbers(dim, 1.0, 3), numbers(3 * dim, 1.0, 4));
            let vectors = bytes(&values);
            let rows = RowBlock::new(&vectors, dim, Rows::Range(0..3)).unwrap();
            let (mut squared, mut products, mut norms) = ([0.0; 3], [0.0; 3], [0.0; 3]);
            level.squared_distances(&query, &rows, &mut squared);
            level.inner_products_and_norms(&query, &rows, &mut products, &mut norms);
            for (index, row) in values.chunks(dim).enumerate() {
                let pairs = query.iter().zip(row).map(|(a, b)| (f64::from(*a), f64::from(*b)));
                let expected = pairs.clone().map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                assert!((f64::from(squared[index]) - expected).abs() <= 1e-5 * expected + 1e-12);
                // Products cancel: the error is relative to the sum of magnitudes.
                let magnitude = pairs.clone().map(|(a, b)| (a * b).abs()).sum::<f64>();
                let expected = pairs.map(|(a, b)| a * b).sum::<f64>();
                assert!((f64::from(products[index]) - expected).abs() <= 1e-5 * magnitude + 1e-12);
                let expected = row.iter().map(|a| f64::from(*a) * f64::from(*a)).sum::<f64>();
                assert!((f64::from(norms[index]) - expected).abs() <= 1e-5 * expected + 1e-12);
            }
        }
    }
}

#[test]
fn a_pair_has_one_distance_however_it_is_batched() {
    for level in Kernels::every() {
        for dim in [1, 15, 16, 17, 50, 129, 784] {
            let (queries, values) = (numbers(9 * dim, 1.0, 5), numbers(11 * dim, 1.0, 6));
            let vectors = bytes(&values);
            let rows = RowBlock::new(&vectors, dim, Rows::Range(0..11)).unwrap();
            let mut together = vec![0.0; 99];
            level.squared_distances(&queries, &rows, &mut together);
            for query in 0..9 {
                for row in 0..11u32 {
                    let list = [row];
                    let alone = RowBlock::new(&vectors, dim, Rows::Listed(&list)).unwrap();
                    let mut distance = [0.0];
                    level.squared_distances(&queries[query * dim..][..dim], &alone, &mut distance);
                    assert_eq!(distance[0].to_bits(), together[query * 11 + row as usize].to_bits());
                }
            }
        }
    }
}

#[test]
fn rows_may_start_at_any_byte() {
    let values = numbers(4 * 33, 1.0, 9);
    let mut shifted = vec![0u8];
    shifted.extend(bytes(&values));
    let straight = bytes(&values);
    for level in Kernels::every() {
        let expected = results(level, &values[..33], &RowBlock::new(&straight, 33, Rows::Range(0..4)).unwrap());
        let rows = RowBlock::new(&shifted[1..], 33, Rows::Range(0..4)).unwrap();
        assert_eq!(results(level, &values[..33], &rows), expected);
    }
}

#[test]
fn rows_out_of_bounds_are_refused() {
    let vectors = [0u8; 3 * 8 + 7];
    assert!(RowBlock::new(&vectors, 2, Rows::Range(0..3)).is_some());
    assert!(RowBlock::new(&vectors, 2, Rows::Range(0..4)).is_none());
    assert!(RowBlock::new(&vectors, 2, Rows::Listed(&[2, 0])).is_some());
    assert!(RowBlock::new(&vectors, 2, Rows::Listed(&[0, 3])).is_none());
    assert!(RowBlock::new(&vectors, 0, Rows::Range(0..0)).is_none());
}

const NARROW: [VectorElement; 3] = [VectorElement::F16, VectorElement::BF16, VectorElement::I8];

/// Values as a column of an element type.
fn narrowed(values: &[f32], element: VectorElement) -> Vec<u8> {
    let bytes_of = |value: &f32| match element {
        VectorElement::F32 => value.to_le_bytes().to_vec(),
        VectorElement::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
        VectorElement::BF16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
        VectorElement::I8 => ((value * 127.0) as i8).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(bytes_of).collect()
}

/// What `half` makes of the elements of a column.
fn widened(vectors: &[u8], element: VectorElement) -> Vec<f32> {
    let pair = |chunk: &[u8]| u16::from_le_bytes([chunk[0], chunk[1]]);
    let widen = |chunk: &[u8]| match element {
        VectorElement::F32 => f32::from_le_bytes(chunk.try_into().unwrap()),
        VectorElement::F16 => half::f16::from_bits(pair(chunk)).to_f32(),
        VectorElement::BF16 => half::bf16::from_bits(pair(chunk)).to_f32(),
        VectorElement::I8 => f32::from(chunk[0] as i8),
    };
    vectors.chunks(element.bytes()).map(widen).collect()
}

#[test]
fn a_narrow_row_has_the_distances_of_its_f32_copy() {
    for element in NARROW {
        for dim in dims() {
            let queries = numbers(5 * dim, 1.0, 21);
            let mut column = vec![7u8];
            column.extend(narrowed(&numbers(7 * dim, 1.0, 22), element));
            let copy = bytes(&widened(&column[1..], element));
            let rows = VectorRows { bytes: &column[1..], dim, element };
            let list = [6, 0, 3, 3, 5];
            for wanted in [Rows::Range(0..7), Rows::Range(2..7), Rows::Listed(&list)] {
                let expected = RowBlock::new(&copy, dim, wanted.clone()).unwrap();
                let expected = results(Kernels::every()[0], &queries, &expected);
                for level in Kernels::every() {
                    let block = rows.block(wanted.clone()).unwrap();
                    assert_eq!(results(level, &queries, &block), expected, "{} {element:?} dim {dim}", level.name());
                }
            }
        }
    }
}

#[test]
fn every_value_of_an_element_type_is_widened_exactly() {
    for element in NARROW {
        let column: Vec<u8> = match element {
            VectorElement::I8 => (0..=255).collect(),
            _ => (0..=u16::MAX).flat_map(u16::to_le_bytes).collect(),
        };
        let values = widened(&column, element);
        for level in Kernels::every() {
            for dim in [1, 16, 61] {
                let rows = VectorRows { bytes: &column, dim, element };
                let block = rows.block(Rows::Range(0..rows.len())).unwrap();
                let mut out = vec![1.0; rows.len() * dim];
                level.widen(&block, &mut out);
                for (value, expected) in out.iter().zip(&values) {
                    assert!(value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan());
                }
            }
        }
    }
}

#[test]
fn a_row_is_widened_alone() {
    let column = narrowed(&numbers(3 * 19, 1.0, 5), VectorElement::F16);
    let rows = VectorRows { bytes: &column, dim: 19, element: VectorElement::F16 };
    let mut row = [0.0; 19];
    rows.widen(2, &mut row);
    assert_eq!(row[..], widened(rows.row(2), VectorElement::F16));
}

#[test]
fn narrow_rows_out_of_bounds_are_refused() {
    let column = [0u8; 3 * 6 + 5];
    let rows = VectorRows { bytes: &column, dim: 3, element: VectorElement::BF16 };
    assert_eq!(rows.len(), 3);
    assert!(rows.block(Rows::Range(0..3)).is_some() && rows.block(Rows::Range(0..4)).is_none());
    assert!(rows.block(Rows::Listed(&[3])).is_none());
    let nothing = VectorRows { dim: 0, ..rows };
    assert!(nothing.is_empty() && nothing.block(Rows::Range(0..0)).is_none());
}
