//! A small table whose rows are written as JSON, seen by the evaluator as columns of either form.

use serde_json::{Map, Value as Json};

use crate::filter::{FilterError, Plan, Rows, TemplateValue, Templates};
use crate::types::{
    ArrayRow, Bitmap, CollectionSchema, ColumnView, DataType, FieldId, FieldSchema, Nulls, Validity, Value, ValueRange,
    Values,
};

/// How columns lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Arrow: bits, beginning at this bit.
    Sealed(usize),
    /// Growing files: a byte per row.
    Growing,
}

pub(super) fn field(id: i64, name: &str, data_type: DataType) -> FieldSchema {
    FieldSchema { is_nullable: true, ..FieldSchema::new(FieldId(id), name, data_type) }
}

fn array(id: i64, name: &str, element_type: DataType) -> FieldSchema {
    FieldSchema { element_type: Some(element_type), ..field(id, name, DataType::Array) }
}

/// One field of every kind, with dynamic fields.
pub(super) fn schema() -> CollectionSchema {
    let mut fields = vec![
        FieldSchema { is_primary: true, is_nullable: false, ..field(100, "id", DataType::Int64) },
        field(101, "b", DataType::Bool),
        field(102, "i8", DataType::Int8),
        field(103, "i16", DataType::Int16),
        field(104, "i32", DataType::Int32),
        field(105, "i64", DataType::Int64),
        field(106, "f", DataType::Float),
        field(107, "d", DataType::Double),
        field(108, "s", DataType::VarChar),
        field(109, "j", DataType::Json),
        field(110, "ts", DataType::Timestamptz),
        field(111, "vec", DataType::FloatVector),
        array(112, "ai", DataType::Int64),
        array(113, "at", DataType::VarChar),
        array(114, "af", DataType::Float),
        FieldSchema { default_value: Some(Value::Int(7)), ..field(115, "late", DataType::Int32) },
        field(116, "t", DataType::VarChar),
        array(118, "ab", DataType::Bool),
        array(119, "a16", DataType::Int16),
        array(120, "ad", DataType::Double),
    ];
    fields.push(FieldSchema { is_dynamic: true, ..field(117, "$meta", DataType::Json) });
    CollectionSchema { description: String::new(), fields, enable_dynamic_field: true, version: 1 }
}

/// The same without dynamic fields.
pub(super) fn strict_schema() -> CollectionSchema {
    let mut schema = schema();
    schema.fields.retain(|field| !field.is_dynamic);
    schema.enable_dynamic_field = false;
    schema
}

enum Buffer {
    Bool(Vec<u8>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Vec<i32>, Vec<u8>),
}

/// Rows as columns.
pub(super) struct Table {
    row_count: usize,
    form: Form,
    columns: Vec<(FieldId, Buffer, Vec<u8>)>,
    pub(super) known: Vec<(FieldId, Nulls, Option<ValueRange>)>,
}

impl Table {
    /// Columns of every field that `missing` does not name; a key a row has not is null.
    pub(super) fn new(schema: &CollectionSchema, rows: &[Map<String, Json>], form: Form, missing: &[&str]) -> Table {
        let fields = schema.fields.iter().filter(|field| !field.data_type.is_vector());
        let columns = fields
            .filter(|field| !missing.contains(&field.name.as_str()))
            .map(|field| {
                let cells: Vec<&Json> = rows.iter().map(|row| row.get(&field.name).unwrap_or(&Json::Null)).collect();
                let validity: Vec<bool> = cells.iter().map(|cell| !cell.is_null()).collect();
                (field.id, buffer(field, &cells, form), flags(&validity, form))
            })
            .collect();
        Table { row_count: rows.len(), form, columns, known: Vec::new() }
    }

    /// The rows that match.
    pub(super) fn matches(&self, plan: &Plan) -> Bitmap {
        let bitmap = plan.evaluate(self);
        assert_eq!(bitmap.row_count(), self.row_count);
        let mut cut = bitmap.clone();
        cut.clear_tail();
        assert_eq!(bitmap, cut, "bits past the end are 0");
        bitmap
    }
}

fn flags(flags: &[bool], form: Form) -> Vec<u8> {
    match form {
        Form::Growing => flags.iter().map(|flag| u8::from(*flag)).collect(),
        Form::Sealed(offset) => {
            let mut bits = vec![0u8; (offset + flags.len()).div_ceil(8)];
            for (row, flag) in flags.iter().enumerate() {
                bits[(offset + row) / 8] |= u8::from(*flag) << ((offset + row) % 8);
            }
            bits
        }
    }
}

fn buffer(field: &FieldSchema, cells: &[&Json], form: Form) -> Buffer {
    let int = |cell: &&Json| cell.as_i64().unwrap_or_default();
    let float = |cell: &&Json| cell.as_f64().unwrap_or_default();
    match field.data_type {
        DataType::Bool => {
            Buffer::Bool(flags(&cells.iter().map(|cell| cell.as_bool() == Some(true)).collect::<Vec<_>>(), form))
        }
        DataType::Int8 => Buffer::Int8(cells.iter().map(|cell| int(cell) as i8).collect()),
        DataType::Int16 => Buffer::Int16(cells.iter().map(|cell| int(cell) as i16).collect()),
        DataType::Int32 => Buffer::Int32(cells.iter().map(|cell| int(cell) as i32).collect()),
        DataType::Float => Buffer::Float(cells.iter().map(|cell| float(cell) as f32).collect()),
        DataType::Double => Buffer::Double(cells.iter().map(float).collect()),
        DataType::VarChar | DataType::Json | DataType::Array => {
            let (mut offsets, mut bytes) = (vec![0], Vec::new());
            for cell in cells {
                match (field.data_type, field.element_type, cell) {
                    (DataType::Array, Some(element_type), Json::Array(elements)) => {
                        let elements: Vec<Value> = elements.iter().map(value).collect();
                        bytes.extend(ArrayRow::encode(&elements, element_type));
                    }
                    (DataType::Json, _, cell) if !cell.is_null() => bytes.extend(cell.to_string().into_bytes()),
                    (_, _, cell) => bytes.extend_from_slice(cell.as_str().unwrap_or_default().as_bytes()),
                }
                offsets.push(bytes.len() as i32);
            }
            Buffer::Text(offsets, bytes)
        }
        _ => Buffer::Int64(cells.iter().map(int).collect()),
    }
}

fn value(element: &Json) -> Value {
    match element {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) if number.is_i64() => Value::Int(number.as_i64().unwrap()),
        Json::Number(number) => Value::Float(number.as_f64().unwrap()),
        Json::String(text) => Value::Text(text.clone()),
        _ => Value::Null,
    }
}

impl Rows for Table {
    fn row_count(&self) -> usize {
        self.row_count
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let (_, buffer, validity) = self.columns.iter().find(|(id, ..)| *id == field.id)?;
        let values = match (buffer, self.form) {
            (Buffer::Bool(bytes), Form::Growing) => Values::BoolBytes(bytes),
            (Buffer::Bool(bits), Form::Sealed(offset)) => Values::BoolBits { bits, offset },
            (Buffer::Int8(values), _) => Values::Int8(values),
            (Buffer::Int16(values), _) => Values::Int16(values),
            (Buffer::Int32(values), _) => Values::Int32(values),
            (Buffer::Int64(values), _) => Values::Int64(values),
            (Buffer::Float(values), _) => Values::Float(values),
            (Buffer::Double(values), _) => Values::Double(values),
            (Buffer::Text(offsets, bytes), _) => Values::Text { offsets, bytes },
        };
        let validity = match self.form {
            _ if field.is_primary => Validity::All,
            Form::Growing => Validity::Bytes(validity),
            Form::Sealed(offset) => Validity::Bits { bits: validity, offset },
        };
        Some(ColumnView { values, validity })
    }

    fn known(&self, field: FieldId) -> Option<(Nulls, Option<&ValueRange>)> {
        self.known.iter().find(|(id, ..)| *id == field).map(|(_, nulls, range)| (*nulls, range.as_ref()))
    }
}

/// JSON objects as rows.
pub(super) fn rows(rows: Json) -> Vec<Map<String, Json>> {
    let Json::Array(rows) = rows else { panic!("an array of rows") };
    rows.into_iter().map(|row| if let Json::Object(row) = row { row } else { panic!("a row") }).collect()
}

pub(super) fn templates(values: &[(&str, TemplateValue)]) -> Templates {
    Templates {
        values: values.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect(),
        ..Templates::default()
    }
}

/// A plan over [`schema`] without templates.
pub(super) fn plan(text: &str) -> Result<Plan, FilterError> {
    Plan::new(text, &schema(), &Templates::default())
}

/// The whole message of a filter that is refused.
pub(super) fn message(text: &str) -> String {
    match plan(text) {
        Ok(_) => panic!("`{text}` was taken"),
        Err(error) => error.query_plan_message(text),
    }
}
