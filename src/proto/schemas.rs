//! Schemas of the protocol and ours, with every check of CreateCollection.

use super::rows::{invalid_expected, not_a_number};
use super::schema::{self, value_field};
use super::status::{pairs_from_wire, pairs_to_wire};
use crate::config::limits::{ARRAY_CAPACITY_MAX, DIM_MAX, DIM_MIN, FIELDS_MAX, VARCHAR_BYTES_MAX, VECTOR_FIELDS_MAX};
use crate::types::{
    CollectionSchema, DataType, Error, ErrorKind, FieldId, FieldSchema, Metric, Result, Value, Zone, parse_instant,
};

pub use super::names::{NameOf, check_name};

/// The id of a collection's first field; Milvus' hidden row id and timestamp have those below.
pub const FIRST_FIELD_ID: i64 = 100;
/// The name of the field that holds what is no field.
pub const DYNAMIC_FIELD: &str = "$meta";

/// A checked schema with field ids from 100 on, `$meta` appended when dynamic fields are on.
///
/// # Errors
/// With Milvus' texts: names, types, dimensions, lengths, keys, defaults, counts. A type this server does not store yet is
/// refused by name.
pub fn schema_from_wire(
    collection_name: &str,
    wire: schema::CollectionSchema,
    zone: &Zone,
) -> Result<CollectionSchema> {
    refuse_unsupported(&wire)?;
    if wire.fields.len() > FIELDS_MAX {
        return Err(unexpected(format!("maximum field's number should be limited to {FIELDS_MAX}")));
    }
    let auto_id = wire.auto_id;
    let mut fields = Vec::with_capacity(wire.fields.len() + 1);
    for (id, mut field) in (FIRST_FIELD_ID..).zip(wire.fields) {
        field.auto_id |= auto_id && field.is_primary_key;
        fields.push(field_from_wire(collection_name, field, FieldId(id), zone)?);
    }
    check_fields(&fields)?;
    if wire.enable_dynamic_field {
        fields.push(dynamic_field(FieldId(FIRST_FIELD_ID + fields.len() as i64)));
    }
    Ok(CollectionSchema {
        description: wire.description,
        fields,
        enable_dynamic_field: wire.enable_dynamic_field,
        version: 1,
    })
}

/// A checked field that is added to a collection which may have rows: nullable, no key.
///
/// # Errors
/// With Milvus' texts, as [`schema_from_wire`].
pub fn added_field_from_wire(
    collection_name: &str,
    schema: &CollectionSchema,
    wire: schema::FieldSchema,
    id: FieldId,
    zone: &Zone,
) -> Result<FieldSchema> {
    let name = wire.name.clone();
    if wire.is_primary_key {
        return Err(Error::invalid(format_args!("not support to add pk field, field name = {name}")));
    }
    if wire.is_partition_key {
        return Err(Error::invalid(format_args!("not support to add partition key field, field name  = {name}")));
    }
    if wire.auto_id {
        return Err(Error::invalid(format_args!(
            "only primary field can speficy AutoID with true, field name = {name}"
        )));
    }
    if !wire.nullable {
        return Err(Error::invalid(format_args!("added field must be nullable, please check it, field name = {name}")));
    }
    if schema.fields.iter().filter(|field| !field.is_dynamic).count() >= FIELDS_MAX {
        return Err(Error::invalid(format_args!("The number of fields has reached the maximum value {FIELDS_MAX}")));
    }
    let field = field_from_wire(collection_name, wire, id, zone)?;
    if field.data_type.is_vector() && schema.vector_fields().count() >= VECTOR_FIELDS_MAX {
        return Err(unexpected(format!("maximum vector field's number should be limited to {VECTOR_FIELDS_MAX}")));
    }
    if schema.field(&name).is_some() {
        return Err(Error::invalid(format_args!("duplicated field name {name}")));
    }
    Ok(field)
}

/// The `$meta` field.
pub fn dynamic_field(id: FieldId) -> FieldSchema {
    FieldSchema {
        description: "dynamic schema".to_owned(),
        is_dynamic: true,
        ..FieldSchema::new(id, DYNAMIC_FIELD, DataType::Json)
    }
}

/// The schema as DescribeCollection answers it: `$meta` is left out, timestamps are of the zone.
pub fn schema_to_wire(collection_name: &str, schema: &CollectionSchema, zone: &Zone) -> schema::CollectionSchema {
    schema::CollectionSchema {
        name: collection_name.to_owned(),
        description: schema.description.clone(),
        fields: schema
            .fields
            .iter()
            .filter(|field| !field.is_dynamic)
            .map(|field| field_to_wire(field, zone))
            .collect(),
        enable_dynamic_field: schema.enable_dynamic_field,
        version: i32::try_from(schema.version).unwrap_or(i32::MAX),
        ..Default::default()
    }
}

/// A field as DescribeCollection answers it.
pub fn field_to_wire(field: &FieldSchema, zone: &Zone) -> schema::FieldSchema {
    schema::FieldSchema {
        field_id: field.id.0,
        name: field.name.clone(),
        is_primary_key: field.is_primary,
        description: field.description.clone(),
        data_type: field.data_type as i32,
        type_params: pairs_to_wire(&field.type_params),
        auto_id: field.auto_id,
        element_type: field.element_type.map_or(0, |element| element as i32),
        default_value: field.default_value.as_ref().and_then(|value| default_to_wire(field.data_type, value, zone)),
        is_dynamic: field.is_dynamic,
        is_partition_key: field.is_partition_key,
        is_clustering_key: field.is_clustering_key,
        nullable: field.is_nullable,
        is_function_output: field.is_function_output,
        ..Default::default()
    }
}

fn unexpected(message: String) -> Error {
    Error::new(ErrorKind::Unexpected, message)
}

fn refuse_unsupported(wire: &schema::CollectionSchema) -> Result<()> {
    if let Some(function) = wire.functions.first() {
        return Err(Error::unimplemented(format_args!("function {} of a collection", function.name)));
    }
    if let Some(structs) = wire.struct_array_fields.first() {
        return Err(Error::unimplemented(format_args!("struct array field {}", structs.name)));
    }
    if !wire.external_source.is_empty() || !wire.external_spec.is_empty() {
        return Err(Error::unimplemented("a collection over an external source"));
    }
    if wire.enable_namespace {
        return Err(Error::unimplemented("a collection with namespaces"));
    }
    Ok(())
}

/// The checks that look at all fields together.
fn check_fields(fields: &[FieldSchema]) -> Result<()> {
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|former| former.name == field.name) {
            return Err(Error::invalid(format_args!("duplicated field name {}", field.name)));
        }
    }
    let mut primary = fields.iter().filter(|field| field.is_primary);
    let Some(first) = primary.next() else {
        return Err(Error::new(ErrorKind::MissingParameter, "primary key is not specified: missing parameter"));
    };
    if let Some(second) = primary.next() {
        return Err(Error::invalid(format_args!(
            "there are more than one primary key, field name = {}, {}",
            first.name, second.name
        )));
    }
    check_partition_key(fields)?;
    match fields.iter().filter(|field| field.data_type.is_vector()).count() {
        0 => Err(Error::invalid("schema does not contain vector field")),
        count if count > VECTOR_FIELDS_MAX => {
            Err(unexpected(format!("maximum vector field's number should be limited to {VECTOR_FIELDS_MAX}")))
        }
        _ => Ok(()),
    }
}

fn check_partition_key(fields: &[FieldSchema]) -> Result<()> {
    let mut keys = fields.iter().filter(|field| field.is_partition_key);
    let Some(first) = keys.next() else { return Ok(()) };
    if let Some(second) = keys.next() {
        return Err(unexpected(format!(
            "there are more than one partition key, field name = {}, {}",
            first.name, second.name
        )));
    }
    if first.is_primary {
        return Err(unexpected("the partition key field must not be primary field".to_owned()));
    }
    if !matches!(first.data_type, DataType::Int64 | DataType::VarChar) {
        return Err(unexpected("the data type of partition key should be Int64 or VarChar".to_owned()));
    }
    if first.is_nullable {
        return Err(Error::invalid("partition key field not support nullable"));
    }
    Ok(())
}

fn field_from_wire(collection_name: &str, wire: schema::FieldSchema, id: FieldId, zone: &Zone) -> Result<FieldSchema> {
    let name = wire.name;
    if matches!(name.as_str(), "RowID" | "Timestamp") {
        return Err(Error::invalid(format_args!("schema contains system field: RowID, Timestamp, {DYNAMIC_FIELD}")));
    }
    check_name(NameOf::Field, &name)?;
    if wire.is_dynamic {
        return Err(Error::invalid(format_args!("cannot explicitly set a field as a dynamic field: {name}")));
    }
    if wire.is_function_output {
        return Err(Error::unimplemented(format_args!("function output field {name}")));
    }
    if !wire.external_field.is_empty() {
        return Err(Error::unimplemented(format_args!("external field {name}")));
    }
    let data_type = data_type_from_wire(&name, wire.data_type)?;
    let element_type = match data_type {
        DataType::Array => Some(element_type_from_wire(wire.element_type)?),
        _ => None,
    };
    let mut field = FieldSchema {
        description: wire.description,
        element_type,
        is_primary: wire.is_primary_key,
        auto_id: wire.auto_id,
        is_nullable: wire.nullable,
        is_partition_key: wire.is_partition_key,
        is_clustering_key: wire.is_clustering_key,
        type_params: pairs_from_wire(wire.type_params),
        ..FieldSchema::new(id, name, data_type)
    };
    check_type_params(collection_name, &mut field)?;
    check_key_and_null(&field)?;
    if let Some(value) = wire.default_value.and_then(|value| value.data) {
        field.default_value = Some(default_from_wire(&field, value, zone)?);
    }
    Ok(field)
}

/// The type, if rows of it can be stored.
fn data_type_from_wire(field_name: &str, number: i32) -> Result<DataType> {
    let wire = schema::DataType::try_from(number)
        .map_err(|_| Error::invalid(format_args!("data type {number} of field {field_name} is not valid")))?;
    match wire {
        schema::DataType::None => Err(unexpected(format!("data type None of field {field_name} is not valid"))),
        schema::DataType::String => {
            Err(Error::invalid("string data type not supported yet, please use VarChar type instead"))
        }
        schema::DataType::Bool
        | schema::DataType::Int8
        | schema::DataType::Int16
        | schema::DataType::Int32
        | schema::DataType::Int64
        | schema::DataType::Float
        | schema::DataType::Double
        | schema::DataType::VarChar
        | schema::DataType::Json
        | schema::DataType::Array
        | schema::DataType::Timestamptz
        | schema::DataType::BinaryVector
        | schema::DataType::FloatVector
        | schema::DataType::Float16Vector
        | schema::DataType::BFloat16Vector
        | schema::DataType::Int8Vector => Ok(DataType::from_number(number).expect("ours has every type named here")),
        other => {
            let type_name = other.as_str_name().trim_start_matches("DataType_");
            Err(Error::unimplemented(format_args!("data type {type_name} of field {field_name}")))
        }
    }
}

/// The type of an array's elements.
fn element_type_from_wire(number: i32) -> Result<DataType> {
    use schema::DataType as Wire;
    let wire =
        Wire::try_from(number).map_err(|_| Error::invalid(format_args!("element type {number} is not supported")))?;
    match wire {
        Wire::None => Err(Error::invalid("element data type None is not valid")),
        Wire::String => Err(Error::invalid("string data type not supported yet, please use VarChar type instead")),
        Wire::Bool
        | Wire::Int8
        | Wire::Int16
        | Wire::Int32
        | Wire::Int64
        | Wire::Float
        | Wire::Double
        | Wire::VarChar => Ok(DataType::from_number(number).expect("ours has every type named here")),
        other => {
            let name = DataType::from_number(number).map_or_else(
                || other.as_str_name().trim_start_matches("DataType_").to_owned(),
                |known| known.name().to_owned(),
            );
            Err(unexpected(format!("element type {name} is not supported")))
        }
    }
}

/// Checks `dim`, `max_length` and `max_capacity` and writes them as plain decimals, so that every later reader can parse them.
fn check_type_params(collection_name: &str, field: &mut FieldSchema) -> Result<()> {
    match field.data_type {
        data_type if !Metric::of_type(data_type).is_empty() => check_dim(field)?,
        DataType::VarChar => check_max_length(collection_name, field)?,
        DataType::Array => {
            check_max_capacity(collection_name, field)?;
            if field.element_type == Some(DataType::VarChar) {
                check_max_length(collection_name, field)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn check_max_length(collection_name: &str, field: &mut FieldSchema) -> Result<()> {
    let name = &field.name;
    let Some(text) = field.type_param("max_length") else {
        return Err(Error::invalid(format_args!(
            "type param(max_length) should be specified for the field({name}) of collection {collection_name}"
        )));
    };
    let length: i64 = text.trim().parse().map_err(|_| {
        Error::invalid(format_args!("the value for max_length of field {name} must be an integer, got {text}"))
    })?;
    if !(1..=VARCHAR_BYTES_MAX as i64).contains(&length) {
        return Err(Error::invalid(format_args!(
            "the maximum length specified for the field({name}) should be in (0, {VARCHAR_BYTES_MAX}], but got {length} \
             instead"
        )));
    }
    set_type_param(field, "max_length", length);
    Ok(())
}

fn check_max_capacity(collection_name: &str, field: &mut FieldSchema) -> Result<()> {
    let name = &field.name;
    let Some(text) = field.type_param("max_capacity") else {
        return Err(Error::invalid(format_args!(
            "type param(max_capacity) should be specified for array field {name} of collection {collection_name}"
        )));
    };
    let capacity: i64 = text
        .trim()
        .parse()
        .map_err(|_| Error::invalid(format_args!("the value for max_capacity of field {name} must be an integer")))?;
    if !(1..=ARRAY_CAPACITY_MAX as i64).contains(&capacity) {
        return Err(Error::invalid(format_args!(
            "the maximum capacity specified for a Array should be in (0, {ARRAY_CAPACITY_MAX}]"
        )));
    }
    set_type_param(field, "max_capacity", capacity);
    Ok(())
}

/// Dense vectors have 2 to [`DIM_MAX`] dimensions, binary ones eight times as many, in whole bytes.
fn check_dim(field: &mut FieldSchema) -> Result<()> {
    let name = &field.name;
    let Some(text) = field.type_param("dim") else {
        return Err(unexpected(format!(
            "dimension is not defined in field type params of field {name}, check type param `dim` for vector field"
        )));
    };
    let wrong = |dim: &dyn std::fmt::Display, why: String| {
        Err(unexpected(format!("invalid dimension: {dim} of field {name}. {why}")))
    };
    let Ok(dim) = text.trim().parse::<i64>() else { return wrong(&text, "it should be an integer".to_owned()) };
    if dim < DIM_MIN as i64 {
        return Err(unexpected(format!("invalid dimension: {dim}. should be in range {DIM_MIN} ~ {DIM_MAX}")));
    }
    let is_binary = field.data_type == DataType::BinaryVector;
    let (kind, max) = if is_binary { ("binary", DIM_MAX * 8) } else { ("float", DIM_MAX) };
    if is_binary && dim % 8 != 0 {
        return wrong(&dim, "binary vector dimension should be multiple of 8. ".to_owned());
    }
    if dim > max as i64 {
        return wrong(&dim, format!("{kind} vector dimension should be in range {DIM_MIN} ~ {max}"));
    }
    set_type_param(field, "dim", dim);
    Ok(())
}

fn set_type_param(field: &mut FieldSchema, name: &str, value: i64) {
    if let Some((_, text)) = field.type_params.iter_mut().find(|(key, _)| key == name) {
        *text = value.to_string();
    }
}

fn check_key_and_null(field: &FieldSchema) -> Result<()> {
    let name = &field.name;
    if field.is_primary {
        if !matches!(field.data_type, DataType::Int64 | DataType::VarChar) {
            return Err(Error::invalid("the data type of primary key should be Int64 or VarChar"));
        }
        if field.is_nullable {
            return Err(Error::invalid(format_args!("primary field not support null, field name = {name}")));
        }
    } else if field.auto_id {
        return Err(Error::invalid(format_args!(
            "only primary field can speficy AutoID with true, field name = {name}"
        )));
    }
    if field.data_type.is_vector() && field.is_clustering_key {
        return Err(Error::unimplemented(format_args!("vector field {name} as clustering key")));
    }
    Ok(())
}

fn default_from_wire(field: &FieldSchema, wire: value_field::Data, zone: &Zone) -> Result<Value> {
    let name = &field.name;
    if field.is_primary {
        return Err(Error::invalid(format_args!("primary field not support default_value, field name = {name}")));
    }
    let type_name = field.data_type.name();
    if field.data_type.is_vector() || matches!(field.data_type, DataType::Json | DataType::Array) {
        return Err(Error::invalid(format_args!("type not support default_value, type:{type_name}, name:{name}")));
    }
    use value_field::Data;
    // Clients guess the kind of a plain number: Python's 1 is long and its 1.0 double, whatever the field holds.
    let integer = match wire {
        Data::IntData(value) => Some(i64::from(value)),
        Data::LongData(value) => Some(value),
        _ => None,
    };
    let number = match wire {
        Data::FloatData(value) => Some(f64::from(value)),
        Data::DoubleData(value) => Some(value),
        _ => integer.map(|value| value as f64),
    };
    match (field.data_type, wire, integer, number) {
        (DataType::Bool, Data::BoolData(value), ..) => Ok(Value::Bool(value)),
        (DataType::Int8, _, Some(value), _) => int_default(value, i8::MIN.into(), i8::MAX.into()),
        (DataType::Int16, _, Some(value), _) => int_default(value, i16::MIN.into(), i16::MAX.into()),
        (DataType::Int32, _, Some(value), _) => int_default(value, i32::MIN.into(), i32::MAX.into()),
        (DataType::Int64, _, Some(value), _) => Ok(Value::Int(value)),
        // What the field's type makes of it is what rows will hold.
        (DataType::Float, _, _, Some(value)) => float_default(f64::from(value as f32)),
        (DataType::Double, _, _, Some(value)) => float_default(value),
        (DataType::VarChar, Data::StringData(value), ..) => {
            let max = field.max_length().unwrap_or(VARCHAR_BYTES_MAX);
            if value.len() > max {
                return Err(invalid_expected(
                    format_args!("the length ({}) of string exceeds max length ({max})", value.len()),
                    "valid length string",
                    "string length exceeds max length",
                ));
            }
            Ok(Value::Text(value))
        }
        (DataType::Timestamptz, Data::StringData(text), ..) => {
            parse_instant(&text, zone).map(Value::Int).ok_or_else(|| {
                Error::invalid(format_args!("invalid timestamp string: '{text}'. Does not match any known format"))
            })
        }
        (_, other, ..) => Err(Error::invalid(format_args!(
            "type ({type_name}) of field ({name}) is not equal to the type({}) of default_value",
            default_type_name(&other)
        ))),
    }
}

fn int_default(value: i64, min: i64, max: i64) -> Result<Value> {
    if (min..=max).contains(&value) {
        return Ok(Value::Int(value));
    }
    Err(Error::invalid(format_args!("[{value}] is out of range: default value should be in [{min}, {max}]")))
}

fn float_default(value: f64) -> Result<Value> {
    if value.is_finite() { Ok(Value::Float(value)) } else { Err(not_a_number(value)) }
}

fn default_type_name(value: &value_field::Data) -> &'static str {
    match value {
        value_field::Data::BoolData(_) => "DataType_Bool",
        value_field::Data::IntData(_) => "DataType_Int",
        value_field::Data::LongData(_) => "DataType_Int64",
        value_field::Data::FloatData(_) => "DataType_Float",
        value_field::Data::DoubleData(_) => "DataType_Double",
        value_field::Data::StringData(_) => "DataType_VarChar",
        value_field::Data::BytesData(_) => "DataType_Bytes",
        value_field::Data::TimestamptzData(_) => "DataType_Timestamptz",
        value_field::Data::DateData(_) => "DataType_Date",
        value_field::Data::TimeData(_) => "DataType_Time",
    }
}

fn default_to_wire(data_type: DataType, value: &Value, zone: &Zone) -> Option<schema::ValueField> {
    let data = match (data_type, value) {
        (_, Value::Null) => return None,
        (_, Value::Bool(value)) => value_field::Data::BoolData(*value),
        (DataType::Int8 | DataType::Int16 | DataType::Int32, Value::Int(value)) => {
            value_field::Data::IntData(i32::try_from(*value).ok()?)
        }
        (DataType::Timestamptz, Value::Int(instant)) => value_field::Data::StringData(zone.show(*instant)),
        (_, Value::Int(value)) => value_field::Data::LongData(*value),
        (DataType::Float, Value::Float(value)) => value_field::Data::FloatData(*value as f32),
        (_, Value::Float(value)) => value_field::Data::DoubleData(*value),
        (_, Value::Text(value)) => value_field::Data::StringData(value.clone()),
    };
    Some(schema::ValueField { data: Some(data) })
}

#[cfg(test)]
mod tests;
