//! Tests of `index/flat`.

use proptest::prelude::*;

use super::*;

const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

/// The distance in double precision, as the documents define it.
fn naive(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
    let pairs = || query.iter().zip(row).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let product = pairs().map(|(a, b)| a * b).sum::<f64>();
    match metric {
        Metric::L2 => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
        Metric::Ip => -product,
        Metric::Cosine => {
            let norms = pairs().map(|(a, _)| a * a).sum::<f64>() * pairs().map(|(_, b)| b * b).sum::<f64>();
            if norms == 0.0 { 0.0 } else { -product / norms.sqrt() }
        }
        Metric::Hamming | Metric::Jaccard => unreachable!("of bits, which have tests of their own"),
    }
}

/// xorshift: small whole numbers, so that every sum is exact in `f32` and ties are many; or any fractions.
fn numbers(count: usize, is_whole: bool, mut seed: u64) -> Vec<f32> {
    seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if is_whole { (seed >> 61) as f32 - 3.0 } else { (seed >> 40) as f32 / (1 << 23) as f32 - 1.0 }
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn search(
    queries: &Queries<'_>,
    vectors: &[u8],
    rows: Range<usize>,
    filter: Option<&Bitmap>,
    range: Option<DistanceRange>,
    k: usize,
) -> Vec<Vec<Hit>> {
    let mut tops = vec![TopK::new(k); queries.count()];
    scan(queries, VectorColumn::of_f32(vectors, queries.dim), rows, filter, range, 3, &mut tops);
    tops.into_iter().map(TopK::into_sorted).collect()
}

fn filter_of(row_count: usize, per_cent: u64, seed: u64) -> Bitmap {
    let mut filter = Bitmap::zeros(row_count);
    for row in 0..row_count {
        let mixed = (row as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        filter.set(row, mixed % 100 < per_cent);
    }
    filter
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// With whole numbers every sum is exact, so L2 and IP agree with double precision to the bit, ties included.
    #[test]
    fn a_scan_finds_what_a_naive_search_finds(
        dim in 1usize..40,
        row_count in 0usize..300,
        query_count in 1usize..11,
        k in 1usize..40,
        per_cent in prop::option::of(0u64..101),
        start in 0usize..200,
        low in prop::option::of(-20i32..60),
        is_similarity: bool,
        seed: u64,
    ) {
        let metric = if is_similarity { Metric::Ip } else { Metric::L2 };
        let values = numbers(dim * row_count, true, seed);
        let queries = Queries::dense(dim, metric, numbers(dim * query_count, true, seed ^ 77));
        let filter = per_cent.map(|per_cent| filter_of(row_count, per_cent, seed));
        let range = low.map(|low| DistanceRange { low: low as f32, high: low as f32 + 50.0 });
        let rows = start.min(row_count)..row_count;
        let found = search(&queries, &bytes(&values), rows.clone(), filter.as_ref(), range, k);
        for (query, found) in queries.dense_values().chunks(dim).zip(found) {
            let mut expected: Vec<Hit> = rows
                .clone()
                .filter(|row| filter.as_ref().is_none_or(|filter| filter.get(*row)))
                .map(|row| {
                    let distance = naive(metric, query, &values[row * dim..][..dim]) as f32 + 0.0;
                    Hit { file_index: 3, row: row as u32, distance }
                })
                .filter(|hit| range.is_none_or(|range| range.low <= hit.distance && hit.distance < range.high))
                .collect();
            expected.sort_by(Hit::order);
            expected.truncate(k);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn scores_are_those_of_double_precision(dim in 1usize..200, metric in 0usize..3, seed: u64) {
        let (values, metric) = (numbers(dim * 50, false, seed), METRICS[metric]);
        let queries = Queries::dense(dim, metric, numbers(dim * 5, false, seed ^ 5));
        let found = search(&queries, &bytes(&values), 0..50, None, None, 50);
        for (query, found) in queries.dense_values().chunks(dim).zip(found) {
            prop_assert_eq!(found.len(), 50);
            prop_assert!(found.is_sorted_by(|a, b| a.order(b).is_lt()));
            for hit in found {
                let expected = naive(metric, query, &values[hit.row as usize * dim..][..dim]);
                let magnitude = if metric == Metric::Cosine { 1.0 } else { dim as f64 };
                prop_assert!((f64::from(hit.distance) - expected).abs() <= 2e-6 * magnitude);
            }
        }
    }

    /// The score of a hit does not depend on how many queries are asked, nor on the filter.
    #[test]
    fn a_score_is_the_same_in_every_search(dim in 1usize..100, metric in 0usize..3, per_cent in 1u64..100, seed: u64) {
        let (row_count, metric) = (150, METRICS[metric]);
        let vectors = bytes(&numbers(dim * row_count, false, seed));
        let queries = Queries::dense(dim, metric, numbers(dim * 7, false, seed ^ 5));
        let filter = filter_of(row_count, per_cent, seed);
        let together = search(&queries, &vectors, 0..row_count, None, None, row_count);
        for (query, together) in queries.dense_values().chunks(dim).zip(together) {
            let alone = Queries::dense(dim, metric, query.to_vec());
            prop_assert_eq!(&search(&alone, &vectors, 0..row_count, None, None, row_count)[0], &together);
            let mut filtered = together;
            filtered.retain(|hit| filter.get(hit.row as usize));
            prop_assert_eq!(&search(&alone, &vectors, 0..row_count, Some(&filter), None, row_count)[0], &filtered);
        }
    }
}

#[test]
fn a_block_border_loses_no_row() {
    // Rows of 2,000 elements: 32 to a block; filters leave partial lists at the end.
    let (dim, row_count) = (2_000, 150);
    let values = numbers(dim * row_count, true, 11);
    let queries = Queries::dense(dim, Metric::L2, numbers(dim * 6, true, 12));
    for filter in [None, Some(filter_of(row_count, 60, 13)), Some(Bitmap::ones(row_count))] {
        let wanted: Vec<u32> = (5..row_count)
            .filter(|row| filter.as_ref().is_none_or(|filter| filter.get(*row)))
            .map(|row| row as u32)
            .collect();
        for hits in search(&queries, &bytes(&values), 5..row_count, filter.as_ref(), None, row_count) {
            let mut rows: Vec<u32> = hits.iter().map(|hit| hit.row).collect();
            rows.sort_unstable();
            assert_eq!(rows, wanted);
        }
    }
}

/// A narrow column gives the hits of its f32 copy, to the bit, also through lists and in double precision.
#[test]
fn narrow_columns_give_the_hits_of_their_f32_copies() {
    for element in VectorElement::ALL {
        for (metric, copies) in METRICS.into_iter().flat_map(|metric| [(metric, 1), (metric, 7)]) {
            let (dim, row_count) = (37, 300);
            let column: Vec<u8> = numbers(dim * row_count, true, 17)
                .into_iter()
                .flat_map(|value| match element {
                    VectorElement::F32 => value.to_le_bytes().to_vec(),
                    VectorElement::F16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
                    VectorElement::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
                    VectorElement::I8 => vec![value as i8 as u8],
                })
                .collect();
            let mut column = column;
            // A row of zeros, whose cosine is computed apart.
            column[5 * dim * element.bytes()..6 * dim * element.bytes()].fill(0);
            let rows = VectorRows { bytes: &column, dim, element };
            let mut copy = vec![0.0; dim * row_count];
            Kernels::get().widen(&rows.block(Rows::Range(0..row_count)).expect("there"), &mut copy);
            let queries = Queries::dense(dim, metric, numbers(dim * copies, false, 18));
            for filter in [None, Some(filter_of(row_count, 10, 3)), Some(filter_of(row_count, 80, 3))] {
                let mut tops = vec![TopK::new(row_count); copies];
                scan(&queries, VectorColumn::Dense(rows), 2..row_count, filter.as_ref(), None, 3, &mut tops);
                let found: Vec<_> = tops.into_iter().map(TopK::into_sorted).collect();
                let expected = search(&queries, &bytes(&copy), 2..row_count, filter.as_ref(), None, row_count);
                assert_eq!(found, expected, "{element:?} {metric:?}");
            }
        }
    }
}

#[test]
fn bits_are_searched_by_both_metrics() {
    let column = [0b1111_0000u8, 0, 0b1111_1111, 0, 0b0000_0001, 0, 0, 0];
    let field = VectorColumn::Bits(VectorRows { bytes: &column, dim: 2, element: VectorElement::I8 });
    for (metric, expected) in [
        (Metric::Hamming, [(0, 0.0), (1, 4.0), (3, 4.0), (2, 5.0)]),
        (Metric::Jaccard, [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.0)]),
    ] {
        let queries = Queries::owned(16, metric, [0b1111_0000u8, 0].repeat(8));
        for filter in [None, Some(Bitmap::ones(4))] {
            let mut tops = vec![TopK::new(4); 8];
            scan(&queries, field, 0..4, filter.as_ref(), None, 0, &mut tops);
            for top in tops {
                let found: Vec<_> = top.into_sorted().iter().map(|hit| (hit.row, hit.distance)).collect();
                assert_eq!(found, expected);
            }
        }
        let range = Some(DistanceRange { low: f32::NEG_INFINITY, high: expected[1].1 });
        let mut tops = [TopK::new(4)];
        scan(&queries, field, 0..4, None, range, 0, &mut tops);
        assert_eq!(tops[0].clone().into_sorted().len(), 1);
    }
}

#[test]
fn queries_that_do_not_fit_the_column_find_nothing() {
    let column = [1u8; 32];
    let bits = VectorColumn::Bits(VectorRows { bytes: &column, dim: 2, element: VectorElement::I8 });
    let queries = Queries::dense(16, Metric::L2, vec![0.0; 16]);
    let mut tops = [TopK::new(4)];
    scan(&queries, bits, 0..4, None, None, 0, &mut tops);
    scan(&queries, VectorColumn::of_f32(&column, 4), 0..2, None, None, 0, &mut tops);
    let wider = Queries::owned(32, Metric::Hamming, vec![0u8; 4]);
    scan(&wider, bits, 0..4, None, None, 0, &mut tops);
    assert!(tops[0].clone().into_sorted().is_empty());
}

#[test]
fn a_zero_vector_has_cosine_zero() {
    let vectors = bytes(&[0.0, 0.0, 3.0, 4.0, -3.0, -4.0]);
    let queries = Queries::dense(2, Metric::Cosine, vec![6.0, 8.0, 0.0, 0.0]);
    let found = search(&queries, &vectors, 0..3, None, None, 3);
    assert_eq!(found[0].iter().map(|hit| (hit.row, hit.distance)).collect::<Vec<_>>(), [(1, -1.0), (0, 0.0), (2, 1.0)]);
    assert_eq!(found[1].iter().map(|hit| (hit.row, hit.distance)).collect::<Vec<_>>(), [(0, 0.0), (1, 0.0), (2, 0.0)]);
}

#[test]
fn cosines_of_huge_and_tiny_vectors_are_right() {
    let vectors = bytes(&[1e30, 1e30, 1e-30, 1e-30, 1e-40, 0.0, 0.0, f32::MAX, 1.0, 1.0]);
    for scale in [1.0, 1e-35, 1e35] {
        for copies in [1, 5] {
            let queries = Queries::dense(2, Metric::Cosine, [scale, scale].repeat(copies));
            for hits in search(&queries, &vectors, 0..5, None, None, 5) {
                let mut cosines = [0.0; 5];
                hits.iter().for_each(|hit| cosines[hit.row as usize] = -hit.distance);
                let slanted = std::f32::consts::FRAC_1_SQRT_2;
                for (cosine, expected) in cosines.iter().zip([1.0, 1.0, slanted, slanted, 1.0]) {
                    assert!((cosine - expected).abs() < 1e-6, "{cosines:?} at scale {scale}");
                }
            }
        }
    }
}

#[test]
fn rows_that_are_not_there_are_not_looked_at() {
    let vectors = bytes(&[1.0; 7]);
    let queries = Queries::dense(2, Metric::Ip, vec![1.0, 1.0]);
    assert_eq!(search(&queries, &vectors, 0..1_000, None, None, 10)[0].len(), 3);
    assert_eq!(search(&queries, &vectors, 0..1_000, Some(&Bitmap::ones(500)), None, 10)[0].len(), 3);
    assert_eq!(search(&queries, &vectors, 0..3, Some(&Bitmap::ones(2)), None, 10)[0].len(), 2);
    for (start, end) in [(9, 3), (3, 2)] {
        let rows = Range { start, end };
        assert_eq!(search(&queries, &vectors, rows.clone(), None, None, 10)[0].len(), 0);
        assert_eq!(search(&queries, &vectors, rows, Some(&Bitmap::ones(3)), None, 10)[0].len(), 0);
    }
}
