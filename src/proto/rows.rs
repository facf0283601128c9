//! Rows of the protocol and ours: `FieldData` to `Batch` with every check of Insert, and columns back to `FieldData`.

use super::schema;
use crate::filter::Templates;
use crate::types::{Batch, CollectionSchema, Column, FieldSchema, Keys, Result};

/// How rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOptions {
    /// The rows of an upsert: keys may be given also when ids are automatic.
    pub is_upsert: bool,
    /// Row i of a collection with automatic ids gets `first_id + i` (a `VarChar` key: in decimal).
    pub first_id: i64,
}

/// Checks rows and makes a batch of them: one column per schema field in schema order, full width (compact nullable
/// columns are spread, defaults and nulls filled in, vectors given as float lists converted).
///
/// # Errors
/// With Milvus' texts: wrong type, dimension, length, NaN or infinity, missing and unexpected fields, doubled keys.
pub fn batch_from_wire(
    schema: &CollectionSchema,
    fields: Vec<schema::FieldData>,
    row_count: u32,
    options: RowOptions,
) -> Result<Batch> {
    let _ = (schema, fields, row_count, options);
    todo!()
}

/// A column as a reply carries it: scalars row-aligned with `valid_data`, vectors compact, the oneof set also when empty.
pub fn column_to_wire(field: &FieldSchema, column: &Column) -> schema::FieldData {
    let _ = (field, column);
    todo!()
}

/// The keys of a batch.
pub fn batch_keys(schema: &CollectionSchema, batch: &Batch) -> Keys {
    let _ = (schema, batch);
    todo!()
}

/// Keys as the protocol has them.
pub fn keys_to_wire(keys: &Keys) -> schema::IDs {
    let _ = keys;
    todo!()
}

/// Keys as we have them; `None` when the oneof is empty.
pub fn keys_from_wire(ids: schema::IDs) -> Option<Keys> {
    let _ = ids;
    todo!()
}

/// Template values of a filter.
///
/// # Errors
/// When a value has no type.
pub fn templates_from_wire(values: std::collections::HashMap<String, schema::TemplateValue>) -> Result<Templates> {
    let _ = values;
    todo!()
}
