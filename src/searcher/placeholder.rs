//! Query vectors as requests carry them.

use half::{bf16, f16};
use prost::Message;

use crate::config::limits::QUERY_COUNT_MAX;
use crate::index::{QueryValues, vector_element};
use crate::kernel::{Kernels, Rows, VectorRows};
use crate::proto::common::{PlaceholderGroup, PlaceholderType};
use crate::types::{DataType, Error, ErrorKind, FieldSchema, Result};

/// The query vectors of a placeholder group, end to end: one per value, of the field's dimension.
///
/// # Errors
/// When they are of another type or dimension than the field's, not finite, none, or too many.
pub(super) fn query_vectors(bytes: &[u8], field: &FieldSchema) -> Result<QueryValues> {
    let group = PlaceholderGroup::decode(bytes)
        .map_err(|error| Error::invalid(format_args!("the placeholder group cannot be read: {error}")))?;
    let placeholder = group
        .placeholders
        .into_iter()
        .next()
        .ok_or_else(|| Error::invalid("the placeholder group is empty, there is nothing to search for"))?;
    let is_rounded = check_type(placeholder.r#type, field)?;
    check_query_count(placeholder.values.len() as i64)?;
    let row_bytes = if is_rounded { field.dim() * size_of::<f32>() } else { field.row_bytes().unwrap_or(0) };
    if let Some(value) = placeholder.values.iter().find(|value| value.len() != row_bytes) {
        let message = format!(
            "fail to search on QueryNode: vector dimension mismatch, expected vector size(byte) {row_bytes}, actual {}",
            value.len()
        );
        return Err(Error::new(ErrorKind::InvalidParameter, message));
    }
    let vectors = match <[Vec<u8>; 1]>::try_from(placeholder.values) {
        Ok([one]) => one,
        Err(several) => several.concat(),
    };
    if is_rounded { rounded(field, &vectors) } else { query_values(field, vectors) }
}

/// Vectors as a field stores them, as queries.
///
/// # Errors
/// When an element is not finite.
pub(super) fn query_values(field: &FieldSchema, bytes: Vec<u8>) -> Result<QueryValues> {
    let Some(element) = vector_element(field.data_type) else { return Ok(QueryValues::Bits(bytes)) };
    let rows = VectorRows { bytes: &bytes, dim: field.dim(), element };
    let block = rows.block(Rows::Range(0..rows.len())).ok_or_else(|| Error::internal("a vector field has no dim"))?;
    let mut values = vec![0.0; rows.len() * rows.dim];
    Kernels::get().widen(&block, &mut values);
    finite(values)
}

/// Queries of `f32` for a field of 16-bit floats lose what the field's vectors lose: equal vectors stay equal.
fn rounded(field: &FieldSchema, bytes: &[u8]) -> Result<QueryValues> {
    let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    finite(match field.data_type {
        DataType::Float16Vector => values.map(|value| f16::from_f32(value).to_f32()).collect(),
        _ => values.map(|value| bf16::from_f32(value).to_f32()).collect(),
    })
}

fn finite(values: Vec<f32>) -> Result<QueryValues> {
    // Without an end before the last value it is a few instructions for many values.
    if values.iter().fold(true, |are_finite, value| are_finite & value.is_finite()) {
        return Ok(QueryValues::Dense(values));
    }
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::invalid(format_args!("value '{value}' is not a number or infinity"))),
        None => Ok(QueryValues::Dense(values)),
    }
}

/// Refuses a number of query vectors out of range.
pub(super) fn check_query_count(count: i64) -> Result<()> {
    if (1..=QUERY_COUNT_MAX as i64).contains(&count) {
        return Ok(());
    }
    let message = format!(
        "nq [{count}] is invalid, nq (number of search vector per search request) should be in range [1, \
         {QUERY_COUNT_MAX}], but got {count}"
    );
    Err(Error::new(ErrorKind::Unexpected, message))
}

/// Refuses fields that cannot be searched yet.
pub(super) fn refuse_type(field: &FieldSchema) -> Result<()> {
    if field.row_bytes().is_some() {
        return Ok(());
    }
    Err(Error::unimplemented(format_args!("searching field {}, a {},", field.name, field.data_type.name())))
}

/// Whether the queries are `f32` that have to be rounded to the field's type.
fn check_type(number: i32, field: &FieldSchema) -> Result<bool> {
    if number == field.data_type as i32 {
        return Ok(false);
    }
    let is_float = number == PlaceholderType::FloatVector as i32;
    if is_float && matches!(field.data_type, DataType::Float16Vector | DataType::BFloat16Vector) {
        return Ok(true);
    }
    let given = PlaceholderType::try_from(number).map_or_else(|_| number.to_string(), placeholder_name);
    let own = PlaceholderType::try_from(field.data_type as i32).map_or_else(|_| String::new(), placeholder_name);
    Err(Error::invalid(format_args!(
        "vector type must be the same, field {} - type {own}, search info type {given}",
        field.name
    )))
}

/// Milvus' name of a query's type.
fn placeholder_name(placeholder: PlaceholderType) -> String {
    match placeholder {
        PlaceholderType::BinaryVector => "VECTOR_BINARY".to_owned(),
        PlaceholderType::FloatVector => "VECTOR_FLOAT".to_owned(),
        PlaceholderType::Float16Vector => "VECTOR_FLOAT16".to_owned(),
        PlaceholderType::BFloat16Vector => "VECTOR_BFLOAT16".to_owned(),
        PlaceholderType::SparseFloatVector => "VECTOR_SPARSE_U32_F32".to_owned(),
        PlaceholderType::Int8Vector => "VECTOR_INT8".to_owned(),
        PlaceholderType::VarChar => "VARCHAR".to_owned(),
        other => format!("{other:?}"),
    }
}
