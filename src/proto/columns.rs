//! One column of the protocol and ours: `FieldData` to `Column` with the checks of its values, and back.

use std::collections::HashSet;

use super::arrays;
use super::instants::InstantStyle;
use super::json::{check_document, check_dynamic};
use super::rows::{invalid_expected, missing_field, not_a_number, text_rows};
use super::schema::{self, field_data, scalar_field, vector_field};
use crate::config::limits::VARCHAR_BYTES_MAX;
use crate::types::{Column, ColumnData, DataType, Error, FieldSchema, Result, TextColumn, Value, Zone};

/// A column that the request gives. `taken` are the names that no dynamic key may have.
pub(super) fn column_from_wire(
    field: &FieldSchema,
    wire: schema::FieldData,
    row_count: usize,
    taken: &HashSet<&str>,
) -> Result<Column> {
    let rows = GivenRows { field, row_count, valid: wire.valid_data };
    rows.check_valid()?;
    let (data, validity) = match wire.field {
        Some(field_data::Field::Vectors(vectors)) if field.data_type.is_vector() => rows.vectors(vectors)?,
        Some(field_data::Field::Scalars(scalars)) if !field.data_type.is_vector() => {
            rows.scalars(scalars.data, taken)?
        }
        // A client that appended no value at all (every row null) never touched the oneof.
        None if rows.is_all_null() && field.data_type.is_vector() => rows.no_vectors(),
        None if rows.is_all_null() => rows.scalars(None, taken)?,
        _ => return Err(type_mismatch(field)),
    };
    Ok(Column { field: field.id, data, validity })
}

/// A column of arrays that a request gives, by itself.
///
/// # Errors
/// With Milvus' texts.
pub fn array_column(field: &FieldSchema, wire: schema::FieldData, row_count: usize) -> Result<Column> {
    column_from_wire(field, wire, row_count, &HashSet::new())
}

/// A column that the request leaves out: defaults, else nulls.
///
/// # Errors
/// When the field must be given.
pub(super) fn filled_column(field: &FieldSchema, row_count: usize) -> Result<Column> {
    if !(field.is_nullable || field.default_value.is_some() || field.is_dynamic) {
        return Err(missing_field(&field.name));
    }
    let rows = GivenRows { field, row_count, valid: vec![false; row_count] };
    let (data, validity) =
        if field.data_type.is_vector() { rows.no_vectors() } else { rows.scalars(None, &HashSet::new())? };
    Ok(Column { field: field.id, data, validity })
}

/// What is said of a column besides its values.
pub(super) struct GivenRows<'a> {
    pub(super) field: &'a FieldSchema,
    pub(super) row_count: usize,
    /// Empty = every row holds a value.
    pub(super) valid: Vec<bool>,
}

/// Values, and which rows hold one.
type Filled<T> = (Vec<T>, Option<Vec<bool>>);

impl GivenRows<'_> {
    fn check_valid(&self) -> Result<()> {
        let is_wrong_length = !self.valid.is_empty() && self.valid.len() != self.row_count;
        if is_wrong_length {
            return Err(invalid_expected(
                format_args!("the length of valid_data of field({}) is wrong", self.field.name),
                self.row_count,
                self.valid.len(),
            ));
        }
        let takes_null = self.field.is_nullable || self.field.default_value.is_some() || self.field.is_dynamic;
        if !takes_null && self.valid.contains(&false) {
            return Err(Error::invalid(format_args!("field {} holds null but is not nullable", self.field.name)));
        }
        Ok(())
    }

    fn scalars(
        &self,
        data: Option<scalar_field::Data>,
        taken: &HashSet<&str>,
    ) -> Result<(ColumnData, Option<Vec<bool>>)> {
        use scalar_field::Data;
        let default = self.field.default_value.as_ref();
        let name = &self.field.name;
        macro_rules! spread {
            ($variant:ident, $values:expr, $default:expr) => {{
                let (values, validity) = self.spread($values, $default)?;
                (ColumnData::$variant(values), validity)
            }};
        }
        macro_rules! values {
            ($variant:ident) => {
                match data {
                    Some(Data::$variant(values)) => values.data,
                    None if !self.valid.is_empty() => Vec::new(),
                    _ => return Err(type_mismatch(self.field)),
                }
            };
        }
        Ok(match self.field.data_type {
            DataType::Bool => spread!(Bool, values!(BoolData), bool_of(default)),
            DataType::Int8 => spread!(Int8, narrow::<i8>(values!(IntData))?, int_of(default)),
            DataType::Int16 => spread!(Int16, narrow::<i16>(values!(IntData))?, int_of(default)),
            DataType::Int32 => spread!(Int32, values!(IntData), int_of(default)),
            DataType::Int64 => spread!(Int64, values!(LongData), int_of(default)),
            DataType::Float => spread!(Float, finite_f32(values!(FloatData))?, float_of(default).map(|v| v as f32)),
            DataType::Double => spread!(Double, finite_f64(values!(DoubleData))?, float_of(default)),
            DataType::VarChar => {
                let values = values!(StringData);
                self.check_lengths(&values)?;
                self.texts(&values, text_of(default))?
            }
            DataType::Json if self.field.is_dynamic => {
                let values = values!(JsonData);
                self.valid_values(&values).try_for_each(|(row, document)| check_dynamic(row, document, taken))?;
                self.texts(&values, Some("{}"))?
            }
            DataType::Timestamptz => spread!(Int64, self.instants(data)?, int_of(default)),
            DataType::Array => {
                let rows = values!(ArrayData);
                self.check_count(rows.len())?;
                self.texts(&arrays::encode(self.field, &rows)?, None)?
            }
            DataType::Json => {
                let values = values!(JsonData);
                self.valid_values(&values).try_for_each(|(row, document)| check_document(name, row, document))?;
                self.texts(&values, text_of(default))?
            }
            other => return Err(Error::unimplemented(format_args!("data type {}", other.name()))),
        })
    }

    /// Full-width values: compact ones go to the rows that hold one, the others get the default, else a placeholder and
    /// a null flag.
    fn spread<T: Copy + Default>(&self, values: Vec<T>, default: Option<T>) -> Result<Filled<T>> {
        let valid_count = self.check_count(values.len())?;
        if valid_count == self.row_count {
            return Ok((values, None));
        }
        let fill = default.unwrap_or_default();
        let is_compact = values.len() == valid_count;
        let mut compact = values.iter();
        let full = self
            .valid
            .iter()
            .enumerate()
            .map(|(row, is_valid)| match (is_valid, is_compact) {
                (true, true) => compact.next().copied().unwrap_or(fill),
                (true, false) => values[row],
                (false, _) => fill,
            })
            .collect();
        Ok((full, default.is_none().then(|| self.valid.clone())))
    }

    fn texts<T: AsRef<[u8]>>(&self, values: &[T], default: Option<&str>) -> Result<(ColumnData, Option<Vec<bool>>)> {
        let valid_count = self.check_count(values.len())?;
        let mut texts = TextColumn {
            offsets: Vec::with_capacity(self.row_count + 1),
            bytes: Vec::with_capacity(values.iter().map(|value| value.as_ref().len()).sum()),
        };
        texts.offsets.push(0);
        if valid_count == self.row_count {
            values.iter().for_each(|value| texts.push(value.as_ref()));
            return Ok((ColumnData::Text(texts), None));
        }
        let fill = default.unwrap_or_default().as_bytes();
        let is_compact = values.len() == valid_count;
        let mut compact = values.iter();
        for (row, is_valid) in self.valid.iter().enumerate() {
            texts.push(match (is_valid, is_compact) {
                (true, true) => compact.next().map_or(fill, |value| value.as_ref()),
                (true, false) => values[row].as_ref(),
                (false, _) => fill,
            });
        }
        Ok((ColumnData::Text(texts), default.is_none().then(|| self.valid.clone())))
    }

    /// The values that are looked at, with their places: what stands at a null row of full-width values is not.
    fn valid_values<'v, T>(&self, values: &'v [T]) -> impl Iterator<Item = (usize, &'v T)> {
        let is_aligned = values.len() == self.valid.len();
        values.iter().enumerate().filter(move |(row, _)| !is_aligned || self.valid[*row])
    }

    /// Checks that the values are one per row or one per row that holds one; returns how many rows hold one.
    pub(super) fn check_count(&self, value_count: usize) -> Result<usize> {
        let valid_count = match self.valid.is_empty() {
            true => self.row_count,
            false => self.valid.iter().filter(|is_valid| **is_valid).count(),
        };
        if value_count == self.row_count || value_count == valid_count {
            return Ok(valid_count);
        }
        Err(self.wrong_count(value_count))
    }

    fn wrong_count(&self, value_count: usize) -> Error {
        let (name, row_count) = (&self.field.name, self.row_count);
        invalid_expected(
            format_args!(
                "the num_rows ({value_count}) of field ({name}) is not equal to passed num_rows ({row_count})"
            ),
            row_count,
            value_count,
        )
    }

    /// Timestamps: text of clients, numbers of the log (see [`super::instants`]).
    fn instants(&self, data: Option<scalar_field::Data>) -> Result<Vec<i64>> {
        match data {
            Some(scalar_field::Data::StringData(texts)) => super::instants::read(&texts.data, &Zone::UTC),
            Some(scalar_field::Data::TimestamptzData(instants)) => Ok(instants.data),
            None if !self.valid.is_empty() => Ok(Vec::new()),
            _ => Err(Error::invalid("timestamptz field data must be a string array")),
        }
    }

    fn check_lengths(&self, values: &[String]) -> Result<()> {
        let max = self.field.max_length().unwrap_or(VARCHAR_BYTES_MAX);
        let Some((row, value)) = values.iter().enumerate().find(|(_, value)| value.len() > max) else { return Ok(()) };
        Err(invalid_expected(
            format_args!(
                "length of varchar field {} exceeds max length, row number: {row}, length: {}, max length: {max}",
                self.field.name,
                value.len()
            ),
            "valid length string",
            "string length exceeds max length",
        ))
    }
}

/// Values in range of a smaller type.
pub(super) fn narrow<T: TryFrom<i32> + Bounds>(values: Vec<i32>) -> Result<Vec<T>> {
    values
        .into_iter()
        .enumerate()
        .map(|(row, value)| {
            T::try_from(value).map_err(|_| {
                let (min, max) = T::BOUNDS;
                Error::invalid(format_args!("the {row}th element ({value}) out of range: [{min}, {max}]"))
            })
        })
        .collect()
}

/// Smallest and largest value of an integer type.
pub(super) trait Bounds {
    const BOUNDS: (i32, i32);
}
impl Bounds for i8 {
    const BOUNDS: (i32, i32) = (i8::MIN as i32, i8::MAX as i32);
}
impl Bounds for i16 {
    const BOUNDS: (i32, i32) = (i16::MIN as i32, i16::MAX as i32);
}

/// One pass without branches; only a batch that fails is looked at value by value. Infinity and NaN have every exponent
/// bit set.
pub(super) fn finite_f32(values: Vec<f32>) -> Result<Vec<f32>> {
    const EXPONENT: u32 = 0x7f80_0000;
    let any = values.iter().fold(0, |any, value| any | u32::from(value.to_bits() & EXPONENT == EXPONENT));
    match values.iter().find(|value| any != 0 && !value.is_finite()) {
        Some(value) => Err(not_a_number(f64::from(*value))),
        None => Ok(values),
    }
}

fn finite_f64(values: Vec<f64>) -> Result<Vec<f64>> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(not_a_number(*value)),
        None => Ok(values),
    }
}

fn bool_of(value: Option<&Value>) -> Option<bool> {
    value.and_then(|value| match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    })
}

/// The default was checked against the type's range when the field was made.
fn int_of<T: TryFrom<i64>>(value: Option<&Value>) -> Option<T> {
    value.and_then(|value| match value {
        Value::Int(value) => T::try_from(*value).ok(),
        _ => None,
    })
}

fn float_of(value: Option<&Value>) -> Option<f64> {
    value.and_then(|value| match value {
        Value::Float(value) => Some(*value),
        _ => None,
    })
}

fn text_of(value: Option<&Value>) -> Option<&str> {
    value.and_then(|value| match value {
        Value::Text(value) => Some(value.as_str()),
        _ => None,
    })
}

pub(super) fn type_mismatch(field: &FieldSchema) -> Error {
    let (kind, needed) = match field.data_type {
        DataType::Bool => ("field", "need bool array"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => ("field", "need int array"),
        DataType::Int64 => ("field", "need long array"),
        DataType::Float => ("field", "need float array"),
        DataType::Double => ("field", "need double array"),
        DataType::VarChar => ("varchar field", "need string array"),
        DataType::Json => ("json field", "need json array"),
        DataType::Array => {
            let element = field.element_type.map_or("None", DataType::name);
            return invalid_expected(
                format_args!("array field '{}' is illegal, array type mismatch", field.name),
                format_args!("need {element} array"),
                "got nil",
            );
        }
        DataType::FloatVector => ("float vector field", "need float vector"),
        DataType::Float16Vector => ("float16 vector field", "need float16 vector"),
        DataType::BFloat16Vector => ("bfloat16 vector field", "need bfloat16 vector"),
        DataType::BinaryVector => ("binary vector field", "need binary vector"),
        DataType::Int8Vector => ("int8 vector field", "need int8 vector"),
        _ => ("field", "need data of the field's type"),
    };
    invalid_expected(format_args!("{kind} '{}' is illegal, array type mismatch", field.name), needed, "got nil")
}

/// A column as a reply carries it: scalars row-aligned with `valid_data`, vectors compact, the oneof set also when empty.
pub fn column_into_wire(field: &FieldSchema, column: Column, style: &InstantStyle) -> schema::FieldData {
    let row_count = column_rows(field, &column.data);
    let validity = column.validity;
    let mut data_type = field.data_type;
    let wire = match column.data {
        ColumnData::FloatVector(values) => {
            let values = compact(values, field.dim(), validity.as_deref());
            vectors_to_wire(field, vector_field::Data::FloatVector(schema::FloatArray { data: values }))
        }
        ColumnData::BytesVector(bytes) => {
            let bytes = compact(bytes, field.row_bytes().unwrap_or(0), validity.as_deref());
            vectors_to_wire(field, byte_vectors(field.data_type, bytes))
        }
        ColumnData::Int64(instants) if data_type == DataType::Timestamptz => {
            let data;
            (data_type, data) = style.to_wire(&instants, validity.as_deref());
            field_data::Field::Scalars(schema::ScalarField { data: Some(data) })
        }
        scalars => field_data::Field::Scalars(schema::ScalarField { data: Some(scalars_to_wire(field, scalars)) }),
    };
    schema::FieldData {
        r#type: data_type as i32,
        field_name: field.name.clone(),
        field: Some(wire),
        field_id: field.id.0,
        is_dynamic: field.is_dynamic,
        valid_data: validity.or_else(|| field.is_nullable.then(|| vec![true; row_count])).unwrap_or_default(),
    }
}

fn vectors_to_wire(field: &FieldSchema, data: vector_field::Data) -> field_data::Field {
    field_data::Field::Vectors(schema::VectorField { dim: field.dim() as i64, data: Some(data) })
}

fn byte_vectors(data_type: DataType, bytes: Vec<u8>) -> vector_field::Data {
    match data_type {
        DataType::Float16Vector => vector_field::Data::Float16Vector(bytes),
        DataType::BFloat16Vector => vector_field::Data::Bfloat16Vector(bytes),
        DataType::Int8Vector => vector_field::Data::Int8Vector(bytes),
        _ => vector_field::Data::BinaryVector(bytes),
    }
}

/// Drops the null rows of a column of `width` values per row.
fn compact<T: Copy>(values: Vec<T>, width: usize, validity: Option<&[bool]>) -> Vec<T> {
    match validity {
        None => values,
        Some(_) if width == 0 => values,
        Some(validity) => values
            .chunks_exact(width)
            .zip(validity)
            .filter(|(_, is_valid)| **is_valid)
            .flat_map(|(row, _)| row)
            .copied()
            .collect(),
    }
}

fn column_rows(field: &FieldSchema, data: &ColumnData) -> usize {
    match data {
        ColumnData::Bool(values) => values.len(),
        ColumnData::Int8(values) => values.len(),
        ColumnData::Int16(values) => values.len(),
        ColumnData::Int32(values) => values.len(),
        ColumnData::Int64(values) => values.len(),
        ColumnData::Float(values) => values.len(),
        ColumnData::Double(values) => values.len(),
        ColumnData::Text(texts) => texts.row_count(),
        ColumnData::FloatVector(values) => values.len() / field.dim().max(1),
        ColumnData::BytesVector(bytes) => bytes.len() / field.row_bytes().unwrap_or(1).max(1),
    }
}

fn scalars_to_wire(field: &FieldSchema, data: ColumnData) -> scalar_field::Data {
    use scalar_field::Data;
    match data {
        ColumnData::Bool(data) => Data::BoolData(schema::BoolArray { data }),
        ColumnData::Int8(values) => ints_to_wire(values),
        ColumnData::Int16(values) => ints_to_wire(values),
        ColumnData::Int32(data) => Data::IntData(schema::IntArray { data }),
        ColumnData::Int64(data) => Data::LongData(schema::LongArray { data }),
        ColumnData::Float(data) => Data::FloatData(schema::FloatArray { data }),
        ColumnData::Double(data) => Data::DoubleData(schema::DoubleArray { data }),
        ColumnData::Text(texts) if field.data_type == DataType::Json => {
            Data::JsonData(schema::JsonArray { data: text_rows(&texts).map(<[u8]>::to_vec).collect() })
        }
        ColumnData::Text(texts) if field.data_type == DataType::Array => arrays::to_wire(field, &texts),
        ColumnData::Text(texts) => Data::StringData(schema::StringArray {
            data: text_rows(&texts).map(|text| String::from_utf8_lossy(text).into_owned()).collect(),
        }),
        ColumnData::FloatVector(data) => Data::FloatData(schema::FloatArray { data }),
        ColumnData::BytesVector(bytes) => Data::BytesData(schema::BytesArray { data: vec![bytes] }),
    }
}

fn ints_to_wire<T: Into<i32>>(values: Vec<T>) -> scalar_field::Data {
    scalar_field::Data::IntData(schema::IntArray { data: values.into_iter().map(Into::into).collect() })
}
