//! Tests of `format/growing`.

use proptest::prelude::*;

use super::*;
use crate::format::samples::{Cell, Random, batch, batch_row, field, fresh_map, map_of, row_of, schema};

fn writer(schema: &CollectionSchema, capacity: &ChunkCapacity) -> GrowingWriter {
    GrowingWriter::create(fresh_map(capacity.file_bytes(schema)), schema, capacity)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_of_every_type_come_back_in_every_split(row_count in 1usize..200, step in 1usize..80, seed: u64) {
        let schema = schema(DataType::Int64);
        let batch = batch(&schema, row_count, seed);
        let capacity = ChunkCapacity::for_batch(&schema, &batch, 0, row_count, 4096);
        let mut writer = writer(&schema, &capacity);
        let reader = GrowingFile::open(Arc::clone(&writer.file().map)).unwrap();
        let mut from = 0;
        while from < row_count {
            let to = (from + step).min(row_count);
            prop_assert!(writer.rows_that_fit(&batch, from) >= to - from);
            prop_assert_eq!(writer.append(&batch, from..to, Timestamp(to as u64)), from);
            from = to;
            prop_assert_eq!(reader.rows_published(), to);
        }
        let rows = reader.rows(row_count);
        for row in 0..row_count {
            prop_assert_eq!(row_of(&schema, &rows, row), batch_row(&batch, row));
            let timestamp = ((row / step + 1) * step).min(row_count) as u64;
            prop_assert_eq!(rows.insert_timestamps()[row], timestamp);
        }
        let vectors = rows.column(schema.vector_fields().next().unwrap()).unwrap();
        prop_assert_eq!(vectors.vector(0).as_ptr() as usize % 64, 0);
    }

    #[test]
    fn a_damaged_file_is_refused_or_read_without_a_panic(seed: u64) {
        let schema = schema(DataType::VarChar);
        let batch = batch(&schema, 40, seed);
        let capacity = ChunkCapacity::for_batch(&schema, &batch, 0, 40, 0);
        let mut writer = writer(&schema, &capacity);
        writer.append(&batch, 0..40, Timestamp(1));
        let whole = writer.file().map.bytes();
        let mut random = Random(seed);
        for round in 0..64 {
            let mut bytes = whole.to_vec();
            // Mostly the header: that is where a flip can do harm.
            let reach = if round % 4 == 0 { bytes.len() } else { 4096.min(bytes.len()) };
            for _ in 0..=random.below(3) {
                let at = random.below(reach);
                bytes[at] ^= 1 << random.below(8);
            }
            if random.below(2) == 0 {
                bytes.truncate(1 + random.below(bytes.len()));
            }
            if let Ok(file) = GrowingFile::open(map_of(&bytes)) {
                let rows = file.rows(usize::MAX);
                (0..rows.row_count()).for_each(|row| drop(row_of(&schema, &rows, row)));
                prop_assert!(file.deleted_at().len() >= rows.row_count());
            }
        }
    }
}

#[test]
fn rows_behind_the_asked_count_are_not_seen() {
    let schema = schema(DataType::VarChar);
    let batch = batch(&schema, 30, 1);
    let mut writer = writer(&schema, &ChunkCapacity::for_batch(&schema, &batch, 0, 30, 0));
    writer.append(&batch, 0..30, Timestamp(1));
    let rows = writer.file().rows(10);
    assert_eq!((rows.row_count(), rows.insert_timestamps().len()), (10, 10));
    match rows.column(schema.primary()).unwrap().values {
        Values::Text { offsets, bytes } => assert_eq!((offsets.len(), bytes.len()), (11, offsets[10] as usize)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chunk_takes_rows_until_its_rows_or_its_text_are_used_up() {
    let schema = CollectionSchema {
        description: String::new(),
        fields: vec![FieldSchema { is_primary: true, ..field(100, DataType::VarChar) }],
        enable_dynamic_field: false,
        version: 1,
    };
    let batch = |lengths: &[usize]| {
        let mut text = crate::types::TextColumn::default();
        lengths.iter().for_each(|length| text.push(&vec![b'x'; *length]));
        let column = Column { field: KEY, data: ColumnData::Text(text), validity: None };
        Batch { row_count: lengths.len(), columns: vec![column] }
    };
    let mut writer = writer(&schema, &ChunkCapacity { rows: 5, text_bytes: vec![10] });
    let rows = batch(&[4, 4, 4]);
    assert_eq!(writer.rows_that_fit(&rows, 0), 2);
    writer.append(&rows, 0..2, Timestamp(1));
    assert_eq!(writer.rows_that_fit(&rows, 2), 0);
    assert_eq!(writer.rows_that_fit(&batch(&[1, 1, 1]), 0), 2);
    assert_eq!(writer.rows_that_fit(&batch(&[0, 0, 0, 0]), 0), 3);
}

const KEY: crate::types::FieldId = crate::types::FieldId(100);

#[test]
fn a_field_the_chunk_was_not_made_for_needs_a_new_chunk_and_one_the_batch_lacks_is_null() {
    let old = schema(DataType::Int64);
    let mut new = old.clone();
    new.fields.push(FieldSchema { is_nullable: true, ..field(900, DataType::VarChar) });
    let (old_rows, new_rows) = (batch(&old, 3, 1), batch(&new, 3, 1));
    let writer_old = writer(&old, &ChunkCapacity::for_batch(&old, &old_rows, 0, 3, 0));
    assert_eq!(writer_old.rows_that_fit(&new_rows, 0), 0);
    let mut writer_new = writer(&new, &ChunkCapacity::for_batch(&new, &new_rows, 0, 3, 4096));
    writer_new.append(&old_rows, 0..3, Timestamp(1));
    assert_eq!(row_of(&new, &writer_new.file().rows(3), 2).last(), Some(&Cell::Null));
}

#[test]
fn a_chunk_is_about_as_large_as_asked() {
    let schema = schema(DataType::Int64);
    let batch = batch(&schema, 1000, 3);
    for bytes in [64 << 10, 1 << 20, 16 << 20] {
        let capacity = ChunkCapacity::for_batch(&schema, &batch, 0, 1, bytes);
        let file_bytes = capacity.file_bytes(&schema);
        assert!(file_bytes > bytes * 9 / 10 && file_bytes < bytes + (16 << 10), "{file_bytes} of {bytes}");
    }
}
