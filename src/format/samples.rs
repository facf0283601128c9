//! Rows of every type for the tests of this folder and of `storage`, made from a seed.

use std::sync::Arc;

use super::RowSource;
use crate::sys::map::SharedMap;
use crate::types::{
    Batch, CollectionSchema, Column, ColumnData, ColumnView, DataType, FieldId, FieldSchema, TextColumn, Value, Values,
};

/// A small generator: the same numbers for the same seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub(crate) fn field(id: i64, data_type: DataType) -> FieldSchema {
    FieldSchema {
        type_params: if data_type.is_vector() { vec![("dim".to_owned(), "24".to_owned())] } else { Vec::new() },
        ..FieldSchema::new(FieldId(id), format!("f{id}"), data_type)
    }
}

/// A primary key of the given type, then two fields of every type: one never null, one nullable.
pub(crate) fn schema(key: DataType) -> CollectionSchema {
    let mut primary = field(100, key);
    primary.is_primary = true;
    let mut fields = vec![primary];
    for (index, data_type) in DataType::ALL.into_iter().enumerate() {
        let id = 200 + 2 * index as i64;
        fields.push(field(id, data_type));
        fields.push(FieldSchema { is_nullable: true, ..field(id + 1, data_type) });
    }
    CollectionSchema { description: String::new(), fields, enable_dynamic_field: false, version: 1 }
}

fn text(row_count: usize, random: &mut Random, is_utf8: bool) -> TextColumn {
    let mut column = TextColumn::default();
    for _ in 0..row_count {
        let length = random.below(12);
        let letter = |random: &mut Random| if is_utf8 { b'a' + random.below(26) as u8 } else { random.next() as u8 };
        let row: Vec<u8> = (0..length).map(|_| letter(random)).collect();
        column.push(&row);
    }
    column
}

fn data(field: &FieldSchema, rows: usize, random: &mut Random) -> ColumnData {
    match field.data_type {
        DataType::Bool => ColumnData::Bool((0..rows).map(|_| random.below(2) == 1).collect()),
        DataType::Int8 => ColumnData::Int8((0..rows).map(|_| random.next() as i8).collect()),
        DataType::Int16 => ColumnData::Int16((0..rows).map(|_| random.next() as i16).collect()),
        DataType::Int32 => ColumnData::Int32((0..rows).map(|_| random.next() as i32).collect()),
        DataType::Int64 | DataType::Timestamptz => {
            ColumnData::Int64((0..rows).map(|_| random.below(1 + 3 * rows) as i64 - rows as i64).collect())
        }
        DataType::Float => ColumnData::Float((0..rows).map(|_| random.next() as i16 as f32 / 8.0).collect()),
        DataType::Double => ColumnData::Double((0..rows).map(|_| random.next() as i32 as f64 / 8.0).collect()),
        DataType::VarChar | DataType::Json => ColumnData::Text(text(rows, random, true)),
        DataType::Array | DataType::SparseFloatVector => ColumnData::Text(text(rows, random, false)),
        DataType::FloatVector => {
            ColumnData::FloatVector((0..rows * field.dim()).map(|_| random.next() as i16 as f32).collect())
        }
        _ => {
            let row_bytes = field.row_bytes().unwrap();
            ColumnData::BytesVector((0..rows * row_bytes).map(|_| random.next() as u8).collect())
        }
    }
}

/// Rows of a schema; about a third of each nullable column is null.
pub(crate) fn batch(schema: &CollectionSchema, row_count: usize, seed: u64) -> Batch {
    let mut random = Random(seed);
    let column = |field: &FieldSchema| Column {
        field: field.id,
        data: data(field, row_count, &mut random),
        validity: field.is_nullable.then(|| (0..row_count).map(|_| random.below(3) != 0).collect()),
    };
    Batch { row_count, columns: schema.fields.iter().map(column).collect() }
}

/// A map of its own.
pub(crate) fn fresh_map(len: usize) -> Arc<SharedMap> {
    Arc::new(SharedMap::create(&tempfile::tempfile().unwrap(), len).unwrap())
}

/// A map of a file with these bytes.
pub(crate) fn map_of(bytes: &[u8]) -> Arc<SharedMap> {
    let map = fresh_map(bytes.len());
    map.write(0, bytes);
    map
}

/// One value, comparable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Missing,
    Null,
    Value(Value),
    Bytes(Vec<u8>),
}

/// A value of a borrowed column.
pub(crate) fn cell_of(column: Option<&ColumnView<'_>>, row: usize) -> Cell {
    let Some(column) = column else { return Cell::Missing };
    if !column.validity.is_valid(row) {
        return Cell::Null;
    }
    match column.values {
        Values::BoolBits { .. } | Values::BoolBytes(_) => Cell::Value(Value::Bool(column.bool(row))),
        Values::Float(values) => Cell::Value(Value::Float(values[row].into())),
        Values::Double(values) => Cell::Value(Value::Float(values[row])),
        Values::Text { .. } => Cell::Bytes(column.text(row).to_vec()),
        Values::Vector { .. } => Cell::Bytes(column.vector(row).to_vec()),
        _ => Cell::Value(Value::Int(column.integer(row).unwrap())),
    }
}

/// A row of a source.
pub(crate) fn row_of(schema: &CollectionSchema, source: &dyn RowSource, row: usize) -> Vec<Cell> {
    schema.fields.iter().map(|field| cell_of(source.column(field).as_ref(), row)).collect()
}

/// A row of a batch.
pub(crate) fn batch_row(batch: &Batch, row: usize) -> Vec<Cell> {
    batch.columns.iter().map(|column| batch_cell(column, batch.row_count, row)).collect()
}

fn batch_cell(column: &Column, row_count: usize, row: usize) -> Cell {
    if column.validity.as_ref().is_some_and(|validity| !validity[row]) {
        return Cell::Null;
    }
    let width = |len: usize| len / row_count;
    match &column.data {
        ColumnData::Bool(values) => Cell::Value(Value::Bool(values[row])),
        ColumnData::Int8(values) => Cell::Value(Value::Int(values[row].into())),
        ColumnData::Int16(values) => Cell::Value(Value::Int(values[row].into())),
        ColumnData::Int32(values) => Cell::Value(Value::Int(values[row].into())),
        ColumnData::Int64(values) => Cell::Value(Value::Int(values[row])),
        ColumnData::Float(values) => Cell::Value(Value::Float(values[row].into())),
        ColumnData::Double(values) => Cell::Value(Value::Float(values[row])),
        ColumnData::Text(text) => {
            Cell::Bytes(text.bytes[text.offsets[row] as usize..text.offsets[row + 1] as usize].to_vec())
        }
        ColumnData::FloatVector(values) => {
            let dim = width(values.len());
            Cell::Bytes(bytemuck::cast_slice(&values[row * dim..(row + 1) * dim]).to_vec())
        }
        ColumnData::BytesVector(bytes) => {
            let row_bytes = width(bytes.len());
            Cell::Bytes(bytes[row * row_bytes..(row + 1) * row_bytes].to_vec())
        }
    }
}
