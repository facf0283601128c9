//! `Array` of the protocol and ours: a `ScalarField` per row, and the bytes of [`ArrayRow`].

use super::columns::narrow;
use super::rows::{invalid_expected, text_rows};
use super::schema::{self, scalar_field};
use crate::config::limits::{ARRAY_CAPACITY_MAX, BATCH_BYTES_MAX, VARCHAR_BYTES_MAX};
use crate::types::{ArrayRow, DataType, Element, Error, FieldSchema, Result, TextColumn};

/// Bytes of checked rows.
///
/// # Errors
/// With Milvus' texts: elements of another type, too many, too long, out of range.
pub(super) fn encode(field: &FieldSchema, rows: &[schema::ScalarField]) -> Result<Vec<Vec<u8>>> {
    let capacity = field.max_capacity().unwrap_or(ARRAY_CAPACITY_MAX);
    let mut total_bytes = 0;
    let mut encoded = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let count = element_count(row);
        if count > capacity {
            return Err(invalid_expected(
                format_args!("the length ({count}) of {index}th array exceeds max capacity ({capacity})"),
                "valid length array",
                "array length exceeds max capacity",
            ));
        }
        let bytes = encode_row(field, index, row)?;
        total_bytes += bytes.len();
        // Small numbers take a byte in a request and up to eight in a row.
        if total_bytes > BATCH_BYTES_MAX {
            return Err(Error::invalid(format_args!(
                "the arrays of field {} need more than {BATCH_BYTES_MAX} bytes of memory; send fewer rows per request",
                field.name
            )));
        }
        encoded.push(bytes);
    }
    Ok(encoded)
}

fn element_count(row: &schema::ScalarField) -> usize {
    use scalar_field::Data;
    match &row.data {
        Some(Data::BoolData(values)) => values.data.len(),
        Some(Data::IntData(values)) => values.data.len(),
        Some(Data::LongData(values)) => values.data.len(),
        Some(Data::FloatData(values)) => values.data.len(),
        Some(Data::DoubleData(values)) => values.data.len(),
        Some(Data::StringData(values)) => values.data.len(),
        _ => 0,
    }
}

fn encode_row(field: &FieldSchema, index: usize, row: &schema::ScalarField) -> Result<Vec<u8>> {
    use scalar_field::Data;
    let element_type = field.element_type.unwrap_or(DataType::Int64);
    Ok(match (element_type, &row.data) {
        (DataType::Bool, Some(Data::BoolData(values))) => values.data.iter().map(|value| u8::from(*value)).collect(),
        (DataType::Int8, Some(Data::IntData(values))) => {
            bytemuck::cast_slice(&narrow::<i8>(values.data.clone())?).to_vec()
        }
        (DataType::Int16, Some(Data::IntData(values))) => {
            little_endian(narrow::<i16>(values.data.clone())?, i16::to_le_bytes)
        }
        (DataType::Int32, Some(Data::IntData(values))) => little_endian(values.data.iter().copied(), i32::to_le_bytes),
        (DataType::Int64, Some(Data::LongData(values))) => little_endian(values.data.iter().copied(), i64::to_le_bytes),
        (DataType::Float, Some(Data::FloatData(values))) => {
            little_endian(values.data.iter().copied(), f32::to_le_bytes)
        }
        (DataType::Double, Some(Data::DoubleData(values))) => {
            little_endian(values.data.iter().copied(), f64::to_le_bytes)
        }
        (DataType::VarChar, Some(Data::StringData(values))) => {
            check_lengths(field, index, &values.data)?;
            ArrayRow::encode_texts(&values.data)
        }
        // Some clients do not touch the oneof for a list without elements.
        (element_type, None) => ArrayRow::encode(&[], element_type),
        (element_type, Some(other)) => {
            return Err(invalid_expected(
                "insert data does not match",
                format_args!("{} array", wire_name(element_type)),
                format_args!("{} array", given_name(other)),
            ));
        }
    })
}

fn little_endian<T, const BYTES: usize>(
    values: impl IntoIterator<Item = T>,
    bytes_of: fn(T) -> [u8; BYTES],
) -> Vec<u8> {
    values.into_iter().flat_map(bytes_of).collect()
}

fn check_lengths(field: &FieldSchema, index: usize, values: &[String]) -> Result<()> {
    let max = field.max_length().unwrap_or(VARCHAR_BYTES_MAX);
    let Some((element, value)) = values.iter().enumerate().find(|(_, value)| value.len() > max) else { return Ok(()) };
    Err(Error::invalid(format_args!(
        "length of Array array field \"{}\" exceeds max length, row number: {index}, array index: {element}, length: {}, max \
         length: {max}",
        field.name,
        value.len()
    )))
}

/// What Milvus calls the list of a type in its errors.
fn wire_name(element_type: DataType) -> &'static str {
    match element_type {
        DataType::Bool => "bool",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "int",
        DataType::Int64 => "int64",
        DataType::Float => "float",
        DataType::Double => "double",
        _ => "string",
    }
}

fn given_name(data: &scalar_field::Data) -> &'static str {
    use scalar_field::Data;
    match data {
        Data::BoolData(_) => "*schemapb.ScalarField_BoolData",
        Data::IntData(_) => "*schemapb.ScalarField_IntData",
        Data::LongData(_) => "*schemapb.ScalarField_LongData",
        Data::FloatData(_) => "*schemapb.ScalarField_FloatData",
        Data::DoubleData(_) => "*schemapb.ScalarField_DoubleData",
        Data::StringData(_) => "*schemapb.ScalarField_StringData",
        _ => "*schemapb.ScalarField",
    }
}

/// Rows as a reply carries them; a null row is an empty list.
pub(super) fn to_wire(field: &FieldSchema, texts: &TextColumn) -> scalar_field::Data {
    let element_type = field.element_type.unwrap_or(DataType::Int64);
    let data = text_rows(texts).map(|bytes| row_to_wire(ArrayRow::new(bytes, element_type), element_type)).collect();
    scalar_field::Data::ArrayData(schema::ArrayArray { data, element_type: element_type as i32 })
}

fn row_to_wire(row: ArrayRow<'_>, element_type: DataType) -> schema::ScalarField {
    use scalar_field::Data;
    let int = |element| if let Element::Int(value) = element { value } else { 0 };
    let float = |element| if let Element::Float(value) = element { value } else { 0.0 };
    let data = match element_type {
        DataType::Bool => Data::BoolData(schema::BoolArray {
            data: row.iter().map(|element| element == Element::Bool(true)).collect(),
        }),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => {
            Data::IntData(schema::IntArray { data: row.iter().map(|element| int(element) as i32).collect() })
        }
        DataType::Float => {
            Data::FloatData(schema::FloatArray { data: row.iter().map(|element| float(element) as f32).collect() })
        }
        DataType::Double => Data::DoubleData(schema::DoubleArray { data: row.iter().map(float).collect() }),
        DataType::VarChar => Data::StringData(schema::StringArray {
            data: row
                .iter()
                .map(|element| match element {
                    Element::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    _ => String::new(),
                })
                .collect(),
        }),
        _ => Data::LongData(schema::LongArray { data: row.iter().map(int).collect() }),
    };
    schema::ScalarField { data: Some(data) }
}
