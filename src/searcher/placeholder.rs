//! Query vectors as requests carry them.

use prost::Message;

use crate::config::limits::QUERY_COUNT_MAX;
use crate::proto::common::{PlaceholderGroup, PlaceholderType};
use crate::types::{DataType, Error, ErrorKind, FieldSchema, Result};

/// The query vectors of a placeholder group, end to end: one per value, of the field's dimension.
///
/// # Errors
/// When they are of another type or dimension than the field's, not finite, none, or too many.
pub(super) fn query_vectors(bytes: &[u8], field: &FieldSchema) -> Result<Vec<f32>> {
    let group = PlaceholderGroup::decode(bytes)
        .map_err(|error| Error::invalid(format_args!("the placeholder group cannot be read: {error}")))?;
    let placeholder = group
        .placeholders
        .first()
        .ok_or_else(|| Error::invalid("the placeholder group is empty, there is nothing to search for"))?;
    check_type(placeholder.r#type, field)?;
    check_query_count(placeholder.values.len() as i64)?;
    let mut vectors = Vec::with_capacity(placeholder.values.len() * field.dim());
    for value in &placeholder.values {
        push_vector(&mut vectors, value, field.dim())?;
    }
    Ok(vectors)
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

fn check_type(number: i32, field: &FieldSchema) -> Result<()> {
    if field.data_type != DataType::FloatVector {
        return Err(Error::unimplemented(format_args!(
            "searching field {}, a {},",
            field.name,
            field.data_type.name()
        )));
    }
    match PlaceholderType::try_from(number) {
        Ok(PlaceholderType::FloatVector) => Ok(()),
        other => {
            let given = other.map_or_else(|_| number.to_string(), |placeholder| format!("{placeholder:?}"));
            Err(Error::invalid(format_args!(
                "vector type must be the same, field {} - type FloatVector, search info type {given}",
                field.name
            )))
        }
    }
}

fn push_vector(vectors: &mut Vec<f32>, value: &[u8], dim: usize) -> Result<()> {
    let (expected, actual) = (dim * size_of::<f32>(), value.len());
    if actual != expected {
        let message = format!(
            "fail to search on QueryNode: vector dimension mismatch, expected vector size(byte) {expected}, actual {actual}"
        );
        return Err(Error::new(ErrorKind::InvalidParameter, message));
    }
    let (elements, _) = value.as_chunks::<4>();
    let start = vectors.len();
    vectors.extend(elements.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    match vectors[start..].iter().find(|element| !element.is_finite()) {
        Some(element) => Err(Error::invalid(format_args!("value '{element}' is not a number or infinity"))),
        None => Ok(()),
    }
}
