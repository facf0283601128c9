//! Rows of the protocol and ours: `FieldData` to `Batch` with every check of Insert, and columns back to `FieldData`.
//! What a log record holds is read with it again, maybe against a later schema: fields that were added meanwhile are
//! nullable or have a default, and their absence is no error.

use std::collections::HashSet;

use super::columns::{column_from_wire, filled_column};
use super::schema;
use super::schemas::DYNAMIC_FIELD;
use crate::config::limits::{BATCH_BYTES_MAX, FILTER_DEPTH_MAX};
use crate::filter::{TemplateValue, Templates};
use crate::types::{
    Batch, CollectionSchema, Column, ColumnData, Error, ErrorKind, FieldId, FieldSchema, Keys, Result, TextColumn,
    Value,
};

pub use super::columns::{array_column, column_into_wire};

/// How rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowOptions {
    /// The rows of an upsert: keys are given also when ids are automatic, to name what is replaced.
    pub is_upsert: bool,
    /// Given keys are taken also when ids are automatic (the property `allow_insert_auto_id`).
    pub takes_keys: bool,
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
    let row_count = row_count as usize;
    if row_count == 0 {
        return Err(invalid_expected("num_rows should be greater than 0", "invalid num_rows", 0));
    }
    check_memory(schema, row_count)?;
    let mut given = by_schema_position(schema, fields)?;
    check_primary_given(schema, &mut given, options)?;
    let taken: HashSet<&str> = schema
        .fields
        .iter()
        .zip(&given)
        .filter(|(field, data)| !field.is_dynamic && (data.is_some() || field.is_primary))
        .map(|(field, _)| field.name.as_str())
        .collect();
    let mut columns = Vec::with_capacity(schema.fields.len());
    for (field, data) in schema.fields.iter().zip(&mut given) {
        columns.push(match data.take() {
            Some(data) => column_from_wire(field, data, row_count, &taken)?,
            None if field.is_primary => automatic_ids(field, options.first_id, row_count)?,
            None => filled_column(field, row_count)?,
        });
    }
    let batch = Batch { row_count, columns };
    if options.is_upsert {
        check_distinct(&batch_keys(schema, &batch))?;
    }
    Ok(batch)
}

/// The error of a value that is not finite, with Go's spelling of it.
pub(super) fn not_a_number(value: f64) -> Error {
    let text = match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "+Inf",
        _ => "-Inf",
    };
    Error::new(ErrorKind::Unexpected, format!("value '{text}' is not a number or infinity"))
}

/// Milvus' `<message>: invalid parameter[expected=..][actual=..]`.
pub(super) fn invalid_expected(
    message: impl std::fmt::Display,
    expected: impl std::fmt::Display,
    actual: impl std::fmt::Display,
) -> Error {
    Error::new(
        ErrorKind::InvalidParameter,
        format!("{message}: invalid parameter[expected={expected}][actual={actual}]"),
    )
}

/// A few bytes of a request can stand for many in memory (a null is one bit of thought and a full value): the sum is
/// bounded before anything is allocated.
fn check_memory(schema: &CollectionSchema, row_count: usize) -> Result<()> {
    let row_bytes: usize = schema
        .fields
        .iter()
        .map(|field| match (&field.default_value, field.row_bytes()) {
            (_, Some(bytes)) => bytes,
            (Some(Value::Text(text)), None) => text.len() + 4,
            (_, None) => 6,
        })
        .sum();
    let bytes = row_count.saturating_mul(row_bytes);
    if bytes <= BATCH_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "cannot take {row_count} rows at once: they need {bytes} bytes of memory, at most {BATCH_BYTES_MAX} are given to \
         one request; send fewer rows per request"
    )))
}

/// The columns of a request in the order of the schema.
fn by_schema_position(
    schema: &CollectionSchema,
    fields: Vec<schema::FieldData>,
) -> Result<Vec<Option<schema::FieldData>>> {
    let mut given: Vec<Option<schema::FieldData>> = schema.fields.iter().map(|_| None).collect();
    for data in fields {
        let name = if data.is_dynamic { DYNAMIC_FIELD } else { data.field_name.as_str() };
        let Some(position) = schema.fields.iter().position(|field| field.name == name) else {
            if name == DYNAMIC_FIELD {
                return Err(Error::invalid(
                    "without dynamic schema enabled, the field name cannot be set to $meta: more fieldData has pass in",
                ));
            }
            // Clients stop at a longer text too, so the name goes in front of the words they know.
            return Err(Error::invalid(format_args!("field {name} is not in the schema: more fieldData has pass in")));
        };
        if given[position].is_some() {
            return Err(Error::invalid(format_args!("field {name} is given twice: more fieldData has pass in")));
        }
        given[position] = Some(data);
    }
    Ok(given)
}

fn check_primary_given(
    schema: &CollectionSchema,
    given: &mut [Option<schema::FieldData>],
    options: RowOptions,
) -> Result<()> {
    let Some(position) = schema.fields.iter().position(|field| field.is_primary) else {
        return Err(Error::internal("a stored schema has no primary field"));
    };
    let primary = &schema.fields[position];
    match (given[position].is_some(), primary.auto_id, options.is_upsert) {
        (true, true, _) if options.takes_keys => Ok(()),
        (true, true, false) => Err(Error::invalid(format_args!(
            "can not assign primary field data when auto id enabled and allow_insert_auto_id is false {}",
            primary.name
        ))),
        // The keys said which rows are replaced; their successors get ids of their own.
        (true, true, true) => {
            given[position] = None;
            Ok(())
        }
        (false, true, true) => {
            Err(Error::invalid(format_args!("must assign pk when upsert, primary field: {}", primary.name)))
        }
        (false, false, _) => Err(missing_field(&primary.name)),
        (true, false, _) | (false, true, false) => Ok(()),
    }
}

/// Milvus' error for a field that has to be given.
pub fn missing_field(name: &str) -> Error {
    Error::invalid(format_args!("fieldSchema({name}) has no corresponding fieldData pass in"))
}

fn automatic_ids(field: &FieldSchema, first_id: i64, row_count: usize) -> Result<Column> {
    let end = i64::try_from(row_count).ok().and_then(|count| first_id.checked_add(count));
    let Some(end) = end else { return Err(Error::internal("automatic ids are used up")) };
    let data = match field.data_type {
        crate::types::DataType::Int64 => ColumnData::Int64((first_id..end).collect()),
        _ => {
            let mut texts = TextColumn::default();
            let max = field.max_length().unwrap_or(usize::MAX);
            for id in first_id..end {
                let text = id.to_string();
                if text.len() > max {
                    return Err(Error::invalid(format_args!(
                        "length of varchar field {} exceeds max length: an automatic id has {} characters, max length: \
                         {max}",
                        field.name,
                        text.len()
                    )));
                }
                texts.push(text.as_bytes());
            }
            ColumnData::Text(texts)
        }
    };
    Ok(Column { field: field.id, data, validity: None })
}

/// Refuses keys that are given twice.
///
/// # Errors
/// With Milvus' text.
pub fn check_distinct(keys: &Keys) -> Result<()> {
    let is_distinct = match keys {
        Keys::Int(keys) => {
            let mut keys = keys.clone();
            keys.sort_unstable();
            keys.windows(2).all(|pair| pair[0] != pair[1])
        }
        Keys::Text(keys) => {
            let mut seen = HashSet::with_capacity(keys.len());
            keys.iter().all(|key| seen.insert(key))
        }
    };
    if is_distinct {
        return Ok(());
    }
    Err(Error::invalid("duplicate primary keys are not allowed in the same batch"))
}

/// The rows of a text column.
pub(super) fn text_rows(texts: &TextColumn) -> impl Iterator<Item = &[u8]> {
    texts.offsets.windows(2).map(|pair| texts.bytes.get(pair[0] as usize..pair[1] as usize).unwrap_or_default())
}

/// The keys of a batch.
pub fn batch_keys(schema: &CollectionSchema, batch: &Batch) -> Keys {
    batch_keys_of(batch, schema.primary().id).unwrap_or(Keys::Int(Vec::new()))
}

/// The values of a field that holds keys: the primary key or the partition key.
pub fn batch_keys_of(batch: &Batch, field: FieldId) -> Option<Keys> {
    match &batch.columns.iter().find(|column| column.field == field)?.data {
        ColumnData::Int64(keys) => Some(Keys::Int(keys.clone())),
        ColumnData::Text(texts) => {
            Some(Keys::Text(text_rows(texts).map(|key| String::from_utf8_lossy(key).into_owned()).collect()))
        }
        _ => None,
    }
}

/// Keys as the protocol has them.
pub fn keys_to_wire(keys: &Keys) -> schema::IDs {
    use schema::i_ds::IdField;
    let field = match keys {
        Keys::Int(keys) => IdField::IntId(schema::LongArray { data: keys.clone() }),
        Keys::Text(keys) => IdField::StrId(schema::StringArray { data: keys.clone() }),
    };
    schema::IDs { id_field: Some(field) }
}

/// Keys as we have them; `None` when the oneof is empty.
pub fn keys_from_wire(ids: schema::IDs) -> Option<Keys> {
    use schema::i_ds::IdField;
    Some(match ids.id_field? {
        IdField::IntId(keys) => Keys::Int(keys.data),
        IdField::StrId(keys) => Keys::Text(keys.data),
    })
}

/// Template values of a filter.
///
/// # Errors
/// When a value has no type.
pub fn templates_from_wire(values: std::collections::HashMap<String, schema::TemplateValue>) -> Result<Templates> {
    let mut templates = Templates::default();
    for (name, value) in values {
        let value = template_from_wire(&name, value)?;
        templates.values.insert(name, value);
    }
    Ok(templates)
}

fn template_from_wire(name: &str, value: schema::TemplateValue) -> Result<TemplateValue> {
    use schema::template_value::Val;
    Ok(match value.val {
        Some(Val::BoolVal(value)) => TemplateValue::Bool(value),
        Some(Val::Int64Val(value)) => TemplateValue::Int(value),
        Some(Val::FloatVal(value)) => TemplateValue::Float(value),
        Some(Val::StringVal(value)) => TemplateValue::Text(value),
        Some(Val::ArrayVal(list)) => template_list(name, list, FILTER_DEPTH_MAX)?,
        Some(Val::BytesVal(_)) => return Err(Error::unimplemented(format_args!("template value {name} of bytes"))),
        None => return Err(template_without_type(name)),
    })
}

/// Recursion is bounded by `depth_left` (the decoder stops at 100 messages anyway).
fn template_list(name: &str, list: schema::TemplateArrayValue, depth_left: usize) -> Result<TemplateValue> {
    use schema::template_array_value::Data;
    if depth_left == 0 {
        return Err(Error::invalid(format_args!("template value {name} is nested deeper than {FILTER_DEPTH_MAX}")));
    }
    Ok(TemplateValue::List(match list.data {
        Some(Data::BoolData(values)) => values.data.into_iter().map(TemplateValue::Bool).collect(),
        Some(Data::LongData(values)) => values.data.into_iter().map(TemplateValue::Int).collect(),
        Some(Data::DoubleData(values)) => values.data.into_iter().map(TemplateValue::Float).collect(),
        Some(Data::StringData(values)) => values.data.into_iter().map(TemplateValue::Text).collect(),
        Some(Data::JsonData(values)) => values.data.into_iter().map(TemplateValue::Json).collect(),
        Some(Data::ArrayData(lists)) => {
            lists.data.into_iter().map(|list| template_list(name, list, depth_left - 1)).collect::<Result<_>>()?
        }
        // An empty list has no element to name the type.
        None => Vec::new(),
    }))
}

fn template_without_type(name: &str) -> Error {
    Error::invalid(format_args!("the value of expression template variable name {{{name}}} has no type"))
}

#[cfg(test)]
mod tests;
