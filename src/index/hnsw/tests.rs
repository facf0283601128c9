//! Tests of `index/hnsw`.

use std::sync::OnceLock;

use super::*;
use crate::index::flat::DistanceRange;
use crate::index::trial::{built, clustered, column, damaged, every, exact, recall, reshaped, with_field};
use crate::index::{BuildIndex, BuildProgress, Hit, TopK, header};
use crate::types::{Bitmap, Metric};

const DIM: usize = 24;
const ROWS: usize = 2000;
const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];
const ENCODINGS: [Encoding; 6] = Encoding::ALL;
/// Encodings of copies, how much of the true hits those find alone, and how near their distances are.
const COPIES: [(Encoding, f64, f32); 5] = [
    (Encoding::Codes4, 0.7, 0.25),
    (Encoding::Codes6, 0.9, 0.06),
    (Encoding::Codes8, 0.95, 0.03),
    (Encoding::F16, 0.95, 0.03),
    (Encoding::Bf16, 0.95, 0.03),
];

fn parameters(metric: Metric, encoding: Encoding) -> HnswParameters {
    HnswParameters { metric, m: 16, ef_construction: 100, encoding, is_refined: true, seed: 1, threads: 2 }
}

fn image(parameters: HnswParameters, values: &[f32], dim: usize) -> Vec<u8> {
    built(HnswBuilder::new(parameters, column(values, dim), &BuildProgress::default()).unwrap())
}

/// The image of the usual rows, `clustered(ROWS, DIM, 1)`: most tests search the same few, and building is what takes time.
fn usual(metric: Metric, encoding: Encoding) -> &'static [u8] {
    static IMAGES: [OnceLock<Vec<u8>>; METRICS.len() * ENCODINGS.len()] =
        [const { OnceLock::new() }; METRICS.len() * ENCODINGS.len()];
    let place = METRICS.iter().position(|other| *other == metric).unwrap() * ENCODINGS.len()
        + ENCODINGS.iter().position(|other| *other == encoding).unwrap();
    IMAGES[place].get_or_init(|| image(parameters(metric, encoding), &clustered(ROWS, DIM, 1), DIM))
}

/// As [`usual`], of an index that is not refined: it differs by a flag of the header.
fn unrefined(metric: Metric, encoding: Encoding) -> Vec<u8> {
    with_field(usual(metric, encoding), 8, 2)
}

fn search(k: usize, ef: usize) -> HnswSearch<'static> {
    HnswSearch { k, ef, refine: 1.0, filter: None, range: None, source: None, file_index: 0 }
}

fn found(hnsw: &Hnsw<'_>, query: &[f32], search: &HnswSearch<'_>) -> Vec<Hit> {
    let mut top = TopK::new(search.k);
    hnsw.search(query, search, &mut HnswScratch::default(), &mut top).unwrap();
    top.into_sorted()
}

/// Recall@10 of 50 unseen queries.
fn recall_of(image: &[u8], values: &[f32], ef: usize, filter: Option<&Bitmap>) -> f64 {
    let hnsw = Hnsw::open(image).unwrap();
    let search = HnswSearch { filter, source: Some(column(values, DIM)), ..search(10, ef) };
    let queries = clustered(50, DIM, 2);
    let (truths, founds): (Vec<_>, Vec<_>) = queries
        .chunks_exact(DIM)
        .map(|query| (exact(hnsw.metric(), values, query, 10, filter, None), found(&hnsw, query, &search)))
        .unzip();
    recall(&truths, &founds)
}

#[test]
fn every_metric_and_encoding_finds_the_nearest() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        for encoding in ENCODINGS {
            let image = usual(metric, encoding);
            Hnsw::open(image).unwrap().verify().unwrap();
            let recall = recall_of(image, &values, 64, None);
            assert!(recall >= 0.95, "{metric:?}, {encoding:?}: {recall}");
        }
    }
}

#[test]
fn a_search_looks_at_a_small_part_of_the_rows() {
    let values = clustered(ROWS, DIM, 1);
    let image = usual(Metric::L2, Encoding::Column);
    let hnsw = Hnsw::open(image).unwrap();
    let mut scratch = HnswScratch::default();
    let search = HnswSearch { source: Some(column(&values, DIM)), ..search(10, 32) };
    hnsw.search(&clustered(1, DIM, 9), &search, &mut scratch, &mut TopK::new(10)).unwrap();
    assert!((32..ROWS / 4).contains(&scratch.computed_count), "{}", scratch.computed_count);
}

#[test]
fn a_filter_is_obeyed_and_costs_no_recall() {
    let values = clustered(ROWS, DIM, 1);
    for encoding in ENCODINGS {
        let image = usual(Metric::L2, encoding);
        for step in [100, 10, 2] {
            let recall = recall_of(image, &values, 64, Some(&every(step, ROWS)));
            assert!(recall >= 0.95, "every {step}th row, {encoding:?}: {recall}");
        }
    }
}

#[test]
fn a_filter_far_from_the_query_is_found_by_a_scan() {
    let values = clustered(ROWS, DIM, 1);
    let image = usual(Metric::L2, Encoding::Codes8);
    let query = &values[..DIM];
    let far = exact(Metric::L2, &values, query, ROWS, None, None).split_off(ROWS / 2);
    let mut filter = Bitmap::zeros(ROWS);
    far.iter().for_each(|hit| filter.set(hit.row as usize, true));
    let search = HnswSearch { filter: Some(&filter), source: Some(column(&values, DIM)), ..search(10, 16) };
    assert_eq!(found(&Hnsw::open(image).unwrap(), query, &search), far[..10]);
}

#[test]
fn hits_are_allowed_rows_and_as_many_as_there_are() {
    let values = clustered(ROWS, DIM, 1);
    for encoding in ENCODINGS {
        let image = usual(Metric::L2, encoding);
        let hnsw = Hnsw::open(image).unwrap();
        let filter = every(500, ROWS);
        let search = HnswSearch { filter: Some(&filter), source: Some(column(&values, DIM)), ..search(20, 20) };
        let mut rows: Vec<u32> = found(&hnsw, &values[..DIM], &search).iter().map(|hit| hit.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..ROWS as u32).step_by(500).collect::<Vec<_>>());
        let nothing = Bitmap::zeros(ROWS);
        assert!(found(&hnsw, &values[..DIM], &HnswSearch { filter: Some(&nothing), ..search }).is_empty());
    }
}

#[test]
fn pages_of_a_range_are_those_of_a_flat_scan() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        let image = usual(metric, Encoding::Codes8);
        let hnsw = Hnsw::open(image).unwrap();
        let query = &values[DIM * 7..][..DIM];
        let mut low = f32::NEG_INFINITY;
        let (mut truths, mut founds) = (Vec::new(), Vec::new());
        for _ in 0..8 {
            let range = Some(DistanceRange { low, high: f32::INFINITY });
            let search = HnswSearch { range, source: Some(column(&values, DIM)), ..search(25, 64) };
            let page = found(&hnsw, query, &search);
            assert_eq!(page.len(), 25);
            assert!(page[0].distance >= low);
            low = page[24].distance.next_up();
            truths.push(exact(metric, &values, query, 25, None, range));
            founds.push(page);
        }
        let recall = recall(&truths, &founds);
        assert!(recall >= 0.95, "{metric:?}: {recall}");
        let all = exact(metric, &values, query, 200, None, None);
        let range = Some(DistanceRange { low: all[5].distance, high: all[60].distance });
        let search = HnswSearch { range, source: Some(column(&values, DIM)), ..search(100, 128) };
        assert_eq!(found(&hnsw, query, &search), all[5..60], "{metric:?}");
    }
}

#[test]
fn copies_alone_give_near_distances() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        for (encoding, _, error_max) in COPIES {
            let image = usual(metric, encoding);
            let hnsw = Hnsw::open(image).unwrap();
            for query in clustered(20, DIM, 3).chunks_exact(DIM) {
                let truth = exact(metric, &values, query, ROWS, None, None);
                for hit in found(&hnsw, query, &search(10, 64)) {
                    let true_hit = truth.iter().find(|other| other.row == hit.row).unwrap();
                    let error = (true_hit.distance - hit.distance).abs() / true_hit.distance.abs().max(1.0);
                    assert!(error <= error_max, "{metric:?}, {encoding:?}: {hit:?}, {true_hit:?}");
                }
            }
        }
    }
}

#[test]
fn an_index_that_is_not_refined_answers_from_its_copies_whatever_else_is_there() {
    let values = clustered(ROWS, DIM, 1);
    let filter = every(5, ROWS);
    for metric in METRICS {
        for (encoding, recall_min, _) in COPIES {
            let image = unrefined(metric, encoding);
            let hnsw = Hnsw::open(&image).unwrap();
            let (mut shared, mut differing) = (0, 0);
            for query in clustered(50, DIM, 2).chunks_exact(DIM) {
                for filter in [None, Some(&filter)] {
                    let alone = HnswSearch { filter, ..search(10, 64) };
                    let beside = HnswSearch { source: Some(column(&values, DIM)), ..alone };
                    let hits = found(&hnsw, query, &beside);
                    assert_eq!(hits, found(&hnsw, query, &alone), "{metric:?}, {encoding:?}");
                    let truth = exact(metric, &values, query, 10, filter, None);
                    shared += hits.iter().filter(|hit| truth.iter().any(|other| other.row == hit.row)).count();
                    differing += hits.iter().filter(|hit| !truth.contains(hit)).count();
                }
            }
            let recall = shared as f64 / 1000.0;
            assert!(recall >= recall_min, "{metric:?}, {encoding:?}: {recall}");
            assert!(differing > 500, "{metric:?}, {encoding:?}: {differing}");
        }
    }
}

#[test]
fn pages_of_an_index_that_is_not_refined_agree() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        for (encoding, ..) in COPIES {
            let image = unrefined(metric, encoding);
            let hnsw = Hnsw::open(&image).unwrap();
            let query = &values[DIM * 7..][..DIM];
            // So many that all are compared.
            let all = found(&hnsw, query, &search(ROWS, ROWS));
            assert_eq!(all.len(), ROWS);
            let (mut low, mut pages) = (f32::NEG_INFINITY, Vec::new());
            for _ in 0..8 {
                let range = Some(DistanceRange { low, high: f32::INFINITY });
                let page =
                    found(&hnsw, query, &HnswSearch { range, source: Some(column(&values, DIM)), ..search(25, 64) });
                assert_eq!(page.len(), 25);
                low = page[24].distance.next_up();
                pages.extend(page);
            }
            assert!(pages.is_sorted_by(|left, right| left.order(right).is_lt()));
            assert!(pages.iter().all(|hit| all.contains(hit)), "{metric:?}, {encoding:?}");
            let early = pages.iter().filter(|hit| all[..pages.len()].contains(hit)).count();
            assert!(early * 100 >= pages.len() * 95, "{metric:?}, {encoding:?}: {early}");
        }
    }
}

#[test]
fn what_is_not_refined_says_so_in_its_header_and_is_the_same_besides() {
    let values = clustered(300, DIM, 1);
    for (encoding, ..) in COPIES {
        let refined = image(parameters(Metric::L2, encoding), &values, DIM);
        let alone = image(HnswParameters { is_refined: false, ..parameters(Metric::L2, encoding) }, &values, DIM);
        assert!(alone == with_field(&refined, 8, 2) && alone != refined, "{encoding:?}");
    }
}

#[test]
fn four_bits_take_half_and_six_three_quarters_of_the_bytes_of_eight() {
    let values = clustered(300, 256, 1);
    let image_bytes = |rows: usize, encoding| {
        let progress = BuildProgress::default();
        let builder = HnswBuilder::new(parameters(Metric::L2, encoding), column(&values[..rows * 256], 256), &progress);
        builder.unwrap().image_bytes()
    };
    let bytes_per_row = |encoding| {
        let of_copies = |rows| image_bytes(rows, encoding) - image_bytes(rows, Encoding::Column);
        (of_copies(300) - of_copies(100)) / 200
    };
    let expected = [(Encoding::Codes4, 8 + 128), (Encoding::Codes6, 8 + 192), (Encoding::Codes8, 8 + 256)];
    for (encoding, bytes) in expected {
        assert_eq!(bytes_per_row(encoding), bytes, "{encoding:?}");
    }
}

#[test]
fn threads_change_nothing_in_the_image() {
    let values = clustered(1500, DIM, 3);
    for encoding in [Encoding::Codes4, Encoding::Codes6, Encoding::Codes8] {
        let with = |threads, seed| {
            image(HnswParameters { threads, seed, ..parameters(Metric::Cosine, encoding) }, &values, DIM)
        };
        let one = with(1, 1);
        assert!(one == with(3, 1), "{encoding:?}");
        assert!(one != with(1, 2), "{encoding:?}");
    }
}

#[test]
fn few_equal_and_zero_vectors_can_be_searched() {
    for rows in [1, 2, 31, 200] {
        for values in [clustered(rows, 3, 1), vec![0.0; rows * 3], vec![7.5; rows * 3], vec![3e38; rows * 3]] {
            for metric in METRICS {
                for encoding in ENCODINGS {
                    let parameters = HnswParameters { m: 2, ..parameters(metric, encoding) };
                    let image = image(parameters, &values, 3);
                    let search = HnswSearch { source: Some(column(&values, 3)), ..search(5, 5) };
                    let hits = found(&Hnsw::open(&image).unwrap(), &[1.0, 2.0, 3.0], &search);
                    assert_eq!(hits.len(), rows.min(5), "{rows} rows, {metric:?}, {encoding:?}");
                }
            }
        }
    }
}

#[test]
fn many_equal_rows_do_not_hide_other_rows_and_are_all_found() {
    let mut values = vec![0.25; 1000 * DIM];
    values.extend(clustered(ROWS, DIM, 1));
    for encoding in ENCODINGS {
        let image = image(parameters(Metric::L2, encoding), &values, DIM);
        let recall = recall_of(&image, &values, 32, None);
        assert!(recall >= 0.95, "{encoding:?}: {recall}");
        let hnsw = Hnsw::open(&image).unwrap();
        let search = HnswSearch { source: Some(column(&values, DIM)), ..search(80, 80) };
        assert!(found(&hnsw, &[0.25; DIM], &search).iter().all(|hit| hit.distance == 0.0));
        let filter = every(9, 1000 + ROWS);
        let search = HnswSearch { filter: Some(&filter), ..search };
        let hits = found(&hnsw, &[0.25; DIM], &search);
        assert!(hits.len() == 80 && hits.iter().all(|hit| hit.distance == 0.0 && hit.row.is_multiple_of(9)));
        // The vertex itself is forbidden, not its twins, and so many rows are allowed that a walk comes by.
        let mut odd = Bitmap::zeros(1000 + ROWS);
        (1..1000 + ROWS).step_by(2).for_each(|row| odd.set(row, true));
        let hits = found(&hnsw, &[0.25; DIM], &HnswSearch { filter: Some(&odd), k: 5, ef: 5, ..search });
        assert!(hits.len() == 5 && hits.iter().all(|hit| hit.distance == 0.0 && hit.row % 2 == 1));
    }
}

#[test]
fn the_largest_pool_of_a_build_takes_no_more_memory_than_there_are_rows() {
    let values = clustered(200, 8, 1);
    let with = |ef_construction| {
        image(HnswParameters { ef_construction, ..parameters(Metric::L2, Encoding::Column) }, &values, 8)
    };
    assert!(with(i32::MAX as usize) == with(200));
}

#[test]
fn what_is_no_vector_is_refused() {
    let progress = BuildProgress::default();
    assert!(HnswBuilder::new(parameters(Metric::L2, Encoding::Column), column(&[], 4), &progress).is_err());
    for values in [vec![f32::NAN; 4], vec![f32::INFINITY; 8]] {
        let builder =
            HnswBuilder::new(parameters(Metric::L2, Encoding::Column), column(&values, 4), &progress).unwrap();
        let mut image = vec![0; builder.image_bytes()];
        assert!(Box::new(builder).write(&mut image).is_err());
    }
}

#[test]
fn a_search_that_does_not_fit_is_refused() {
    let values = clustered(100, 8, 1);
    let image = image(parameters(Metric::L2, Encoding::Column), &values, 8);
    let hnsw = Hnsw::open(&image).unwrap();
    let refused = |query: &[f32], search: &HnswSearch<'_>| {
        hnsw.search(query, search, &mut HnswScratch::default(), &mut TopK::new(1)).is_err()
    };
    let fitting = HnswSearch { source: Some(column(&values, 8)), ..search(1, 1) };
    assert!(!refused(&[0.0; 8], &fitting));
    assert!(!refused(&[f32::NAN; 8], &fitting));
    assert!(refused(&[0.0; 7], &fitting));
    assert!(refused(&[0.0; 8], &HnswSearch { source: None, ..fitting }));
    assert!(refused(&[0.0; 8], &HnswSearch { source: Some(column(&values[8..], 8)), ..fitting }));
    assert!(refused(&[0.0; 8], &HnswSearch { filter: Some(&Bitmap::ones(99)), ..fitting }));
}

#[test]
fn every_flipped_header_byte_and_every_truncation_is_found() {
    let image = image(parameters(Metric::L2, Encoding::Codes8), &clustered(50, 8, 1), 8);
    for at in 0..header::BYTES {
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        assert!(Hnsw::open(&damaged).is_err(), "byte {at}");
    }
    for length in (0..image.len()).step_by(61) {
        assert!(Hnsw::open(&image[..length]).is_err(), "length {length}");
    }
    assert!(Hnsw::open(&[&image[..], &[0]].concat()).is_err());
    // A row less, with a right checksum: the lengths do not fit. An entry that is no vertex of its level.
    assert!(Hnsw::open(&with_field(&image, 2, 49)).is_err());
    assert!(Hnsw::open(&with_field(&image, 6, 50)).is_err());
}

#[test]
fn garbage_behind_the_header_is_found_by_its_checksum_and_searched_without_harm() {
    let values = clustered(300, 8, 1);
    let source = Some(column(&values, 8));
    let filter = every(3, 300);
    for encoding in ENCODINGS {
        let whole = image(HnswParameters { m: 3, ..parameters(Metric::Ip, encoding) }, &values, 8);
        for seed in 0..60 {
            let damaged = damaged(&whole, header::BYTES, seed);
            let hnsw = Hnsw::open(&damaged).unwrap();
            assert!(hnsw.verify().is_err());
            for search in
                [HnswSearch { source, ..search(10, 10) }, HnswSearch { source, filter: Some(&filter), ..search(5, 5) }]
            {
                assert!(found(&hnsw, &values[..8], &search).iter().all(|hit| hit.row < 300));
            }
            if encoding != Encoding::Column {
                assert!(found(&hnsw, &values[..8], &search(10, 10)).iter().all(|hit| hit.row < 300));
            }
        }
    }
}

#[test]
fn a_header_of_another_shape_with_a_right_checksum_is_refused_or_searched_without_harm() {
    let values = clustered(300, 8, 1);
    for encoding in ENCODINGS {
        let whole = image(HnswParameters { m: 3, ..parameters(Metric::Ip, encoding) }, &values, 8);
        let mut opened_count = 0;
        for seed in 0..2000 {
            let reshaped = reshaped(&whole, seed);
            let Ok(hnsw) = Hnsw::open(&reshaped) else { continue };
            opened_count += 1;
            let range = (seed % 2 == 0).then_some(DistanceRange { low: -0.5, high: 9.0 });
            for source in [None, Some(column(&values, hnsw.dim()))] {
                let (search, mut top) = (HnswSearch { source, range, ..search(10, 10) }, TopK::new(10));
                let query = vec![0.5; hnsw.dim()];
                // A column that does not fit the shape is an error, too.
                let _ = hnsw.search(&query, &search, &mut HnswScratch::default(), &mut top);
                assert!(top.into_sorted().iter().all(|hit| (hit.row as usize) < hnsw.row_count()));
            }
        }
        assert!((1..2000).contains(&opened_count), "{encoding:?}: {opened_count}");
    }
}

#[test]
fn an_image_may_lie_at_any_address() {
    let values = clustered(300, 8, 1);
    for encoding in ENCODINGS {
        let whole = image(HnswParameters { m: 4, ..parameters(Metric::L2, encoding) }, &values, 8);
        let shifted = [&[0], &whole[..]].concat();
        let search = HnswSearch { source: Some(column(&values, 8)), ..search(10, 20) };
        let hits = found(&Hnsw::open(&whole).unwrap(), &values[..8], &search);
        assert_eq!(found(&Hnsw::open(&shifted[1..]).unwrap(), &values[..8], &search), hits);
    }
}

proptest::proptest! {
    #[test]
    fn bytes_that_are_no_image_do_not_open(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        proptest::prop_assert!(Hnsw::open(&bytes).is_err());
    }
}
