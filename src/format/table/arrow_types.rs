//! Which Arrow type a field has in a table file.

use std::sync::Arc;

use arrow_schema::{DataType as ArrowType, Field};

use super::{DATA_TYPE_KEY, FIELD_ID_KEY, TYPE_NAME_KEY};
use crate::types::{DataType, FieldSchema};

/// The Arrow type of a field's column.
fn arrow_type(field: &FieldSchema) -> ArrowType {
    match field.data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 | DataType::Timestamptz => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::VarChar => ArrowType::Utf8,
        DataType::Json | DataType::Array | DataType::SparseFloatVector => ArrowType::Binary,
        DataType::FloatVector => vectors(ArrowType::Float32, field),
        DataType::Float16Vector => vectors(ArrowType::Float16, field),
        DataType::Int8Vector => vectors(ArrowType::Int8, field),
        // Arrow has neither a bfloat16 nor lists of bits.
        DataType::BFloat16Vector | DataType::BinaryVector => {
            ArrowType::FixedSizeBinary(width(field.row_bytes().unwrap_or(0)))
        }
    }
}

/// Lists of `dim` elements, which are never null.
fn vectors(element: ArrowType, field: &FieldSchema) -> ArrowType {
    ArrowType::FixedSizeList(Arc::new(Field::new("item", element, false)), width(field.dim()))
}

/// Bytes of an element of a vector type that is a list in Arrow.
pub(super) fn list_item_bytes(data_type: DataType) -> Option<usize> {
    match data_type {
        DataType::FloatVector => Some(4),
        DataType::Float16Vector => Some(2),
        DataType::Int8Vector => Some(1),
        _ => None,
    }
}

/// Dimensions are bounded by `limits::DIM_MAX` when a collection is created.
fn width(dim: usize) -> i32 {
    i32::try_from(dim).unwrap_or(i32::MAX)
}

/// The Arrow field of a field.
pub(super) fn arrow_field(field: &FieldSchema) -> Field {
    let metadata = [
        (FIELD_ID_KEY, field.id.to_string()),
        (DATA_TYPE_KEY, (field.data_type as i32).to_string()),
        (TYPE_NAME_KEY, field.data_type.name().to_owned()),
    ];
    let metadata: std::collections::HashMap<String, String> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Field::new(&field.name, arrow_type(field), field.is_nullable).with_metadata(metadata)
}
