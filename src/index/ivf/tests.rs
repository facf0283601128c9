//! Tests of `index/ivf`.

use super::*;
use crate::index::flat::DistanceRange;
use crate::index::trial::{built, clustered, column, damaged, every, exact, recall, reshaped, with_field};
use crate::index::{BuildProgress, Hit, TopK, header};
use crate::types::{Bitmap, Metric};

const DIM: usize = 24;
const ROWS: usize = 2000;
const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];

fn parameters(metric: Metric, is_coarse: bool) -> IvfParameters {
    IvfParameters { metric, list_count: 48, is_coarse, seed: 1, threads: 2 }
}

fn image(parameters: IvfParameters, values: &[f32], dim: usize) -> Vec<u8> {
    built(IvfBuilder::new(parameters, column(values, dim), &BuildProgress::default()).unwrap())
}

fn search(k: usize, probe_count: usize) -> IvfSearch<'static> {
    let probe_count = Some(probe_count);
    IvfSearch {
        k,
        probe_count,
        empty_lists_max: None,
        refine: 1.0,
        filter: None,
        range: None,
        source: None,
        file_index: 0,
    }
}

fn found(ivf: &Ivf<'_>, query: &[f32], search: &IvfSearch<'_>) -> Vec<Hit> {
    let mut top = TopK::new(search.k);
    ivf.search(query, search, &mut IvfScratch::default(), &mut top).unwrap();
    top.into_sorted()
}

/// Recall@10 of 50 unseen queries.
fn recall_of(metric: Metric, is_coarse: bool, probe_count: usize, filter: Option<&Bitmap>) -> f64 {
    let values = clustered(ROWS, DIM, 1);
    let image = image(parameters(metric, is_coarse), &values, DIM);
    let ivf = Ivf::open(&image).unwrap();
    ivf.verify().unwrap();
    let search = IvfSearch { filter, source: Some(column(&values, DIM)), ..search(10, probe_count) };
    let queries = clustered(50, DIM, 2);
    let (truths, founds): (Vec<_>, Vec<_>) = queries
        .chunks_exact(DIM)
        .map(|query| (exact(metric, &values, query, 10, filter, None), found(&ivf, query, &search)))
        .unzip();
    recall(&truths, &founds)
}

#[test]
fn every_metric_finds_the_nearest_with_and_without_codes() {
    for metric in METRICS {
        for is_coarse in [false, true] {
            let recall = recall_of(metric, is_coarse, 16, None);
            assert!(recall >= 0.95, "{metric:?}, coarse {is_coarse}: {recall}");
        }
    }
}

/// Vectors that codes tell badly apart, by name.
fn strange_vectors(dim: usize) -> Vec<(&'static str, Vec<f32>)> {
    let plain = clustered(300, dim, 1);
    let each = |change: &dyn Fn(usize, f32) -> f32| plain.iter().enumerate().map(|(at, v)| change(at, *v)).collect();
    vec![
        ("plain", plain.clone()),
        ("far from zero", each(&|_, value| 1000.0 + value)),
        ("small", each(&|_, value| value * 1e-12)),
        ("too small for squares", each(&|_, value| value * 1e-25)),
        ("large", each(&|_, value| value * 1e12)),
        ("too large for squares", each(&|_, value| value * 1e25)),
        ("one far away", each(&|at, value| if at < dim { 1e9 } else { value })),
        ("of all sizes", each(&|at, value| value * 10f32.powi((at / dim % 40) as i32 - 20))),
        ("every third zero", each(&|at, value| if (at / dim).is_multiple_of(3) { 0.0 } else { value })),
        ("all alike", each(&|at, _| plain[at % dim])),
        ("few alike", each(&|at, value| if (at / dim).is_multiple_of(5) { value } else { plain[at % (7 * dim)] })),
        ("narrow", each(&|at, value| plain[at % (20 * dim)] + value * 1e-3)),
    ]
}

#[test]
fn all_lists_of_ivf_flat_are_a_flat_scan_to_the_bit_whatever_the_vectors_are() {
    for dim in [3, 40] {
        for (name, values) in strange_vectors(dim) {
            for metric in METRICS {
                let image = image(IvfParameters { list_count: 20, ..parameters(metric, false) }, &values, dim);
                let ivf = Ivf::open(&image).unwrap();
                for (query, scale) in [(5, 1.0f32), (250, 1.0), (9, 1e-3), (0, 0.0), (30, 1e-22)] {
                    let query: Vec<f32> =
                        values[query * dim..][..dim].iter().map(|value| value * scale + scale * 0.01).collect();
                    for (k, filter) in [(1, None), (10, None), (150, None), (10, Some(every(7, 300)))] {
                        let filter = filter.as_ref();
                        let search = IvfSearch { source: Some(column(&values, dim)), filter, ..search(k, 20) };
                        let truth = exact(metric, &values, &query, k, filter, None);
                        assert_eq!(found(&ivf, &query, &search), truth, "{name}, {dim}, {metric:?}, {k}, {scale}");
                    }
                }
            }
        }
    }
}

#[test]
fn some_lists_of_ivf_flat_give_what_comparing_their_vectors_gives() {
    for (name, values) in strange_vectors(24) {
        for metric in METRICS {
            let image = image(IvfParameters { list_count: 40, ..parameters(metric, false) }, &values, 24);
            let ivf = Ivf::open(&image).unwrap();
            // A range that everything is in is searched without codes.
            let everything = Some(DistanceRange { low: f32::NEG_INFINITY, high: f32::INFINITY });
            for query in clustered(10, 24, 3).chunks_exact(24) {
                for probed in [1, 3, 10, 30] {
                    let search = IvfSearch { source: Some(column(&values, 24)), ..search(10, probed) };
                    let compared = found(&ivf, query, &IvfSearch { range: everything, ..search });
                    let mut sifted = found(&ivf, query, &search);
                    sifted.retain(|hit| hit.distance < f32::INFINITY);
                    assert_eq!(sifted, compared, "{name}, {metric:?}, {probed}");
                }
            }
        }
    }
}

#[test]
fn codes_spare_most_vectors() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        let image = image(parameters(metric, false), &values, DIM);
        let ivf = Ivf::open(&image).unwrap();
        let mut compared = 0;
        for query in clustered(50, DIM, 2).chunks_exact(DIM) {
            let mut scratch = IvfScratch::default();
            let search = IvfSearch { source: Some(column(&values, DIM)), ..search(10, 48) };
            ivf.search(query, &search, &mut scratch, &mut TopK::new(10)).unwrap();
            assert_eq!(scratch.scanned_count, ROWS);
            compared += scratch.compared_count();
        }
        assert!(compared <= 50 * 40, "{metric:?}: {compared} of {}", 50 * ROWS);
    }
}

#[test]
fn the_lists_that_are_looked_into_are_as_many_as_asked_for_and_the_nearest() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        for is_coarse in [false, true] {
            let image = image(parameters(metric, is_coarse), &values, DIM);
            let ivf = Ivf::open(&image).unwrap();
            let bytes = ivf.centroids[..48 * DIM * 4].as_chunks().0;
            let centroids: Vec<f32> = bytes.iter().map(|value| f32::from_le_bytes(*value)).collect();
            for query in clustered(10, DIM, 2).chunks_exact(DIM) {
                let lists = exact(metric, &centroids, query, 48, None, None);
                for probed in [1, 2, 7, 12, 30, 48] {
                    let nearest = lists[..probed].iter().flat_map(|list| ivf.list(list.row as usize).1);
                    let mut rows: Vec<u32> = nearest.map(|row| u32::from_le_bytes(*row)).collect();
                    rows.sort_unstable();
                    let search = IvfSearch { source: Some(column(&values, DIM)), ..search(ROWS, probed) };
                    let (mut scratch, mut top) = (IvfScratch::default(), TopK::new(ROWS));
                    // As many hits as the nearest lists have rows: no further list is needed.
                    ivf.search(query, &IvfSearch { k: rows.len(), ..search }, &mut scratch, &mut top).unwrap();
                    let mut found: Vec<u32> = top.into_sorted().iter().map(|hit| hit.row).collect();
                    found.sort_unstable();
                    assert_eq!(found, rows, "{metric:?}, coarse {is_coarse}, {probed}");
                    assert_eq!(scratch.scanned_count, rows.len());
                }
            }
        }
    }
}

#[test]
fn a_filter_is_obeyed_and_costs_no_recall() {
    for step in [100, 10, 2] {
        for is_coarse in [false, true] {
            let recall = recall_of(Metric::L2, is_coarse, 16, Some(&every(step, ROWS)));
            assert!(recall >= 0.95, "every {step}th row, coarse {is_coarse}: {recall}");
        }
    }
}

#[test]
fn hits_are_allowed_rows_and_as_many_as_there_are() {
    let values = clustered(ROWS, DIM, 1);
    for is_coarse in [false, true] {
        let image = image(parameters(Metric::L2, is_coarse), &values, DIM);
        let ivf = Ivf::open(&image).unwrap();
        let filter = every(500, ROWS);
        let search = IvfSearch { filter: Some(&filter), source: Some(column(&values, DIM)), ..search(20, 1) };
        let mut rows: Vec<u32> = found(&ivf, &values[..DIM], &search).iter().map(|hit| hit.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..ROWS as u32).step_by(500).collect::<Vec<_>>());
        let nothing = Bitmap::zeros(ROWS);
        assert!(found(&ivf, &values[..DIM], &IvfSearch { filter: Some(&nothing), ..search }).is_empty());
    }
}

#[test]
fn a_range_has_what_a_flat_scan_has() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        let image = image(parameters(metric, true), &values, DIM);
        let ivf = Ivf::open(&image).unwrap();
        let query = &values[DIM * 7..][..DIM];
        let all = exact(metric, &values, query, 200, None, None);
        let range = DistanceRange { low: all[20].distance, high: all[120].distance };
        let search = IvfSearch { range: Some(range), source: Some(column(&values, DIM)), ..search(200, 64) };
        assert_eq!(found(&ivf, query, &search), exact(metric, &values, query, 200, None, Some(range)), "{metric:?}");
    }
}

#[test]
fn a_range_search_goes_on_past_as_many_empty_lists_as_it_is_told() {
    // A ring far from the query: the lists nearest to it have nothing within the range.
    let values = clustered(ROWS, DIM, 1);
    let image = image(parameters(Metric::L2, false), &values, DIM);
    let ivf = Ivf::open(&image).unwrap();
    let query = &values[DIM * 7..][..DIM];
    let all = exact(Metric::L2, &values, query, ROWS, None, None);
    let range = DistanceRange { low: all[ROWS * 9 / 10].distance, high: 1e9 };
    let with = |empty_lists_max| {
        let source = Some(column(&values, DIM));
        let mut scratch = IvfScratch::default();
        let search = IvfSearch { range: Some(range), empty_lists_max, source, ..search(ROWS, 1) };
        let mut top = TopK::new(ROWS);
        ivf.search(query, &search, &mut scratch, &mut top).unwrap();
        (top.into_sorted().len(), scratch.scanned_count)
    };
    let (few, short) = with(None);
    let (some, longer) = with(Some(6));
    assert!(few <= some && short < longer, "{few} {some} {short} {longer}");
    assert_eq!(with(Some(48)), (ROWS / 10, ROWS));
}

#[test]
fn as_many_rows_are_refined_as_are_asked_for() {
    let values = clustered(ROWS, DIM, 1);
    let image = image(parameters(Metric::L2, true), &values, DIM);
    let ivf = Ivf::open(&image).unwrap();
    for (refine, count) in [(0.1, 20), (1.0, 20), (2.5, 35), (7.0, 80)] {
        let mut scratch = IvfScratch::default();
        let search = IvfSearch { refine, source: Some(column(&values, DIM)), ..search(10, 48) };
        ivf.search(&values[..DIM], &search, &mut scratch, &mut TopK::new(10)).unwrap();
        assert_eq!(scratch.refined_count(), count, "{refine}");
    }
}

#[test]
fn codes_alone_give_near_distances() {
    let values = clustered(ROWS, DIM, 1);
    for metric in METRICS {
        let image = image(parameters(metric, true), &values, DIM);
        let ivf = Ivf::open(&image).unwrap();
        for query in clustered(20, DIM, 3).chunks_exact(DIM) {
            let truth = exact(metric, &values, query, ROWS, None, None);
            for hit in found(&ivf, query, &search(10, 64)) {
                let true_hit = truth.iter().find(|other| other.row == hit.row).unwrap();
                let error = (true_hit.distance - hit.distance).abs();
                assert!(error <= 0.03 * true_hit.distance.abs().max(1.0), "{metric:?}: {hit:?}, {true_hit:?}");
            }
        }
    }
}

#[test]
fn threads_change_nothing_in_the_image() {
    let values = clustered(1500, DIM, 3);
    let with = |threads, seed| image(IvfParameters { threads, seed, ..parameters(Metric::Cosine, true) }, &values, DIM);
    let one = with(1, 1);
    assert!(one == with(3, 1));
    assert!(one != with(1, 2));
}

#[test]
fn few_equal_and_zero_vectors_can_be_searched() {
    for rows in [1, 2, 31, 200] {
        for values in [clustered(rows, 3, 1), vec![0.0; rows * 3], vec![7.5; rows * 3], vec![3e38; rows * 3]] {
            for metric in METRICS {
                for is_coarse in [false, true] {
                    let image = image(parameters(metric, is_coarse), &values, 3);
                    let source = Some(column(&values, 3));
                    let search = IvfSearch { source, ..search(5, 64) };
                    let hits = found(&Ivf::open(&image).unwrap(), &[1.0, 2.0, 3.0], &search);
                    assert_eq!(hits.len(), rows.min(5), "{rows} rows, {metric:?}, coarse {is_coarse}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_vector_is_refused() {
    for values in [vec![], vec![f32::NAN; 4], vec![f32::INFINITY; 8]] {
        let progress = BuildProgress::default();
        let refused = IvfBuilder::new(parameters(Metric::L2, false), column(&values, 4), &progress)
            .and_then(|builder| crate::index::BuildIndex::write(Box::new(builder), &mut vec![0; 1 << 20][..]));
        assert!(refused.is_err());
        if !values.is_empty() {
            let builder = IvfBuilder::new(parameters(Metric::L2, false), column(&values, 4), &progress).unwrap();
            let mut image = vec![0; crate::index::BuildIndex::image_bytes(&builder)];
            assert!(crate::index::BuildIndex::write(Box::new(builder), &mut image).is_err());
        }
    }
}

#[test]
fn a_search_that_does_not_fit_is_refused() {
    let values = clustered(100, 8, 1);
    let image = image(parameters(Metric::L2, false), &values, 8);
    let ivf = Ivf::open(&image).unwrap();
    let refused = |query: &[f32], search: &IvfSearch<'_>| {
        ivf.search(query, search, &mut IvfScratch::default(), &mut TopK::new(1)).is_err()
    };
    let fitting = IvfSearch { source: Some(column(&values, 8)), ..search(1, 1) };
    assert!(!refused(&[0.0; 8], &fitting));
    assert!(!refused(&[f32::NAN; 8], &fitting));
    assert!(refused(&[0.0; 7], &fitting));
    assert!(refused(&[0.0; 8], &IvfSearch { source: None, ..fitting }));
    assert!(refused(&[0.0; 8], &IvfSearch { source: Some(column(&values[8..], 8)), ..fitting }));
    assert!(refused(&[0.0; 8], &IvfSearch { filter: Some(&Bitmap::ones(99)), ..fitting }));
}

#[test]
fn every_flipped_header_byte_and_every_truncation_is_found() {
    let image = image(parameters(Metric::L2, true), &clustered(50, 8, 1), 8);
    for at in 0..header::BYTES {
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        assert!(Ivf::open(&damaged).is_err(), "byte {at}");
    }
    for length in (0..image.len()).step_by(61) {
        assert!(Ivf::open(&image[..length]).is_err(), "length {length}");
    }
    assert!(Ivf::open(&[&image[..], &[0]].concat()).is_err());
    // A row less, with a right checksum: the lengths do not fit.
    assert!(Ivf::open(&with_field(&image, 2, 49)).is_err());
}

#[test]
fn garbage_behind_the_header_is_found_by_its_checksum_and_searched_without_harm() {
    let values = clustered(300, 8, 1);
    for is_coarse in [false, true] {
        let whole = image(parameters(Metric::Ip, is_coarse), &values, 8);
        for seed in 0..60 {
            let damaged = damaged(&whole, header::BYTES, seed);
            let ivf = Ivf::open(&damaged).unwrap();
            assert!(ivf.verify().is_err());
            let filter = every(3, 300);
            let source = Some(column(&values, 8));
            for search in
                [IvfSearch { source, ..search(10, 8) }, IvfSearch { source, filter: Some(&filter), ..search(10, 8) }]
            {
                assert!(found(&ivf, &values[..8], &search).iter().all(|hit| hit.row < 300));
            }
            if is_coarse {
                assert!(found(&ivf, &values[..8], &search(10, 8)).iter().all(|hit| hit.row < 300));
            }
        }
    }
}

#[test]
fn a_header_of_another_shape_with_a_right_checksum_is_refused_or_searched_without_harm() {
    let values = clustered(300, 8, 1);
    for is_coarse in [false, true] {
        let whole = image(parameters(Metric::Ip, is_coarse), &values, 8);
        let mut opened_count = 0;
        for seed in 0..2000 {
            let reshaped = reshaped(&whole, seed);
            let Ok(ivf) = Ivf::open(&reshaped) else { continue };
            opened_count += 1;
            for source in [None, Some(column(&values, ivf.dim()))] {
                let (search, mut top) = (IvfSearch { source, ..search(10, 8) }, TopK::new(10));
                let query = vec![0.5; ivf.dim()];
                // A column that does not fit the shape is an error, too.
                let _ = ivf.search(&query, &search, &mut IvfScratch::default(), &mut top);
                assert!(top.into_sorted().iter().all(|hit| (hit.row as usize) < ivf.row_count()));
            }
        }
        assert!((1..2000).contains(&opened_count), "coarse {is_coarse}: {opened_count}");
    }
}

#[test]
fn an_image_may_lie_at_any_address() {
    let values = clustered(300, 8, 1);
    let whole = image(parameters(Metric::L2, true), &values, 8);
    let shifted = [&[0], &whole[..]].concat();
    let search = IvfSearch { source: Some(column(&values, 8)), ..search(10, 4) };
    let hits = found(&Ivf::open(&whole).unwrap(), &values[..8], &search);
    assert_eq!(found(&Ivf::open(&shifted[1..]).unwrap(), &values[..8], &search), hits);
}

proptest::proptest! {
    #[test]
    fn bytes_that_are_no_image_do_not_open(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        proptest::prop_assert!(Ivf::open(&bytes).is_err());
    }
}
