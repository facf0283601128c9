//! Tests of `format/table`.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use proptest::prelude::*;

use super::*;
use crate::format::growing::{ChunkCapacity, GrowingWriter};
use crate::format::samples::{Cell, Random, batch, batch_row, field, fresh_map, map_of, row_of, schema};
use crate::format::{RowRef, RowSource};
use crate::types::{
    Batch, CollectionSchema, ColumnData, DataType, FieldId, FieldSchema, Keys, Timestamp, Value, ValueRange,
};

fn growing(schema: &CollectionSchema, batch: &Batch, timestamp: u64) -> GrowingWriter {
    let capacity = ChunkCapacity::for_batch(schema, batch, 0, batch.row_count, 0);
    let mut writer = GrowingWriter::create(fresh_map(capacity.file_bytes(schema)), schema, &capacity);
    writer.append(batch, 0..batch.row_count, Timestamp(timestamp));
    writer
}

fn table(schema: &CollectionSchema, sources: &[&dyn RowSource], keep: &dyn Fn(RowRef) -> bool) -> TableFile {
    let order = sort_rows(schema, sources, keep);
    TableFile::open(map_of(&table_bytes(schema, sources, &order).0)).unwrap()
}

fn table_bytes(schema: &CollectionSchema, sources: &[&dyn RowSource], order: &[RowRef]) -> (Vec<u8>, TableSummary) {
    let mut bytes = Vec::new();
    let summary = write_table(&mut bytes, schema, sources, order).unwrap();
    (bytes, summary)
}

/// (key, timestamp) of every row, to compare orders.
fn keys_of(schema: &CollectionSchema, source: &dyn RowSource) -> Vec<(Cell, u64)> {
    let key = |row| row_of(schema, source, row).swap_remove(0);
    (0..source.row_count()).map(|row| (key(row), source.insert_timestamps()[row])).collect()
}

fn comparable(cell: &Cell) -> (i64, Vec<u8>) {
    match cell {
        Cell::Value(Value::Int(key)) => (*key, Vec::new()),
        Cell::Bytes(bytes) => (0, bytes.clone()),
        other => panic!("{other:?} as a key"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_of_every_type_survive_serialising_and_merging(left in 0usize..150, right in 1usize..150, seed: u64) {
        for key in [DataType::Int64, DataType::VarChar] {
            let schema = schema(key);
            let (one, two) = (batch(&schema, left.max(1), seed), batch(&schema, right, !seed));
            let (grown_one, grown_two) = (growing(&schema, &one, 5), growing(&schema, &two, 9));
            // One through a table file first: a merge reads those.
            let file_one = table(&schema, &[&grown_one.file().rows(left)], &|_| true);
            let rows_two = grown_two.file().rows(right);
            let keep = |row: RowRef| row.row % 5 != 3;
            let merged = table(&schema, &[&file_one, &rows_two], &keep);
            let mut expected: Vec<(Vec<Cell>, u64)> = Vec::new();
            for row in 0..left {
                if row % 5 != 3 {
                    expected.push((row_of(&schema, &file_one, row), 5));
                }
            }
            expected.extend((0..right).filter(|row| row % 5 != 3).map(|row| (batch_row(&two, row), 9)));
            expected.sort_by_key(|(cells, timestamp)| (comparable(&cells[0]), *timestamp));
            let found: Vec<(Vec<Cell>, u64)> = (0..merged.row_count())
                .map(|row| (row_of(&schema, &merged, row), merged.insert_timestamps()[row]))
                .collect();
            prop_assert_eq!(found, expected);
            // The first file held the rows of its batch.
            let mut of_batch: Vec<_> = (0..left).map(|row| batch_row(&one, row)).collect();
            of_batch.sort_by_key(|cells| comparable(&cells[0]));
            let of_file: Vec<_> = (0..left).map(|row| row_of(&schema, &file_one, row)).collect();
            prop_assert_eq!(of_file, of_batch);
        }
    }

    #[test]
    fn every_key_is_found_at_its_rows_and_no_other(rows in 1usize..400, asked in 0usize..100, seed: u64) {
        for key in [DataType::Int64, DataType::VarChar] {
            let schema = CollectionSchema { fields: schema(key).fields[..1].to_vec(), ..schema(key) };
            let batch = batch(&schema, rows, seed);
            let file = table(&schema, &[&growing(&schema, &batch, 5).file().rows(rows)], &|_| true);
            let mut random = Random(seed);
            let keys = match &batch.columns[0].data {
                ColumnData::Int64(keys) => {
                    let pick = |random: &mut Random| match random.below(2) {
                        0 => keys[random.below(rows)],
                        _ => random.below(4 * rows) as i64 - rows as i64,
                    };
                    Keys::Int((0..asked).map(|_| pick(&mut random)).collect())
                }
                ColumnData::Text(text) => {
                    let row = |row: usize| &text.bytes[text.offsets[row] as usize..text.offsets[row + 1] as usize];
                    let pick = |random: &mut Random| match random.below(2) {
                        0 => String::from_utf8(row(random.below(rows)).to_vec()).unwrap(),
                        _ => format!("{:x}", random.next()),
                    };
                    Keys::Text((0..asked).map(|_| pick(&mut random)).collect())
                }
                other => panic!("{other:?}"),
            };
            let stored = keys_of(&schema, &file);
            let mut found = BTreeMap::new();
            file.find_keys(&keys, &mut |index, rows| assert!(found.insert(index, rows).is_none()));
            for index in 0..asked {
                let key = match &keys {
                    Keys::Int(keys) => Cell::Value(Value::Int(keys[index])),
                    Keys::Text(keys) => Cell::Bytes(keys[index].clone().into_bytes()),
                };
                let expected: Vec<usize> = (0..rows).filter(|row| stored[*row].0 == key).collect();
                let rows: Vec<usize> = found.get(&index).cloned().into_iter().flatten().collect();
                prop_assert_eq!(rows, expected);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_without_a_panic(seed: u64) {
        let schema = schema(DataType::VarChar);
        let batch = batch(&schema, 60, seed);
        let grown = growing(&schema, &batch, 5);
        let rows = grown.file().rows(60);
        let order = sort_rows(&schema, &[&rows], &|_| true);
        let (whole, summary) = table_bytes(&schema, &[&rows], &order);
        let footer = i32::from_le_bytes(whole[whole.len() - 10..whole.len() - 6].try_into().unwrap()) as usize;
        let mut random = Random(seed);
        for round in 0..64 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                // Footer, batch header, anywhere: flips in the first two must be met by checks.
                let at = match round % 3 {
                    0 => bytes.len() - 1 - random.below(footer + 10),
                    1 => random.below(16 << 10).min(bytes.len() - 1),
                    _ => random.below(bytes.len()),
                };
                bytes[at] ^= 1 << random.below(8);
            }
            if random.below(4) == 0 {
                bytes.truncate(1 + random.below(bytes.len()));
            }
            prop_assert!(checksum(&bytes) != summary.checksum || bytes == whole);
            read_everything(&schema, &bytes);
        }
    }
}

/// Uses whatever opens in every way; results do not matter, panics do.
fn read_everything(schema: &CollectionSchema, bytes: &[u8]) {
    let Ok(file) = TableFile::open(map_of(bytes)) else { return };
    (0..file.row_count().min(1000)).for_each(|row| drop(row_of(schema, &file, row)));
    file.find_keys(&Keys::Text((0..40).map(|key| format!("{key}")).collect()), &mut |_, _| {});
    let _ = file.statistics(FieldId(200));
    let order = sort_rows(schema, &[&file], &|_| true);
    let _ = write_table(&mut Vec::new(), schema, &[&file], &order);
}

#[test]
fn the_summary_tells_what_was_written() {
    let schema = schema(DataType::Int64);
    let (one, two) = (batch(&schema, 20, 1), batch(&schema, 30, 2));
    let (one, two) = (growing(&schema, &one, 5), growing(&schema, &two, 9));
    let (one, two) = (one.file().rows(20), two.file().rows(30));
    let sources: [&dyn RowSource; 2] = [&one, &two];
    let (bytes, summary) = table_bytes(&schema, &sources, &sort_rows(&schema, &sources, &|_| true));
    let expected =
        TableSummary { row_count: 50, file_bytes: bytes.len() as u64, checksum: checksum(&bytes), timestamps: (5, 9) };
    assert_eq!(summary, expected);
}

#[test]
fn arrow_reads_the_file_and_vectors_begin_at_a_cache_line() {
    let schema = schema(DataType::Int64);
    let batch = batch(&schema, 100, 7);
    let grown = growing(&schema, &batch, 5);
    let rows = grown.file().rows(100);
    let (bytes, _) = table_bytes(&schema, &[&rows], &sort_rows(&schema, &[&rows], &|_| true));
    let file = TableFile::open(map_of(&bytes)).unwrap();
    for field in schema.fields.iter().filter(|field| field.data_type.is_vector() && field.row_bytes().is_some()) {
        assert_eq!(file.column(field).unwrap().vector(0).as_ptr() as usize % 64, 0, "{}", field.name);
    }
    let reader = arrow_ipc::reader::FileReader::try_new(std::io::Cursor::new(&bytes), None).unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!((batches.len(), batches[0].num_rows()), (1, 100));
    for (field, column) in schema.fields.iter().zip(&batches[0].columns()[1..]) {
        let view = file.column(field).unwrap();
        let nulls = (0..100).filter(|row| !view.validity.is_valid(*row)).count();
        assert_eq!(column.null_count(), nulls, "{}", field.name);
        let statistics = file.statistics(field.id).unwrap();
        assert_eq!(statistics.null_count, nulls as u64, "{}", field.name);
        let is_ranged = matches!(field.data_type as i32, 1..=21 | 26);
        assert_eq!(statistics.range.is_some(), is_ranged && nulls < 100, "{}", field.name);
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let schema = schema(DataType::VarChar);
    let (bytes, summary) = table_bytes(&schema, &[], &[]);
    assert_eq!((summary.row_count, summary.timestamps), (0, (0, 0)));
    let file = TableFile::open(map_of(&bytes)).unwrap();
    assert_eq!(file.row_count(), 0);
    assert!(schema.fields.iter().all(|field| file.column(field).is_some()));
    file.find_keys(&Keys::Text(vec![String::new()]), &mut |_, _| panic!("a row of an empty file"));
    assert!(schema.fields.iter().all(|field| file.statistics(field.id).is_some_and(|known| known.range.is_none())));
}

#[test]
fn fields_younger_than_a_file_are_filled_with_their_default_or_null() {
    let old = schema(DataType::Int64);
    let mut new = old.clone();
    let nullable =
        |id, data_type, default_value| FieldSchema { is_nullable: true, default_value, ..field(id, data_type) };
    new.fields.push(nullable(900, DataType::VarChar, Some(Value::Text("some".to_owned()))));
    new.fields.push(nullable(901, DataType::Int16, Some(Value::Int(-7))));
    new.fields.push(nullable(902, DataType::Double, None));
    new.fields.push(FieldSchema { default_value: Some(Value::Bool(true)), ..field(903, DataType::Bool) });
    new.fields.push(nullable(904, DataType::FloatVector, None));
    new.fields.push(nullable(905, DataType::BinaryVector, None));
    let batch = batch(&old, 10, 1);
    let old_file = table(&old, &[&growing(&old, &batch, 5).file().rows(10)], &|_| true);
    assert!(old_file.column(&new.fields[new.fields.len() - 1]).is_none());
    let file = table(&new, &[&old_file], &|_| true);
    let cells = row_of(&new, &file, 3);
    let expected = [
        Cell::Bytes(b"some".to_vec()),
        Cell::Value(Value::Int(-7)),
        Cell::Null,
        Cell::Value(Value::Bool(true)),
        Cell::Null,
        Cell::Null,
    ];
    assert_eq!(cells[old.fields.len()..], expected);
    assert_eq!(cells[..old.fields.len()], row_of(&old, &old_file, 3));
}

#[test]
fn a_field_of_the_same_id_but_another_type_is_not_read() {
    let schema = schema(DataType::Int64);
    let file = table(&schema, &[&growing(&schema, &batch(&schema, 4, 1), 5).file().rows(4)], &|_| true);
    let float = schema.fields.iter().find(|field| field.data_type == DataType::FloatVector).unwrap();
    let wider = FieldSchema { type_params: vec![("dim".to_owned(), "25".to_owned())], ..float.clone() };
    assert!(file.column(float).is_some() && file.column(&wider).is_none());
    assert!(file.column(&FieldSchema { data_type: DataType::VarChar, ..schema.primary().clone() }).is_none());
}

#[test]
fn rows_out_of_order_are_refused() {
    let schema = schema(DataType::Int64);
    let batch = batch(&schema, 20, 1);
    let grown = growing(&schema, &batch, 5);
    let rows = grown.file().rows(20);
    let mut order = sort_rows(&schema, &[&rows], &|_| true);
    order.reverse();
    let error = write_table(&mut Vec::new(), &schema, &[&rows], &order).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn ranges_of_integers_keep_every_digit() {
    let schema = CollectionSchema { fields: schema(DataType::Int64).fields[..1].to_vec(), ..schema(DataType::Int64) };
    let mut rows = batch(&schema, 3, 1);
    let (low, high) = (-(1i64 << 60) - 1, (1i64 << 60) + 1);
    rows.columns[0].data = ColumnData::Int64(vec![low, 0, high]);
    let file = table(&schema, &[&growing(&schema, &rows, 5).file().rows(3)], &|_| true);
    assert_eq!(file.statistics(FieldId(100)).unwrap().range, Some(ValueRange::Integers { min: low, max: high }));
}

#[test]
fn no_range_is_told_of_values_that_are_not_finite() {
    let schema = schema(DataType::Int64);
    let mut rows = batch(&schema, 3, 1);
    let float = schema.fields.iter().position(|field| field.data_type == DataType::Float).unwrap();
    rows.columns[float].data = ColumnData::Float(vec![1.0, f32::NAN, 2.0]);
    let file = table(&schema, &[&growing(&schema, &rows, 5).file().rows(3)], &|_| true);
    assert_eq!(file.statistics(schema.fields[float].id).unwrap().range, None);
    assert!(file.statistics(FieldId(100)).unwrap().range.is_some());
}
