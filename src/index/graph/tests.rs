//! Tests of `index/graph`.

use std::sync::Mutex;

use super::*;
use crate::index::flat::scan;
use crate::index::{Hit, Queries, TopK, VectorColumn};
use crate::kernel::VectorRows;
use crate::types::{Bitmap, Metric};

const DIM: usize = 40;
const ROWS: usize = 3000;
const ROTATION_OFFSET: usize = 128;

/// Points around 30 centres, seeded.
fn vectors(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let centre = |cluster: u64, at: u64| (space::mix(cluster * 1000 + at) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let noise =
        |row: u64, at: u64| (space::mix(seed ^ space::mix(row * 4096 + at)) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let at = |index: usize| ((index / dim) as u64, (index % dim) as u64);
    (0..rows * dim).map(at).map(|(row, at)| centre(space::mix(row ^ seed) % 30, at) + noise(row, at)).collect()
}

fn bytes_of(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

fn image(parameters: BuildParameters, values: &[f32]) -> Vec<u8> {
    let builder = Builder::new(parameters, values, &|_| ()).unwrap();
    let mut image = vec![0; builder.image_bytes().unwrap()];
    builder.build(&mut image).unwrap();
    image
}

fn exact(metric: Metric, dim: usize, values: &[f32], query: &[f32], filter: Option<&Bitmap>) -> Vec<Hit> {
    let queries = Queries::dense(dim, metric, query.to_vec());
    let mut tops = [TopK::new(10)];
    scan(&queries, VectorColumn::of_f32(bytes_of(values), dim), 0..values.len() / dim, filter, None, 0, &mut tops);
    let [top] = tops;
    top.into_sorted()
}

fn found(graph: &Graph<'_>, query: &[f32], ef: usize, filter: Option<&Bitmap>, source: Option<&[u8]>) -> Vec<Hit> {
    let mut top = TopK::new(10);
    let source = source.map(|bytes| VectorRows::of_f32(bytes, graph.dim()));
    let parameters = SearchParameters { k: 10, ef, filter, source, file_index: 0 };
    graph.search(query, parameters, &mut Scratch::new(), &mut top).unwrap();
    top.into_sorted()
}

/// Recall@10 of 50 unseen queries; hits that both found have the same distance, to the bit.
fn recall(metric: Metric, filter: Option<&Bitmap>, with_source: bool, ef: usize) -> f64 {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters::new(metric, DIM), &values);
    let graph = Graph::open(&image).unwrap();
    graph.verify().unwrap();
    let source = with_source.then_some(bytes_of(&values));
    let mut shared = 0;
    for query in vectors(50, DIM, 2).chunks_exact(DIM) {
        let truth = exact(metric, DIM, &values, query, filter);
        for hit in found(&graph, query, ef, filter, source) {
            if let Some(true_hit) = truth.iter().find(|other| other.row == hit.row) {
                shared += 1;
                if with_source {
                    assert_eq!(hit.distance.to_bits(), true_hit.distance.to_bits());
                }
            }
        }
    }
    f64::from(shared) / 500.0
}

#[test]
fn every_metric_finds_the_nearest() {
    for metric in [Metric::L2, Metric::Cosine, Metric::Ip] {
        let recall = recall(metric, None, true, 120);
        assert!(recall >= 0.95, "{metric:?}: {recall}");
    }
}

#[test]
fn eight_bit_distances_alone_find_most_of_the_nearest() {
    let recall = recall(Metric::L2, None, false, 120);
    assert!(recall >= 0.9, "{recall}");
}

#[test]
fn a_filter_is_obeyed_and_costs_no_recall() {
    let mut filter = Bitmap::zeros(ROWS);
    (0..ROWS).step_by(3).for_each(|row| filter.set(row, true));
    let recall = recall(Metric::L2, Some(&filter), true, 200);
    assert!(recall >= 0.95, "{recall}");
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters { rounds: 0, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    assert!(found(&graph, &values[..DIM], 100, Some(&filter), None).iter().all(|hit| hit.row % 3 == 0));
}

#[test]
fn threads_change_nothing_in_the_image() {
    let values = vectors(1500, DIM, 3);
    let with = |threads| image(BuildParameters { threads, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let one = with(1);
    assert!(one == with(3));
    let other = BuildParameters { seed: 2, ..BuildParameters::new(Metric::L2, DIM) };
    assert!(one != image(other, &values));
}

#[test]
fn few_and_equal_vectors_can_be_searched() {
    for rows in [1, 2, 31, 33, 200] {
        for values in [vectors(rows, 3, 1), vec![0.0; rows * 3], vec![7.5; rows * 3]] {
            for metric in [Metric::L2, Metric::Cosine, Metric::Ip] {
                let image = image(BuildParameters::new(metric, 3), &values);
                let hits = found(&Graph::open(&image).unwrap(), &[1.0, 2.0, 3.0], 64, None, Some(bytes_of(&values)));
                assert!(!hits.is_empty() && hits.iter().all(|hit| (hit.row as usize) < rows), "{rows} {metric:?}");
            }
        }
    }
}

#[test]
fn progress_reaches_every_row_of_every_stage() {
    let values = vectors(500, 8, 1);
    let seen = Mutex::new(Vec::new());
    let report = |progress: Progress| {
        if progress.done == progress.row_count {
            seen.lock().unwrap().push(progress.stage);
        }
    };
    let parameters = BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, 8) };
    let builder = Builder::new(parameters, &values, &report).unwrap();
    let mut image = vec![0; builder.image_bytes().unwrap()];
    builder.build(&mut image).unwrap();
    let stages = seen.into_inner().unwrap();
    assert_eq!(stages, [Stage::Quantise, Stage::Partition, Stage::Link(0), Stage::Search(0), Stage::Link(1)]);
}

#[test]
fn what_is_no_vector_is_refused() {
    let parameters = BuildParameters::new(Metric::L2, 4);
    for values in [vec![], vec![1.0; 5], vec![f32::NAN; 4], vec![f32::INFINITY; 8]] {
        assert!(Builder::new(parameters, &values, &|_| ()).is_err());
    }
}

#[test]
fn a_search_that_does_not_fit_is_refused() {
    let values = vectors(100, 8, 1);
    let image = image(BuildParameters::new(Metric::L2, 8), &values);
    let graph = Graph::open(&image).unwrap();
    let search = |query: &[f32], filter: Option<&Bitmap>, source: Option<&[u8]>| {
        let source = source.map(|bytes| VectorRows::of_f32(bytes, 8));
        let parameters = SearchParameters { k: 1, ef: 1, filter, source, file_index: 0 };
        graph.search(query, parameters, &mut Scratch::new(), &mut TopK::new(1))
    };
    assert!(search(&[0.0; 7], None, None).is_err());
    assert!(search(&[0.0; 8], Some(&Bitmap::ones(99)), None).is_err());
    assert!(search(&[0.0; 8], None, Some(&bytes_of(&values)[..3100])).is_err());
    assert!(search(&[f32::NAN; 8], None, Some(bytes_of(&values))).is_ok());
}

#[test]
fn every_flipped_header_byte_and_every_truncation_is_found() {
    let values = vectors(50, 8, 1);
    let image = image(BuildParameters::new(Metric::L2, 8), &values);
    for at in 0..ROTATION_OFFSET {
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        assert!(Graph::open(&damaged).is_err(), "byte {at}");
    }
    for length in (0..image.len()).step_by(61) {
        assert!(Graph::open(&image[..length]).is_err(), "length {length}");
    }
    let mut long = image.clone();
    long.push(0);
    assert!(Graph::open(&long).is_err());
}

#[test]
fn an_entry_that_is_no_row_is_refused_though_the_checksum_is_right() {
    let mut image = image(BuildParameters::new(Metric::L2, 8), &vectors(50, 8, 1));
    for (entry, is_row) in [(49u32, true), (50, false), (u32::MAX, false)] {
        image[36..40].copy_from_slice(&entry.to_le_bytes());
        layout::fix_header_checksum(&mut image);
        assert_eq!(Graph::open(&image).is_ok(), is_row, "{entry}");
    }
}

#[test]
fn garbage_behind_the_header_is_found_by_its_checksum_and_searched_without_harm() {
    let values = vectors(300, 8, 1);
    let whole = image(BuildParameters::new(Metric::L2, 8), &values);
    for seed in 0..60u64 {
        let mut damaged = whole.clone();
        let count = if seed < 30 { 1 } else { damaged.len() };
        for index in 0..count as u64 {
            let random = space::mix(seed << 32 | index);
            let at = ROTATION_OFFSET + (random >> 8) as usize % (damaged.len() - ROTATION_OFFSET);
            damaged[at] = damaged[at].wrapping_add(random as u8 | 1);
        }
        let graph = Graph::open(&damaged).unwrap();
        assert!(graph.verify().is_err());
        for source in [None, Some(bytes_of(&values))] {
            let hits = found(&graph, &values[..8], 50, None, source);
            assert!(hits.iter().all(|hit| hit.row < 300));
        }
    }
}

/// Every `step`-th row.
fn one_in(step: usize, rows: usize) -> Bitmap {
    let mut filter = Bitmap::zeros(rows);
    (0..rows).step_by(step).for_each(|row| filter.set(row, true));
    filter
}

#[test]
fn recall_holds_whether_a_filter_wants_nearly_all_or_hardly_any_rows() {
    for step in [2, 10, 100] {
        let recall = recall(Metric::L2, Some(&one_in(step, ROWS)), true, 60);
        assert!(recall >= 0.95, "1 in {step}: {recall}");
    }
}

#[test]
fn many_wanted_rows_are_walked_to_and_few_are_scanned() {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    assert_eq!(graph.plan(10, 10, ROWS / 100), filtered::Plan::Scan);
    let filtered::Plan::Walk(limit) = graph.plan(10, 10, ROWS / 2) else { panic!("half the rows are scanned") };
    // Chance alone gives up no walk.
    assert!(limit.visits_max >= limit.rank * 2 * 2, "{limit:?}");
    // The longer the walk, the more rows are scanned instead.
    assert_eq!(graph.plan(10, 1000, ROWS / 2), filtered::Plan::Scan);
}

#[test]
fn of_many_hits_most_are_found_and_none_comes_twice() {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    let (mut scratch, mut found) = (Scratch::new(), 0);
    let parameters = SearchParameters { k: 100, ef: 100, filter: None, source: None, file_index: 0 };
    for query in vectors(20, DIM, 2).chunks_exact(DIM) {
        let mut top = TopK::new(100);
        graph
            .search(
                query,
                SearchParameters { source: Some(VectorRows::of_f32(bytes_of(&values), DIM)), ..parameters },
                &mut scratch,
                &mut top,
            )
            .unwrap();
        let mut rows: Vec<u32> = top.into_sorted().iter().map(|hit| hit.row).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 100);
        let queries = Queries::dense(DIM, Metric::L2, query.to_vec());
        let mut truth = [TopK::new(100)];
        scan(&queries, VectorColumn::of_f32(bytes_of(&values), DIM), 0..ROWS, None, None, 0, &mut truth);
        let [truth] = truth.map(TopK::into_sorted);
        found += truth.iter().filter(|hit| rows.binary_search(&hit.row).is_ok()).count();
    }
    assert!(found >= 1995, "{found} of 2000");
}

#[test]
fn rows_that_are_wanted_far_from_the_query_are_found() {
    let mut values = vectors(ROWS, DIM, 1);
    values[..100 * DIM].iter_mut().for_each(|value| *value += 50.0);
    let image = image(BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    let mut filter = Bitmap::zeros(ROWS);
    (0..100).for_each(|row| filter.set(row, true));
    let query = &values[2000 * DIM..][..DIM];
    let hits = found(&graph, query, 20, Some(&filter), Some(bytes_of(&values)));
    assert_eq!(hits, exact(Metric::L2, DIM, &values, query, Some(&filter)));
    // The graph is walked first even if it leads elsewhere.
    let mut nearest = Vec::new();
    let mut scratch = Scratch::new();
    scratch.query.place(&space::Space { shape: &graph.shape, signs: graph.signs, centre: graph.centre }, query);
    let limit = gather::Limit { ef: 30, share: 0.03, rank: 20, visits_max: 100 };
    graph.collect_wanted(10, filtered::Plan::Walk(limit), true, Some(&filter), &mut scratch, &mut nearest);
    assert!(nearest.len() >= 10 && nearest.iter().all(|found| found.id < 100));
}

/// Of the true nearest rows, how many a walk collects that is not ruled out by its cost; and by how many searches without a scan.
fn recall_of_walks(
    graph: &Graph<'_>,
    values: &[f32],
    [k, ef]: [usize; 2],
    wants: &dyn Fn(usize, usize) -> bool,
) -> (f64, usize) {
    let space = space::Space { shape: &graph.shape, signs: graph.signs, centre: graph.centre };
    let (mut scratch, mut nearest, mut found, mut wanted, mut walks) = (Scratch::new(), Vec::new(), 0, 0, 0);
    for query in vectors(20, DIM, 2).chunks_exact(DIM) {
        let queries = Queries::dense(DIM, Metric::L2, query.to_vec());
        let mut all = [TopK::new(ROWS)];
        scan(&queries, VectorColumn::of_f32(bytes_of(values), DIM), 0..ROWS, None, None, 0, &mut all);
        let [all] = all.map(TopK::into_sorted);
        let mut filter = Bitmap::zeros(ROWS);
        all.iter().enumerate().for_each(|(place, hit)| filter.set(hit.row as usize, wants(place, hit.row as usize)));
        let share = filter.count_ones() as f32 / ROWS as f32;
        let limit = gather::Limit { ef, share, rank: filtered::rank(k, ef, share), visits_max: ROWS };
        scratch.query.place(&space, query);
        nearest.clear();
        graph.collect_wanted(k, filtered::Plan::Walk(limit), true, Some(&filter), &mut scratch, &mut nearest);
        // A scan visits nothing.
        walks += usize::from(scratch.visited_count > 0);
        search::keep_nearest(&mut nearest, k, |distance| scratch.margin(distance));
        let truth = all.iter().filter(|hit| filter.get(hit.row as usize)).take(k);
        wanted += truth.clone().count();
        found += truth.filter(|hit| nearest.iter().any(|found| found.id == hit.row)).count();
    }
    (found as f64 / wanted as f64, walks)
}

#[test]
fn of_many_hits_as_many_are_found_under_a_filter() {
    let values = vectors(ROWS, DIM, 1);
    // One bit per dimension: estimates are coarse.
    let image = image(BuildParameters { rounds: 1, code_bits: DIM, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    let (recall, walks) = recall_of_walks(&graph, &values, [100, 100], &|_, row| row % 2 == 0);
    assert!(recall >= 0.98 && walks == 20, "{recall}, {walks} walks");
}

#[test]
fn recall_holds_however_the_wanted_rows_lie_to_the_query() {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    for (k, ef) in [(10, 30), (10, 80), (50, 80)] {
        let (all, walks) = recall_of_walks(&graph, &values, [k, ef], &|_, _| true);
        assert_eq!(walks, 20);
        for step in [2, 10] {
            let (recall, walks) = recall_of_walks(&graph, &values, [k, ef], &|_, row| row % step == 0);
            assert!(recall >= all - 0.02 && walks >= 18, "1 in {step}, {k} of {ef}: {recall}, {all}, {walks} walks");
        }
        for near in [2, 5] {
            let (recall, _) = recall_of_walks(&graph, &values, [k, ef], &|place, _| place < ROWS / near);
            assert!(recall >= all - 0.02, "the nearest 1 in {near}, {k} of {ef}: {recall}, {all}");
        }
        for (far, step) in [(50, 1), (10, 1), (10, 2), (2, 1)] {
            let (recall, _) =
                recall_of_walks(&graph, &values, [k, ef], &|place, row| place >= ROWS / far && row % step == 0);
            assert!(recall >= (all - 0.02).min(0.95), "without the nearest 1 in {far}, {k} of {ef}: {recall}, {all}");
        }
    }
}

#[test]
fn an_iteration_hands_out_every_row_once_and_nearly_in_order() {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters { rounds: 1, ..BuildParameters::new(Metric::L2, DIM) }, &values);
    let graph = Graph::open(&image).unwrap();
    let query = &vectors(1, DIM, 2)[..];
    for filter in [None, Some(one_in(3, ROWS)), Some(one_in(300, ROWS))] {
        let source = Some(VectorRows::of_f32(bytes_of(&values), DIM));
        let parameters = SearchParameters { k: 10, ef: 100, filter: filter.as_ref(), source, file_index: 0 };
        let mut rows = graph.iterate(query, parameters).unwrap();
        let mut first = rows.next_nearest(10);
        first.extend(rows.next_nearest(10));
        let visited = rows.visited_count();
        let mut truth = TopK::new(20);
        let queries = Queries::dense(DIM, Metric::L2, query.to_vec());
        let column = VectorColumn::of_f32(bytes_of(&values), DIM);
        scan(&queries, column, 0..ROWS, filter.as_ref(), None, 0, std::slice::from_mut(&mut truth));
        let truth = truth.into_sorted();
        assert!(truth.iter().filter(|hit| first.contains(hit)).count() * 20 >= truth.len() * 19);
        assert!(filter.is_some() || visited < ROWS / 4, "{visited}");
        let mut seen: Vec<u32> = first.iter().map(|hit| hit.row).collect();
        loop {
            let hits = rows.next_nearest(97);
            if hits.is_empty() {
                break;
            }
            assert!(hits.is_sorted_by(|left, right| left.distance <= right.distance));
            seen.extend(hits.iter().map(|hit| hit.row));
        }
        seen.sort_unstable();
        let wanted = filter.unwrap_or(Bitmap::ones(ROWS));
        assert_eq!(seen, wanted.iter_ones().map(|row| row as u32).collect::<Vec<_>>());
    }
}

#[test]
fn an_iteration_keeps_to_its_filter_whether_it_walks_or_scans() {
    let values = vectors(ROWS, DIM, 1);
    let image = image(BuildParameters::new(Metric::L2, DIM), &values);
    let graph = Graph::open(&image).unwrap();
    let mut most = Bitmap::ones(ROWS);
    one_in(5, ROWS).iter_ones().for_each(|row| most.set(row, false));
    for (filter, is_scan) in [(most, false), (one_in(300, ROWS), true)] {
        let source = Some(VectorRows::of_f32(bytes_of(&values), DIM));
        let parameters = SearchParameters { k: 10, ef: 20, filter: Some(&filter), source, file_index: 0 };
        let mut rows = graph.iterate(&values[..DIM], parameters).unwrap();
        assert_eq!(rows.visited_count() == ROWS, is_scan, "what few rows pass is scanned at once");
        let mut found: Vec<u32> = Vec::new();
        loop {
            let batch = rows.next_nearest(97);
            found.extend(batch.iter().map(|hit| hit.row));
            if batch.len() < 97 {
                break;
            }
        }
        found.sort_unstable();
        assert!(found.iter().map(|row| *row as usize).eq(filter.iter_ones()), "scan: {is_scan}");
    }
}

#[test]
fn inner_products_without_the_vectors_are_those_of_the_query() {
    let values = vectors(500, DIM, 1);
    let image = image(BuildParameters::new(Metric::Ip, DIM), &values);
    let graph = Graph::open(&image).unwrap();
    let query = &vectors(1, DIM, 2)[..];
    for hit in found(&graph, query, 100, None, None) {
        let row = &values[hit.row as usize * DIM..][..DIM];
        let product: f32 = row.iter().zip(query).map(|(left, right)| left * right).sum();
        assert!((hit.distance + product).abs() < 0.1, "{} {product}", hit.distance);
    }
}

/// Opens bytes and, when they open, searches them in every way.
fn search_in_every_way(bytes: &[u8]) -> bool {
    let Ok(graph) = Graph::open(bytes) else { return false };
    let _ = graph.verify();
    let query = vec![0.5; graph.dim()];
    let rows = graph.row_count();
    let column = vec![1u8; rows * graph.dim() * 4];
    for filter in [None, Some(one_in(2, rows))] {
        for source in [None, Some(VectorRows::of_f32(&column, graph.dim()))] {
            let parameters = SearchParameters { k: 5, ef: 20, filter: filter.as_ref(), source, file_index: 0 };
            let mut top = TopK::new(5);
            graph.search(&query, parameters, &mut Scratch::new(), &mut top).unwrap();
            assert!(top.into_sorted().iter().all(|hit| (hit.row as usize) < rows));
            let mut iteration = graph.iterate(&query, parameters).unwrap();
            while !iteration.next_nearest(50).is_empty() {}
        }
    }
    true
}

#[test]
fn whatever_is_done_to_an_image_nothing_is_read_beyond_it() {
    let values = vectors(90, 12, 1);
    let whole = image(BuildParameters { rounds: 0, ..BuildParameters::new(Metric::L2, 12) }, &values);
    let mut opened = 0;
    for seed in 0..600u64 {
        let mut random = (0..).map(|index| space::mix(seed << 20 | index));
        let mut next = |below: usize| (random.next().unwrap_or(0) >> 8) as usize % below.max(1);
        let mut bytes = whole.clone();
        for _ in 0..=next(8) {
            let limit = [120, ROTATION_OFFSET, bytes.len()][next(3)];
            let at = next(limit);
            match next(3) {
                0 => bytes[at] ^= 1 << next(8),
                1 => bytes[at] = next(256) as u8,
                _ => bytes[at / 4 * 4..][..4].copy_from_slice(&(next(5000) as u32).to_le_bytes()),
            }
        }
        if next(4) == 0 {
            bytes.resize(next(2 * whole.len()), 0x55);
        }
        layout::fix_header_checksum(&mut bytes);
        opened += usize::from(search_in_every_way(&bytes));
    }
    assert!(opened > 50, "only {opened} mutations opened");
}

#[test]
fn a_header_of_any_shape_over_garbage_is_searched_without_harm() {
    for seed in 0..150u64 {
        let mut random = (0..).map(|index| space::mix(seed << 24 | index));
        let mut next = |below: usize| (random.next().unwrap_or(0) >> 8) as usize % below;
        let metric = [Metric::L2, Metric::Ip, Metric::Cosine][next(3)];
        let (dim, row_count) = (1 + next(90), 1 + next(60));
        let shape = layout::Shape {
            metric,
            row_count,
            dim,
            code_dim: (dim + 1).next_multiple_of(32) + 32 * next(3),
            planes: 1 + next(4),
            entry: next(row_count) as u32,
            has_twins: next(2) == 1,
            squared_norm_max: next(9) as f32,
        };
        let mut image: Vec<u8> = (0..shape.image_bytes().unwrap()).map(|_| next(256) as u8).collect();
        layout::Parts::of(&shape, &mut image).unwrap().seal(&shape);
        assert!(search_in_every_way(&image), "{shape:?}");
    }
}

/// Points around far-apart centres, `each` around every one, `width` wide; the centres fill a cube 100 wide.
fn far_clusters(clusters: usize, each: usize, width: f32) -> Vec<f32> {
    let number = |value: u64| (space::mix(value) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let at = |index: usize| ((index / DIM) as u64, (index % DIM) as u64);
    let value = |(row, at): (u64, u64)| {
        100.0 * number(space::mix(row % clusters as u64) ^ space::mix(at)) + width * number(row << 20 | at << 1 | 1)
    };
    (0..clusters * each * DIM).map(at).map(value).collect()
}

/// Rows that can be reached by links and twins from where searches begin.
fn reachable(graph: &Graph<'_>) -> usize {
    let mut reached = Bitmap::zeros(graph.row_count());
    let mut stack = vec![graph.shape.entry];
    for index in 0..routes::ROUTE_BLOCKS {
        stack.extend(graph.route(index).unwrap().ids.iter().map(|id| u32::from_le_bytes(*id)));
    }
    while let Some(vertex) = stack.pop() {
        if !reached.get(vertex as usize) {
            graph.twins(vertex).for_each(|row| reached.set(row as usize, true));
            stack.extend(graph.block(vertex).unwrap().ids.iter().map(|id| u32::from_le_bytes(*id)));
        }
    }
    reached.count_ones()
}

/// How many of every `step`-th row a search for that row finds nothing nearer than.
fn own_nearest(graph: &Graph<'_>, values: &[f32], step: usize, ef: usize) -> f64 {
    let rows: Vec<usize> = (0..graph.row_count()).step_by(step).collect();
    let is_found = |row: &&usize| {
        let hits = found(graph, &values[**row * DIM..][..DIM], ef, None, Some(bytes_of(values)));
        hits.first().is_some_and(|hit| hit.distance == 0.0)
    };
    rows.iter().filter(is_found).count() as f64 / rows.len() as f64
}

#[test]
fn every_row_is_reached_and_found_however_many_others_are_equal_to_it() {
    let different = vectors(1500, DIM, 4);
    let groups = |group: usize| -> Vec<f32> {
        (0..1500).flat_map(|row| different[row / group * DIM..][..DIM].to_vec()).collect()
    };
    let mut most_equal = different.clone();
    for row in (0..1500).filter(|row| row % 3 != 0) {
        most_equal[row * DIM..][..DIM].copy_from_slice(&different[..DIM]);
    }
    for values in [groups(1500), most_equal, groups(2), groups(100), different.clone()] {
        let image = image(BuildParameters::new(Metric::L2, DIM), &values);
        let graph = Graph::open(&image).unwrap();
        graph.verify().unwrap();
        assert_eq!(reachable(&graph), 1500);
        assert_eq!(own_nearest(&graph, &values, 1, 64), 1.0);
        for filter in [None, Some(one_in(2, 1500)), Some(one_in(7, 1500))] {
            let mut shared = 0;
            for query in vectors(20, DIM, 5).chunks_exact(DIM) {
                let truth = exact(Metric::L2, DIM, &values, query, filter.as_ref());
                let hits = found(&graph, query, 64, filter.as_ref(), Some(bytes_of(&values)));
                assert_eq!(hits.len(), truth.len());
                shared += hits.iter().filter(|hit| truth.contains(hit)).count();
            }
            assert!(shared >= 190, "{shared} of 200");
        }
        let parameters = SearchParameters { k: 1, ef: 20, filter: None, source: None, file_index: 0 };
        let mut rows = graph.iterate(&values[..DIM], parameters).unwrap();
        let mut seen: Vec<u32> = std::iter::from_fn(|| rows.next_nearest(1).pop()).map(|hit| hit.row).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..1500).collect::<Vec<u32>>());
    }
}

#[test]
fn rows_of_clusters_far_apart_are_found() {
    // In clusters so narrow, the distances of codes err by less than the rows differ only if their norms are those of the codes.
    for (clusters, each, width, least) in [(20, 150, 4.0, 1.0), (20, 150, 12.0, 1.0), (150, 40, 12.0, 1.0)] {
        let values = far_clusters(clusters, each, width);
        let image = image(BuildParameters::new(Metric::L2, DIM), &values);
        let graph = Graph::open(&image).unwrap();
        assert_eq!(reachable(&graph), clusters * each);
        for row in (0..clusters * each).step_by(7) {
            let hits = found(&graph, &values[row * DIM..][..DIM], 64, None, Some(bytes_of(&values)));
            assert_eq!(hits[0].row as usize % clusters, row % clusters);
        }
        let share = own_nearest(&graph, &values, 7, 64);
        assert!(share >= least, "{clusters} clusters {width} wide: {share}");
    }
}

#[test]
fn rows_in_the_same_direction_are_equal_for_cosine() {
    let mut values = vectors(1500, DIM, 4);
    let first = values[..DIM].to_vec();
    for row in 0..1000 {
        let scaled = first.iter().map(|value| value * (1.0 + row as f32 * 0.37));
        values[row * DIM..][..DIM].iter_mut().zip(scaled).for_each(|(value, scaled)| *value = scaled);
    }
    let image = image(BuildParameters::new(Metric::Cosine, DIM), &values);
    let graph = Graph::open(&image).unwrap();
    assert_eq!(reachable(&graph), 1500);
    for row in 1000..1500 {
        let hits = found(&graph, &values[row * DIM..][..DIM], 64, None, Some(bytes_of(&values)));
        assert!(hits.iter().any(|hit| hit.row as usize == row), "row {row}");
    }
}

#[test]
fn a_graph_without_rounds_is_reached_as_a_whole() {
    let values = far_clusters(60, 50, 4.0);
    let parameters = BuildParameters { rounds: 0, trees: 1, ..BuildParameters::new(Metric::L2, DIM) };
    let one = image(parameters, &values);
    assert_eq!(reachable(&Graph::open(&one).unwrap()), 3000);
    assert!(one == image(BuildParameters { threads: 3, ..parameters }, &values));
}

proptest::proptest! {
    #[test]
    fn bytes_that_are_no_image_do_not_open(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        proptest::prop_assert!(Graph::open(&bytes).is_err());
    }
}

#[test]
fn rows_of_clusters_too_narrow_for_the_codes_are_found_by_their_vectors() {
    let even = |seed: u64| (space::mix(seed) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let row = |row: u64| {
        let cluster = row % 20;
        (0..DIM as u64).map(move |at| 100.0 * even(1 << 50 | cluster << 8 | at) + even(1 << 51 | row << 8 | at))
    };
    let values: Vec<f32> = (0..3000).flat_map(row).collect();
    let image = image(BuildParameters::new(Metric::L2, DIM), &values);
    let graph = Graph::open(&image).unwrap();
    let source = bytes_of(&values);
    let found: usize = (3000..3040)
        .map(|number| {
            let query: Vec<f32> = row(number).collect();
            let truth = exact(Metric::L2, DIM, &values, &query, None);
            found(&graph, &query, 16, None, Some(source)).iter().filter(|hit| truth.contains(hit)).count()
        })
        .sum();
    assert!(found >= 390, "{found} of 400");
}
