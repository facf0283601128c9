//! Every query against a naive model: random rows, deletes, snapshots, partitions and filters, over real table files and
//! growing chunks.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod world;

use super::*;
use crate::filter::{Plan, Templates};
use crate::index::Queries;
use crate::index::flat::DistanceRange;
use crate::index::spec::SearchSettings;
use crate::types::{ColumnData, DataType, ErrorKind, FieldId, FieldSchema, Keys, Metric, Timestamp, Value};
use world::{DIM, KeyKind, ModelRow, NUMBER, Random, VECTOR, World};

/// A filter and what it means.
type Filter = (&'static str, fn(&ModelRow) -> bool);

const FILTERS: [Filter; 7] = [
    ("", |_| true),
    ("number > 50", |row| row.number.is_some_and(|number| number > 50)),
    ("number is null", |row| row.number.is_none()),
    ("color == \"red\"", |row| row.color == "red"),
    ("color in [\"red\", \"blue\"] and number < 70", |row| {
        (row.color == "red" || row.color == "blue") && row.number.is_some_and(|number| number < 70)
    }),
    ("number > 1000", |_| false),
    ("not (number < 30)", |row| row.number.is_some_and(|number| number >= 30)),
];

/// Filters on `Int64` keys.
const KEY_FILTERS: [Filter; 4] = [
    ("id in [3, 9, 9, 12, 4711, 1]", |row| [3, 9, 12, 1].contains(&row.key)),
    ("id == 7", |row| row.key == 7),
    ("id > 10 and color == \"red\"", |row| row.key > 10 && row.color == "red"),
    ("5 <= id < 9", |row| (5..9).contains(&row.key)),
];

/// Filters on `VarChar` keys.
const TEXT_KEY_FILTERS: [Filter; 2] = [
    ("id in [\"k00003\", \"k00009\", \"none\"]", |row| [3, 9].contains(&row.key)),
    ("id > \"k00020\"", |row| row.key > 20),
];

fn filters(kind: KeyKind) -> Vec<Filter> {
    match kind {
        KeyKind::Int => FILTERS.into_iter().chain(KEY_FILTERS).collect(),
        KeyKind::Text => FILTERS.into_iter().chain(TEXT_KEY_FILTERS).collect(),
    }
}

fn plan(world: &World, text: &str) -> Plan {
    Plan::new(text, &world.schema, &Templates::default()).expect("a filter of the test")
}

/// Runs `check` on random worlds and snapshots with every filter.
fn on_random_worlds(check: impl Fn(&World, &Snapshot, &Selection, &dyn Fn(&ModelRow) -> bool, &mut Random)) {
    for seed in 1..=24 {
        let mut random = Random::new(seed);
        let kind = if seed % 3 == 0 { KeyKind::Text } else { KeyKind::Int };
        let world = World::random(kind, &mut random);
        for (text, matches) in filters(kind) {
            let snapshot = world.snapshot(random.below(world.last_timestamp + 2));
            let partitions = if random.below(3) == 0 { vec![world.partitions[0]] } else { Vec::new() };
            let ignore_growing = random.below(4) == 0;
            let selection = Selection { plan: plan(&world, text), partitions: partitions.clone(), ignore_growing };
            let wanted = |row: &ModelRow| {
                row.exists_at(snapshot.timestamp)
                    && (partitions.is_empty() || partitions.contains(&row.partition))
                    && !(ignore_growing && row.is_growing)
                    && matches(row)
            };
            println!(
                "seed {seed} filter {text:?} at {} partitions {partitions:?} {ignore_growing}",
                snapshot.timestamp
            );
            check(&world, &snapshot, &selection, &wanted, &mut random);
        }
    }
}

#[test]
fn retrieved_rows_are_those_of_a_naive_scan_in_key_order() {
    on_random_worlds(|world, snapshot, selection, wanted, random| {
        let mut expected: Vec<&ModelRow> = world.rows.iter().filter(|row| wanted(row)).collect();
        expected.sort_by_key(|row| row.key);
        let whole = RetrieveOptions { selection: selection.clone(), offset: 0, limit: None };
        let found = retrieve(snapshot, &whole).unwrap();
        let found_rows: Vec<&ModelRow> = found.rows.iter().map(|address| world.row(*address)).collect();
        assert!(found_rows.is_sorted_by_key(|row| row.key), "not in key order");
        let sorted_ids = |rows: &[&ModelRow]| {
            let mut ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(sorted_ids(&found_rows), sorted_ids(&expected));
        let (offset, limit) = (random.below(8) as usize, 1 + random.below(20) as usize);
        let page = RetrieveOptions { offset, limit: Some(limit), ..whole };
        let page = retrieve(snapshot, &page).unwrap();
        let expected: Vec<RowAddress> = found.rows.iter().copied().skip(offset).take(limit).collect();
        assert_eq!(page.rows, expected);
    });
}

#[test]
fn counts_are_those_of_a_naive_scan() {
    on_random_worlds(|world, snapshot, selection, wanted, _| {
        let expected = world.rows.iter().filter(|row| wanted(row)).count() as u64;
        assert_eq!(count(snapshot, selection).unwrap(), expected);
    });
}

#[test]
fn hits_are_those_of_a_naive_scan_with_one_hit_per_key() {
    on_random_worlds(|world, snapshot, selection, wanted, random| {
        for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
            let values: Vec<f32> = (0..3 * DIM).map(|_| random.below(9) as f32 - 4.0).collect();
            let top_k = 1 + random.below(30) as usize;
            let range = (random.below(3) == 0).then_some(DistanceRange { low: -10.0, high: 20.5 });
            let queries = Queries::dense(DIM, metric, values.clone());
            let options = SearchOptions {
                field: VECTOR,
                queries,
                top_k,
                grouping: None,
                range,
                settings: SearchSettings::default(),
                selection: selection.clone(),
            };
            let hits = search(snapshot, &options).unwrap();
            assert_eq!(hits.len(), 3);
            assert_eq!(search_in_parts(snapshot, &options, 1 + random.below(20) as usize), hits);
            for (hits, query) in hits.iter().zip(values.chunks(DIM)) {
                check_hits(world, hits, &world.nearest(wanted, query, metric, range), metric, top_k);
            }
        }
    });
}

/// In parts, the last one first.
fn search_in_parts(snapshot: &Snapshot, options: &SearchOptions<'_>, part_count: usize) -> Vec<SearchHits> {
    let search = Search::new(snapshot, options).unwrap();
    let parts = search.parts(part_count);
    let mut tops = search.no_hits(search.query_count());
    for part in (0..part_count).rev().map(|index| parts.get(index)) {
        search.search_part(&part, &mut tops[part.queries.clone()]).unwrap();
    }
    search.finish(tops).unwrap()
}

/// `nearest` is the smallest distance of each key.
fn check_hits(world: &World, hits: &SearchHits, nearest: &[(i64, f32)], metric: Metric, top_k: usize) {
    let sign = if metric.is_similarity() { -1.0 } else { 1.0 };
    assert_eq!(hits.rows.len(), nearest.len().min(top_k), "number of hits");
    let mut keys = std::collections::HashSet::new();
    for (position, (address, score)) in hits.rows.iter().zip(&hits.scores).enumerate() {
        let row = world.row(*address);
        assert!(keys.insert(row.key), "two hits of key {}", row.key);
        let of_key = nearest.iter().find(|(key, _)| *key == row.key).expect("a row that matches");
        assert!((sign * score - of_key.1).abs() < 1e-5, "key {} has {score}, not {of_key:?}", row.key);
        assert!(
            (sign * score - nearest[position].1).abs() < 1e-5,
            "place {position}: {score}, {:?}",
            nearest[position]
        );
    }
}

#[test]
fn rows_that_share_a_key_do_not_take_the_places_of_others() {
    let mut random = Random::new(5);
    let mut world = World::empty(KeyKind::Int);
    let mut rows: Vec<ModelRow> = (0..200).map(|_| ModelRow::near(1, 0.0)).collect();
    rows.extend((2..=40).map(|key| ModelRow::near(key, key as f32)));
    world.add_sealed(rows, &mut random);
    let selection = Selection { plan: plan(&world, ""), partitions: Vec::new(), ignore_growing: false };
    let queries = Queries::dense(DIM, Metric::L2, vec![0.0; 2 * DIM]);
    let options = SearchOptions {
        field: VECTOR,
        queries,
        top_k: 10,
        grouping: None,
        range: None,
        settings: SearchSettings::default(),
        selection,
    };
    for hits in search(&world.snapshot(world.last_timestamp), &options).unwrap() {
        let keys: Vec<i64> = hits.rows.iter().map(|address| world.row(*address).key).collect();
        assert_eq!(keys, (1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn a_file_of_several_windows_is_read_in_order_and_in_part() {
    let mut world = World::empty(KeyKind::Int);
    let rows = (0..70_000).map(|key| ModelRow::near(key, 1.0)).collect();
    world.add_sealed(rows, &mut Random::new(1));
    let snapshot = world.snapshot(world.last_timestamp);
    let keys = |text: &str, offset: usize, limit: Option<usize>| -> Vec<i64> {
        let selection = Selection { plan: plan(&world, text), partitions: Vec::new(), ignore_growing: false };
        let found = retrieve(&snapshot, &RetrieveOptions { selection, offset, limit }).unwrap();
        found.rows.iter().map(|address| world.row(*address).key).collect()
    };
    assert_eq!(keys("", 0, None), (0..70_000).collect::<Vec<_>>());
    assert_eq!(keys("number >= 0", 32_767, Some(3)), [32_767, 32_768, 32_769]);
    assert_eq!(keys("number > 69997", 0, Some(9)), [69_998, 69_999]);
    assert_eq!(keys("(number >= 0) and id > 40000", 0, Some(2)), [40_001, 40_002]);
    assert_eq!(keys("id >= 32760 and id < 32775", 0, None), (32_760..32_775).collect::<Vec<_>>());
    let selection = Selection { plan: plan(&world, "id > 40000"), partitions: Vec::new(), ignore_growing: false };
    assert_eq!(count(&snapshot, &selection).unwrap(), 29_999);
}

#[test]
fn the_newest_row_of_each_key_is_found_in_the_order_of_the_keys() {
    let mut random = Random::new(9);
    let mut world = World::empty(KeyKind::Int);
    world.add_sealed((0..50).map(|key| ModelRow::near(key, 1.0)).collect(), &mut random);
    world.add_growing((40..60).map(|key| ModelRow::near(key, 2.0)).collect());
    let selection = Selection { plan: plan(&world, ""), partitions: Vec::new(), ignore_growing: false };
    let snapshot = world.snapshot(world.last_timestamp);
    let found = newest_rows(&snapshot, &Keys::Int(vec![45, 3, 99, 45]), &selection).unwrap();
    let shown: Vec<Option<(i64, f32)>> = found
        .iter()
        .map(|address| address.map(|address| (world.row(address).key, world.row(address).vector[0])))
        .collect();
    assert_eq!(shown, [Some((45, 2.0)), Some((3, 1.0)), None, Some((45, 2.0))]);
}

#[test]
fn gathered_fields_are_the_rows_own() {
    on_random_worlds(|world, snapshot, selection, _, _| {
        let options = RetrieveOptions { selection: selection.clone(), offset: 0, limit: None };
        let found = retrieve(snapshot, &options).unwrap();
        let output = OutputRows { snapshot, rows: &found.rows };
        let rows: Vec<&ModelRow> = found.rows.iter().map(|address| world.row(*address)).collect();
        let numbers = output.column(world.field("number"));
        let ColumnData::Int64(values) = numbers.data else { panic!("not integers") };
        let validity = numbers.validity.unwrap_or_else(|| vec![true; values.len()]);
        let found_numbers: Vec<Option<i64>> =
            values.iter().zip(validity).map(|(value, valid)| valid.then_some(*value)).collect();
        assert_eq!(found_numbers, rows.iter().map(|row| row.number).collect::<Vec<_>>());
        let ColumnData::Text(colors) = output.column(world.field("color")).data else { panic!("not text") };
        assert_eq!(colors.bytes, rows.iter().flat_map(|row| row.color.bytes()).collect::<Vec<_>>());
        assert_eq!(output.column_bytes(world.field("color")), colors.bytes.len());
        let ColumnData::FloatVector(vectors) = output.column(world.field("vector")).data else { panic!("no vectors") };
        assert_eq!(vectors, rows.iter().flat_map(|row| row.vector).collect::<Vec<_>>());
        let keys = keys_of_column(output.column(world.schema.primary())).unwrap();
        assert_eq!(keys, world.keys_of(&rows));
    });
}

#[test]
fn files_older_than_a_field_give_its_default_or_null() {
    let mut random = Random::new(2);
    let mut world = World::empty(KeyKind::Int);
    world.add_sealed((0..3).map(|key| ModelRow::near(key, 1.0)).collect(), &mut random);
    let snapshot = world.snapshot(world.last_timestamp);
    let rows: Vec<RowAddress> = (0..3).map(|row| RowAddress { file: 0, row }).collect();
    let output = OutputRows { snapshot: &snapshot, rows: &rows };
    let added =
        FieldSchema { is_nullable: true, ..FieldSchema::new(FieldId(NUMBER.0 + 100), "added", DataType::Int32) };
    let nulls = output.column(&added);
    assert_eq!((nulls.data, nulls.validity), (ColumnData::Int32(vec![0; 3]), Some(vec![false; 3])));
    let defaulted = FieldSchema { default_value: Some(Value::Int(7)), ..added };
    let defaults = output.column(&defaulted);
    assert_eq!((defaults.data, defaults.validity), (ColumnData::Int32(vec![7; 3]), None));
}

#[test]
fn a_snapshot_before_the_horizon_is_refused() {
    let mut world = World::empty(KeyKind::Int);
    world.add_growing(vec![ModelRow::near(1, 1.0)]);
    world.horizon = Timestamp(100);
    let selection = Selection { plan: plan(&world, ""), partitions: Vec::new(), ignore_growing: false };
    let error = count(&world.snapshot(99), &selection).unwrap_err();
    assert!(error.message.contains("snapshot_retention"), "{error}");
    assert_eq!(count(&world.snapshot(100), &selection).unwrap(), 1);
}

#[test]
fn a_damaged_collection_answers_with_the_damage() {
    let mut world = World::empty(KeyKind::Int);
    world.damage = Some("file 7 fails its checksum".to_owned());
    let selection = Selection { plan: plan(&world, ""), partitions: Vec::new(), ignore_growing: false };
    let error = count(&world.snapshot(1), &selection).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Corrupt, "file 7 fails its checksum"));
}

#[test]
fn an_empty_collection_has_no_rows_and_no_hits() {
    let world = World::empty(KeyKind::Text);
    let selection = Selection { plan: plan(&world, ""), partitions: Vec::new(), ignore_growing: false };
    let snapshot = world.snapshot(1);
    let options = RetrieveOptions { selection: selection.clone(), offset: 0, limit: Some(10) };
    assert_eq!(retrieve(&snapshot, &options).unwrap(), Retrieved::default());
    let queries = Queries::dense(DIM, Metric::L2, vec![0.0; DIM]);
    let options = SearchOptions {
        field: VECTOR,
        queries,
        top_k: 10,
        grouping: None,
        range: None,
        settings: SearchSettings::default(),
        selection,
    };
    assert_eq!(search(&snapshot, &options).unwrap(), [SearchHits::default()]);
    let output = OutputRows { snapshot: &snapshot, rows: &[] };
    assert_eq!(output.column(world.field("vector")).data, ColumnData::FloatVector(Vec::new()));
}

#[test]
fn files_that_statistics_exclude_are_not_read() {
    let mut random = Random::new(5);
    let mut world = World::empty(KeyKind::Int);
    for first in [0, 100] {
        world.add_sealed((first..first + 50).map(|key| ModelRow::near(key, key as f32)).collect(), &mut random);
    }
    // Whoever reads the second file now finds that all of its rows match.
    world.overwrite_numbers(1, 7);
    let snapshot = world.snapshot(world.last_timestamp);
    let selection = |text: &str| Selection { plan: plan(&world, text), partitions: Vec::new(), ignore_growing: false };
    for text in ["number == 7", "number in [7, 8] and number < 8", "color == 'red' and 6 < number < 8"] {
        let selection = selection(text);
        assert_eq!(count(&snapshot, &selection).unwrap(), 1, "{text}");
        let options = RetrieveOptions { selection: selection.clone(), offset: 0, limit: None };
        assert_eq!(retrieve(&snapshot, &options).unwrap().rows.len(), 1, "{text}");
        assert!(snapshot.matching_rows(1, &selection).is_none(), "{text}");
    }
    assert_eq!(count(&snapshot, &selection("number % 1000 == 7")).unwrap(), 51, "a file that must be read");
}
