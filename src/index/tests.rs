//! Every built kind through the trait pair.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::flat::DistanceRange;
use super::graph::space::mix;
use super::hnsw::{Encoding, HnswSettings};
use super::ivf::IvfSettings;
use super::spec::{BuildSettings, GraphSettings, IndexKind, IndexSpec, SearchSettings};
use super::trial::clustered;
use super::*;
use crate::format::samples::Random;
use crate::kernel::{VectorElement, VectorRows};
use crate::types::{Bitmap, DataType, Metric};

const DIM: usize = 16;
const ROWS: usize = 2000;

fn vectors() -> Vec<f32> {
    let mut random = Random(7);
    (0..ROWS * DIM).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect()
}

fn rows(values: &[f32]) -> VectorRows<'_> {
    VectorRows { bytes: bytemuck::cast_slice(values), dim: DIM, element: VectorElement::F32 }
}

fn spec(kind: IndexKind) -> IndexSpec {
    let settings = match kind {
        IndexKind::Flat => BuildSettings::Flat,
        IndexKind::RabitqGraph => BuildSettings::Graph(GraphSettings::default()),
        IndexKind::IvfFlat | IndexKind::IvfSq8 => {
            let is_coarse = kind == IndexKind::IvfSq8;
            BuildSettings::Ivf(IvfSettings { list_count: 16, is_coarse, seed: 1 })
        }
        IndexKind::Hnsw | IndexKind::HnswSq => {
            let encoding = if kind == IndexKind::Hnsw { Encoding::Column } else { Encoding::Codes8 };
            BuildSettings::Hnsw(HnswSettings { m: 12, ef_construction: 60, encoding, is_refined: true, seed: 1 })
        }
    };
    IndexSpec { kind, metric: Metric::L2, vector_type: DataType::FloatVector, dim: DIM, settings }
}

fn image(kind: IndexKind, values: &[f32]) -> Vec<u8> {
    let progress = BuildProgress::default();
    let build = builder(&spec(kind), rows(values), 2, &progress).unwrap();
    let mut image = vec![0; build.image_bytes()];
    build.write(&mut image).unwrap();
    assert_eq!(progress.rows_done(), ROWS as u64, "{kind:?}");
    image
}

fn built_kinds() -> impl Iterator<Item = IndexKind> {
    IndexKind::ALL.into_iter().filter(|kind| spec(*kind).is_built())
}

/// Distances of all rows to a query, nearest first.
fn nearest(values: &[f32], query: &[f32]) -> Vec<(u32, f32)> {
    let distance = |row: &[f32]| row.iter().zip(query).map(|(left, right)| (left - right) * (left - right)).sum();
    let mut all: Vec<(u32, f32)> = values.chunks_exact(DIM).map(distance).zip(0..).map(|(d, row)| (row, d)).collect();
    all.sort_by(|left, right| left.1.total_cmp(&right.1));
    all
}

fn found(image: &[u8], query: &[f32], k: usize, range: Option<DistanceRange>, source: &[f32]) -> Vec<u32> {
    let index = OpenIndex::open(image).unwrap();
    assert_eq!(index.row_count(), ROWS);
    let settings = SearchSettings { level: Some(10), nprobe: Some(16), ..SearchSettings::default() };
    let request =
        IndexRequest { k, settings: &settings, filter: None, range, source: Some(rows(source)), file_index: 3 };
    let mut top = TopK::new(k);
    index.search(query, &request, &mut IndexScratch::default(), &mut top).unwrap();
    let hits = top.into_sorted();
    assert!(hits.iter().all(|hit| hit.file_index == 3));
    hits.into_iter().map(|hit| hit.row).collect()
}

#[test]
fn every_kind_finds_the_nearest_rows() {
    let values = vectors();
    for kind in built_kinds() {
        let image = image(kind, &values);
        for query in values.chunks_exact(DIM).step_by(200) {
            let expected: Vec<u32> = nearest(&values, query)[..10].iter().map(|(row, _)| *row).collect();
            assert_eq!(found(&image, query, 10, None, &values), expected, "{kind:?}");
        }
    }
}

#[test]
fn a_higher_level_finds_more_and_a_pool_that_is_named_goes_first() {
    // Without clusters and of many dimensions: hard to search.
    let dim = 48;
    // More than it takes as long to scan as to walk a graph at the usual level.
    let count = 4 * ROWS;
    let mut random = Random(9);
    let values: Vec<f32> = (0..count * dim).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    let queries: Vec<f32> = (0..60 * dim).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
    let rows = VectorRows { dim, ..rows(&values) };
    let truth = |query: &[f32]| {
        let mut top = [TopK::new(10)];
        let queries = Queries::dense(dim, Metric::L2, query.to_vec());
        flat::scan(&queries, VectorColumn::Dense(rows), 0..count, None, None, 0, &mut top);
        top[0].sort().iter().map(|hit| hit.row).collect::<Vec<u32>>()
    };
    for kind in [IndexKind::RabitqGraph, IndexKind::Hnsw, IndexKind::HnswSq] {
        let (spec, progress) = (IndexSpec { dim, ..spec(kind) }, BuildProgress::default());
        let build = builder(&spec, rows, 2, &progress).unwrap();
        let mut image = vec![0; build.image_bytes()];
        build.write(&mut image).unwrap();
        let index = OpenIndex::open(&image).unwrap();
        let found = |settings: SearchSettings| {
            let request = IndexRequest {
                k: 10,
                settings: &settings,
                filter: None,
                range: None,
                source: Some(rows),
                file_index: 0,
            };
            let (mut scratch, mut top) = (IndexScratch::default(), TopK::default());
            let mut of_query = |query: &[f32]| {
                top.begin(10);
                index.search(query, &request, &mut scratch, &mut top).unwrap();
                let truth = truth(query);
                top.sort().iter().filter(|hit| truth.contains(&hit.row)).count()
            };
            queries.chunks_exact(dim).map(&mut of_query).sum::<usize>()
        };
        let level = |level| SearchSettings { level: Some(level), ..SearchSettings::default() };
        let (low, usual, high) = (found(level(1)), found(SearchSettings::default()), found(level(10)));
        assert!(low + 20 < usual && usual < high && high > 570, "{kind:?}: {low}, {usual}, {high} of 600");
        assert_eq!(found(SearchSettings { ef: Some(24), ..level(10) }), low, "{kind:?}: the pool of level 1");
    }
}

/// Rows of a place among all, by distance to the query, that a filter wants.
type Wants = fn(place: usize, row: u64) -> bool;

/// Of a thousand, at random.
fn in_a_thousand(row: u64, count: u64) -> bool {
    mix(row) % 1000 < count
}

const FILTERS: [(&str, Wants); 15] = [
    ("0.1 %", |_, row| in_a_thousand(row, 1)),
    ("0.5 %", |_, row| in_a_thousand(row, 5)),
    ("1 %", |_, row| in_a_thousand(row, 10)),
    ("5 %", |_, row| in_a_thousand(row, 50)),
    ("10 %", |_, row| in_a_thousand(row, 100)),
    ("50 %", |_, row| in_a_thousand(row, 500)),
    ("90 %", |_, row| in_a_thousand(row, 900)),
    ("99 %", |_, row| in_a_thousand(row, 990)),
    ("the nearest 10 %", |place, _| place < FILTERED_ROWS / 10),
    ("the nearest half", |place, _| place < FILTERED_ROWS / 2),
    ("all but the nearest 20", |place, _| place >= 20),
    ("all but the nearest 1 %", |place, _| place >= FILTERED_ROWS / 100),
    ("all but the nearest 10 %", |place, _| place >= FILTERED_ROWS / 10),
    ("10 % of all but the nearest 1 %", |place, row| place >= FILTERED_ROWS / 100 && in_a_thousand(row, 100)),
    ("the farthest half", |place, _| place >= FILTERED_ROWS / 2),
];

/// Rows of the test of filters.
const FILTERED_ROWS: usize = 6000;

#[test]
fn a_graph_finds_under_filters_what_it_finds_without_wherever_the_wanted_rows_lie() {
    let values = clustered(FILTERED_ROWS, DIM, 1);
    let progress = BuildProgress::default();
    let build = builder(&spec(IndexKind::RabitqGraph), rows(&values), 2, &progress).unwrap();
    let mut image = vec![0; build.image_bytes()];
    build.write(&mut image).unwrap();
    let index = OpenIndex::open(&image).unwrap();
    let queries = clustered(12, DIM, 2);
    let orders: Vec<Vec<(u32, f32)>> = queries.chunks_exact(DIM).map(|query| nearest(&values, query)).collect();
    let settings = SearchSettings { ef: Some(60), ..SearchSettings::default() };
    let mut scratch = IndexScratch::default();
    for (name, wants) in FILTERS {
        for k in [10, 100] {
            let (mut shared, mut wanted) = (0, 0);
            for (query, order) in queries.chunks_exact(DIM).zip(&orders) {
                let mut filter = Bitmap::zeros(FILTERED_ROWS);
                let passing = order.iter().enumerate().filter(|(place, (row, _))| wants(*place, u64::from(*row)));
                passing.for_each(|(_, (row, _))| filter.set(*row as usize, true));
                let filter = Some(&filter);
                let source = Some(rows(&values));
                let request = IndexRequest { k, settings: &settings, filter, range: None, source, file_index: 0 };
                let mut top = TopK::new(k);
                index.search(query, &request, &mut scratch, &mut top).unwrap();
                let is_wanted = |row: u32| request.filter.is_some_and(|filter| filter.get(row as usize));
                let truth: Vec<u32> = order.iter().map(|(row, _)| *row).filter(|row| is_wanted(*row)).take(k).collect();
                let hits = top.into_sorted();
                assert!(hits.len() == truth.len() && hits.iter().all(|hit| is_wanted(hit.row)), "{name}, {k}");
                wanted += truth.len();
                shared += hits.iter().filter(|hit| truth.contains(&hit.row)).count();
            }
            assert!(shared * 100 >= wanted * 95, "{name}, {k}: {shared} of {wanted}");
        }
    }
}

#[test]
fn a_range_is_found_however_far_out_it_begins() {
    let values = vectors();
    let query = &values[..DIM];
    let all = nearest(&values, query);
    for kind in built_kinds() {
        let image = image(kind, &values);
        for (first, count, k) in [(0, 5, 10), (0, 50, 10), (250, 40, 20), (590, 10, 20), (0, 0, 5)] {
            // Between two rows: sums in another order differ in the last bits.
            let bound = |at: usize| match (at.checked_sub(1).map(|before| all[before].1), all.get(at)) {
                (Some(before), Some((_, distance))) => (before + distance) / 2.0,
                (None, _) => 0.0,
                (_, None) => f32::INFINITY,
            };
            let range = DistanceRange { low: bound(first), high: bound(first + count) };
            let expected: Vec<u32> = all[first..first + count.min(k)].iter().map(|(row, _)| *row).collect();
            assert_eq!(found(&image, query, k, Some(range), &values), expected, "{kind:?} {first} {count} {k}");
        }
    }
}

#[test]
fn a_range_search_of_inner_products_finds_nearly_all_that_lie_within() {
    // Far from all of the rows, in many directions, there are no near ones: a pool of the usual width misses one row in sixteen.
    let dim = 64;
    let mut random = Random(3);
    let mut gaussian = || (0..12).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).sum::<f32>() / 2.0;
    let values: Vec<f32> = (0..2_000 * dim).map(|_| gaussian()).collect();
    let spec = IndexSpec { metric: Metric::Ip, dim, ..spec(IndexKind::RabitqGraph) };
    let source = VectorRows::of_f32(bytemuck::cast_slice(&values), dim);
    let progress = BuildProgress::default();
    let build = builder(&spec, source, 2, &progress).unwrap();
    let mut image = vec![0; build.image_bytes()];
    build.write(&mut image).unwrap();
    let index = OpenIndex::open(&image).unwrap();
    let settings = SearchSettings::default();
    let (mut found, mut wanted) = (0, 0);
    for query in values.chunks_exact(dim).step_by(200) {
        let mut all: Vec<f32> =
            values.chunks_exact(dim).map(|row| -row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>()).collect();
        all.sort_unstable_by(f32::total_cmp);
        for (low, high, k) in [(0, 20, 100), (0, 300, 50), (40, 60, 100), (100, 900, 30)] {
            let low_end = if low == 0 { f32::NEG_INFINITY } else { all[low] };
            let range = Some(DistanceRange { low: low_end, high: all[high] });
            let mut top = TopK::new(k);
            let request =
                IndexRequest { k, settings: &settings, filter: None, range, source: Some(source), file_index: 0 };
            index.search(query, &request, &mut IndexScratch::default(), &mut top).unwrap();
            let hits = top.into_sorted();
            let farthest = all[(low + k).min(high) - 1] + 1e-3;
            assert!(hits.iter().all(|hit| low_end - 1e-3 <= hit.distance && hit.distance < all[high] + 1e-3));
            found += hits.iter().filter(|hit| hit.distance <= farthest).count();
            wanted += k.min(high - low);
        }
    }
    assert!(found * 100 >= wanted * 97, "{found} of {wanted}");
}

#[test]
fn many_searches_with_one_scratch_find_what_the_first_one_finds() {
    let values = vectors();
    let settings = SearchSettings { ef: Some(12), nprobe: Some(2), ..SearchSettings::default() };
    for kind in built_kinds() {
        let image = image(kind, &values);
        let index = OpenIndex::open(&image).unwrap();
        let search = |query: &[f32], scratch: &mut IndexScratch| {
            let source = Some(rows(&values));
            let request = IndexRequest { k: 5, settings: &settings, filter: None, range: None, source, file_index: 0 };
            let mut top = TopK::new(5);
            index.search(query, &request, scratch, &mut top).unwrap();
            top.into_sorted()
        };
        let near = &values[..DIM];
        let far = nearest(&values, near)[ROWS - 1].0 as usize;
        let expected = search(near, &mut IndexScratch::default());
        // Marks of a search are a byte per row, 127 or 255 different ones: what a search marked must not count when its mark comes
        // again, and other searches far away did not write over it.
        for others in [126, 127, 254, 255] {
            let mut scratch = IndexScratch::default();
            assert_eq!(search(near, &mut scratch), expected, "{kind:?}");
            (0..others).for_each(|_| drop(search(&values[far * DIM..][..DIM], &mut scratch)));
            assert_eq!(search(near, &mut scratch), expected, "{kind:?} after {others} others");
        }
    }
}

#[test]
fn vectors_of_another_dimension_are_refused() {
    let values = vectors();
    let progress = BuildProgress::default();
    for kind in IndexKind::ALL {
        let other = VectorRows { dim: DIM / 2, ..rows(&values) };
        assert!(builder(&spec(kind), other, 1, &progress).is_err(), "{kind:?}");
    }
}

#[test]
fn narrow_vectors_are_searched_as_their_wide_copies() {
    let values: Vec<f32> = vectors().iter().map(|value| (value * 100.0).round()).collect();
    // Whole numbers up to 100 are the same in every element type.
    let narrow = |element| -> Vec<u8> {
        let bytes = |value: &f32| match element {
            VectorElement::F32 => value.to_le_bytes().to_vec(),
            VectorElement::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
            VectorElement::BF16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
            VectorElement::I8 => vec![*value as i8 as u8],
        };
        values.iter().flat_map(bytes).collect()
    };
    for element in VectorElement::ALL {
        let bytes = narrow(element);
        let rows = VectorRows { bytes: &bytes, dim: DIM, element };
        for kind in built_kinds() {
            let progress = BuildProgress::default();
            let build = builder(&spec(kind), rows, 2, &progress).unwrap();
            let mut image = vec![0; build.image_bytes()];
            build.write(&mut image).unwrap();
            let settings = SearchSettings { level: Some(10), nprobe: Some(16), ..SearchSettings::default() };
            for query in values.chunks_exact(DIM).step_by(400) {
                let source = Some(rows);
                let request =
                    IndexRequest { k: 10, settings: &settings, filter: None, range: None, source, file_index: 0 };
                let mut top = TopK::new(10);
                let index = OpenIndex::open(&image).unwrap();
                index.search(query, &request, &mut IndexScratch::default(), &mut top).unwrap();
                let distances: Vec<f32> = top.into_sorted().iter().map(|hit| hit.distance).collect();
                let expected: Vec<f32> = nearest(&values, query)[..10].iter().map(|(_, distance)| *distance).collect();
                assert_eq!(distances, expected, "{kind:?} {element:?}");
            }
        }
    }
}

fn file_of(kind: IndexKind) -> (Vec<u8>, IndexHeader) {
    use crate::types::{FieldId, FileId, IndexId};
    let image = image(kind, &vectors());
    let header = IndexHeader {
        spec: spec(kind),
        index: IndexId(4),
        field: FieldId(101),
        table: FileId(9),
        table_checksum: 77,
        row_count: ROWS as u64,
    };
    let mut bytes = encode_header(&header, &image).unwrap();
    bytes.extend_from_slice(&image);
    (bytes, header)
}

fn opened(bytes: &[u8]) -> Result<IndexFile, IndexError> {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    IndexFile::open(crate::sys::map::SharedMap::read(&file).unwrap().into())
}

#[test]
fn an_index_file_says_what_it_was_built_from() {
    for kind in built_kinds() {
        let (bytes, header) = file_of(kind);
        let file = opened(&bytes).unwrap();
        assert_eq!(file.header(), &header);
        file.verify().unwrap();
        assert_eq!(file.index().unwrap().row_count(), ROWS);
    }
}

#[test]
fn a_header_that_tells_another_index_than_the_image_is_refused() {
    for kind in built_kinds() {
        let (bytes, header) = file_of(kind);
        let (mut rows, mut dim, mut metric) = (header.clone(), header.clone(), header);
        rows.row_count -= 1;
        dim.spec.dim += 1;
        metric.spec.metric = Metric::Ip;
        for other in [rows, dim, metric] {
            let other = [&encode_header(&other, &bytes[IMAGE_OFFSET..]).unwrap(), &bytes[IMAGE_OFFSET..]].concat();
            let error = opened(&other).unwrap_err();
            assert_eq!(error, IndexError::Damaged("its header contradicts its image"), "{kind:?}");
        }
    }
}

#[test]
fn a_file_or_an_image_of_another_version_is_refused_though_its_checksums_are_right() {
    use crc_fast::{CrcAlgorithm, checksum};
    let seal = |bytes: &mut [u8]| {
        let (page, checksum_at) = bytes.split_at_mut(bytes.len() - 8);
        checksum_at.copy_from_slice(&checksum(CrcAlgorithm::Crc64Nvme, page).to_le_bytes());
    };
    let reason = |bytes: &[u8]| opened(bytes).unwrap_err();
    let other = IndexError::Damaged("its format has another version");
    for kind in built_kinds() {
        let (bytes, header) = file_of(kind);
        for other_version in [bytes[8] - 1, bytes[8] + 1] {
            let mut file = bytes.clone();
            file[8] = other_version;
            seal(&mut file[..IMAGE_OFFSET]);
            assert_eq!(reason(&file), other, "{kind:?}: the file's version {other_version}");
        }
        let image = &bytes[IMAGE_OFFSET..];
        let header_bytes = u32::from_le_bytes(image[12..16].try_into().unwrap()) as usize;
        for other_version in [image[8] - 1, image[8] + 1] {
            let mut image = image.to_vec();
            image[8] = other_version;
            seal(&mut image[..header_bytes]);
            let file = [&encode_header(&header, &image).unwrap(), &image[..]].concat();
            assert_eq!(reason(&file), other, "{kind:?}: the image's version {other_version}");
        }
    }
}

#[test]
fn a_flipped_bit_or_a_missing_byte_of_an_index_file_is_found() {
    for kind in built_kinds() {
        let (bytes, _) = file_of(kind);
        for at in (0..IMAGE_OFFSET).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(opened(&damaged).is_err(), "{kind:?}: byte {at}");
        }
        for at in (IMAGE_OFFSET..bytes.len()).step_by(bytes.len() / 50) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(opened(&damaged).and_then(|file| file.verify()).is_err(), "{kind:?}: byte {at}");
        }
        for length in [1, 100, IMAGE_OFFSET - 1, IMAGE_OFFSET, IMAGE_OFFSET + 1, bytes.len() - 1] {
            assert!(opened(&bytes[..length]).is_err(), "{kind:?}: cut at {length}");
        }
    }
}
