//! Tests of `proto/schemas`.

use super::*;
use crate::proto::common::KeyValuePair;
use crate::types::ErrorKind;

fn field(name: &str, data_type: schema::DataType, params: &[(&str, &str)]) -> schema::FieldSchema {
    schema::FieldSchema {
        name: name.to_owned(),
        data_type: data_type as i32,
        type_params: params
            .iter()
            .map(|(key, value)| KeyValuePair { key: (*key).to_owned(), value: (*value).to_owned() })
            .collect(),
        ..Default::default()
    }
}

fn primary() -> schema::FieldSchema {
    schema::FieldSchema { is_primary_key: true, ..field("id", schema::DataType::Int64, &[]) }
}

fn vector(name: &str) -> schema::FieldSchema {
    field(name, schema::DataType::FloatVector, &[("dim", "4")])
}

fn wire(fields: Vec<schema::FieldSchema>) -> schema::CollectionSchema {
    schema::CollectionSchema { name: "c".to_owned(), fields, ..Default::default() }
}

fn refusal(fields: Vec<schema::FieldSchema>) -> Error {
    schema_from_wire("c", wire(fields), &Zone::UTC).expect_err("a wrong schema")
}

fn default_value(data: value_field::Data) -> Option<schema::ValueField> {
    Some(schema::ValueField { data: Some(data) })
}

#[test]
fn a_schema_survives_the_way_in_and_out() {
    let mut sent = wire(vec![
        schema::FieldSchema { auto_id: true, ..primary() },
        vector("v"),
        field("t", schema::DataType::VarChar, &[("max_length", "16"), ("enable_analyzer", "true")]),
        schema::FieldSchema {
            nullable: true,
            default_value: default_value(value_field::Data::IntData(-3)),
            ..field("n", schema::DataType::Int8, &[])
        },
        schema::FieldSchema {
            default_value: default_value(value_field::Data::FloatData(0.1)),
            ..field("f", schema::DataType::Float, &[])
        },
        field("j", schema::DataType::Json, &[]),
    ]);
    sent.enable_dynamic_field = true;
    let ours = schema_from_wire("c", sent.clone(), &Zone::UTC).expect("a good schema");
    assert_eq!(ours.fields.iter().map(|field| field.id.0).collect::<Vec<_>>(), (100..107).collect::<Vec<_>>());
    assert_eq!(ours.dynamic_field().map(|field| field.name.as_str()), Some("$meta"));
    assert_eq!(ours.field("v").map(FieldSchema::dim), Some(4));
    let answered = schema_to_wire("c", &ours, &Zone::UTC);
    for (field, id) in sent.fields.iter_mut().zip(100..) {
        field.field_id = id;
    }
    sent.version = 1;
    assert_eq!(answered, sent);
}

#[test]
fn wrong_keys_are_refused() {
    assert_eq!(refusal(vec![vector("v")]).message, "primary key is not specified: missing parameter");
    let second = schema::FieldSchema { name: "b".to_owned(), ..primary() };
    assert!(refusal(vec![primary(), second, vector("v")]).message.contains("more than one primary key"));
    let float = schema::FieldSchema { is_primary_key: true, ..field("id", schema::DataType::Float, &[]) };
    assert!(refusal(vec![float, vector("v")]).message.contains("should be Int64 or VarChar"));
    let null = schema::FieldSchema { nullable: true, ..primary() };
    assert!(refusal(vec![null, vector("v")]).message.contains("primary field not support null"));
    let default = schema::FieldSchema { default_value: default_value(value_field::Data::LongData(1)), ..primary() };
    assert!(refusal(vec![default, vector("v")]).message.contains("primary field not support default_value"));
    let auto = schema::FieldSchema { auto_id: true, ..field("n", schema::DataType::Int64, &[]) };
    assert!(refusal(vec![primary(), auto, vector("v")]).message.contains("only primary field can speficy AutoID"));
}

#[test]
fn wrong_counts_are_refused() {
    assert_eq!(refusal(vec![primary()]).message, "schema does not contain vector field: invalid parameter");
    let many = (0..64).map(|n| field(&format!("f{n}"), schema::DataType::Bool, &[])).chain([primary()]).collect();
    assert_eq!(refusal(many).message, "maximum field's number should be limited to 64");
    let many = (0..11).map(|n| vector(&format!("v{n}"))).chain([primary()]).collect();
    assert_eq!(refusal(many).message, "maximum vector field's number should be limited to 10");
    assert_eq!(
        refusal(vec![primary(), vector("v"), vector("v")]).message,
        "duplicated field name v: invalid parameter"
    );
}

#[test]
fn wrong_sizes_are_refused() {
    let vector_of = |dim| field("v", schema::DataType::FloatVector, &[("dim", dim)]);
    for (dim, text) in [
        ("1", "invalid dimension: 1. should be in range 2 ~ 32768"),
        ("32769", "invalid dimension: 32769 of field v. "),
        ("-1", "invalid dimension: -1. should be in range 2 ~ 32768"),
        ("x", "invalid dimension: x of field v. "),
    ] {
        let error = refusal(vec![primary(), vector_of(dim)]);
        assert_eq!(error.kind, ErrorKind::Unexpected);
        assert!(error.message.starts_with(text), "{}", error.message);
    }
    for (dim, text) in [
        ("10", "invalid dimension: 10 of field v. binary vector dimension should be multiple of 8. "),
        ("0", "invalid dimension: 0. should be in range 2 ~ 32768"),
        ("262152", "invalid dimension: 262152 of field v. binary vector dimension should be in range 2 ~ 262144"),
    ] {
        let field = field("v", schema::DataType::BinaryVector, &[("dim", dim)]);
        assert_eq!(refusal(vec![primary(), field]).message, text);
    }
    let none = field("v", schema::DataType::FloatVector, &[]);
    assert!(refusal(vec![primary(), none]).message.starts_with("dimension is not defined in field type params"));
    let text_of = |params: &[(&str, &str)]| field("t", schema::DataType::VarChar, params);
    assert_eq!(
        refusal(vec![primary(), vector("v"), text_of(&[("max_length", "65536")])]).message,
        "the maximum length specified for the field(t) should be in (0, 65535], but got 65536 instead: invalid parameter"
    );
    assert_eq!(
        refusal(vec![primary(), vector("v"), text_of(&[])]).message,
        "type param(max_length) should be specified for the field(t) of collection c: invalid parameter"
    );
}

#[test]
fn defaults_of_plain_numbers_take_the_type_of_the_field() {
    let default = |data_type, data| {
        let field = schema::FieldSchema { default_value: default_value(data), ..field("d", data_type, &[]) };
        let schema =
            schema_from_wire("c", wire(vec![primary(), vector("v"), field]), &Zone::UTC).expect("a good default");
        let described =
            schema_to_wire("c", &schema, &Zone::UTC).fields[2].default_value.clone().and_then(|value| value.data);
        (schema.fields[2].default_value.clone(), described)
    };
    use value_field::Data;
    let int = |value| Some(Value::Int(value));
    assert_eq!(default(schema::DataType::Int8, Data::LongData(-5)), (int(-5), Some(Data::IntData(-5))));
    assert_eq!(default(schema::DataType::Int16, Data::LongData(300)), (int(300), Some(Data::IntData(300))));
    assert_eq!(default(schema::DataType::Int32, Data::LongData(7)), (int(7), Some(Data::IntData(7))));
    assert_eq!(default(schema::DataType::Int64, Data::IntData(7)), (int(7), Some(Data::LongData(7))));
    let float = |value| Some(Value::Float(value));
    assert_eq!(default(schema::DataType::Float, Data::LongData(2)), (float(2.0), Some(Data::FloatData(2.0))));
    assert_eq!(
        default(schema::DataType::Float, Data::DoubleData(0.1)),
        (float(f64::from(0.1f32)), Some(Data::FloatData(0.1)))
    );
    assert_eq!(default(schema::DataType::Double, Data::LongData(2)), (float(2.0), Some(Data::DoubleData(2.0))));
}

#[test]
fn wrong_defaults_are_refused() {
    let refused = |data_type, params: &[(&str, &str)], data| {
        let field = schema::FieldSchema { default_value: default_value(data), ..field("d", data_type, params) };
        refusal(vec![primary(), vector("v"), field]).message
    };
    assert_eq!(
        refused(schema::DataType::VarChar, &[("max_length", "4")], value_field::Data::LongData(1)),
        "type (VarChar) of field (d) is not equal to the type(DataType_Int64) of default_value: invalid parameter"
    );
    assert_eq!(
        refused(schema::DataType::VarChar, &[("max_length", "4")], value_field::Data::StringData("abcde".to_owned())),
        "the length (5) of string exceeds max length (4): invalid parameter[expected=valid length string][actual=string \
         length exceeds max length]"
    );
    assert!(
        refused(schema::DataType::Json, &[], value_field::Data::BytesData(b"{}".to_vec()))
            .starts_with("type not support default_value, type:JSON")
    );
    assert!(refused(schema::DataType::Int8, &[], value_field::Data::IntData(128)).contains("out of range"));
    assert!(refused(schema::DataType::Int32, &[], value_field::Data::LongData(1 << 31)).contains("out of range"));
    assert!(refused(schema::DataType::Float, &[], value_field::Data::DoubleData(1e39)).contains("+Inf"));
    assert!(refused(schema::DataType::Int64, &[], value_field::Data::DoubleData(1.0)).contains("is not equal to"));
    assert_eq!(
        refused(schema::DataType::Double, &[], value_field::Data::DoubleData(f64::NEG_INFINITY)),
        "value '-Inf' is not a number or infinity"
    );
}

#[test]
fn what_is_not_stored_yet_is_refused_by_name() {
    for (data_type, name) in
        [(schema::DataType::SparseFloatVector, "SparseFloatVector"), (schema::DataType::Geometry, "Geometry")]
    {
        let error = refusal(vec![primary(), vector("v"), field("x", data_type, &[])]);
        assert_eq!(error.kind, ErrorKind::Unimplemented);
        assert!(error.message.contains(name) && error.message.contains("field x"), "{}", error.message);
    }
    let key = schema::FieldSchema { is_partition_key: true, ..field("k", schema::DataType::Double, &[]) };
    assert!(refusal(vec![primary(), vector("v"), key]).message.contains("the data type of partition key should be"));
    let string = field("s", schema::DataType::String, &[]);
    assert!(refusal(vec![primary(), vector("v"), string]).message.contains("please use VarChar type instead"));
    let unknown = schema::FieldSchema { data_type: 77, ..field("s", schema::DataType::Bool, &[]) };
    assert_eq!(refusal(vec![primary(), vector("v"), unknown]).kind, ErrorKind::InvalidParameter);
    assert!(
        refusal(vec![primary(), vector("v"), field("RowID", schema::DataType::Bool, &[])])
            .message
            .contains("system field")
    );
}

#[test]
fn an_added_field_is_nullable_and_no_key() {
    let schema = schema_from_wire("c", wire(vec![primary(), vector("v")]), &Zone::UTC).expect("a good schema");
    let added = |wire| added_field_from_wire("c", &schema, wire, FieldId(105), &Zone::UTC);
    let nullable = |name: &str| schema::FieldSchema { nullable: true, ..field(name, schema::DataType::Int64, &[]) };
    assert_eq!(added(nullable("n")).expect("a good field").id, FieldId(105));
    assert!(
        added(field("n", schema::DataType::Int64, &[]))
            .expect_err("not nullable")
            .message
            .starts_with("added field must be nullable, please check it, field name = n")
    );
    assert!(added(primary()).expect_err("a key").message.starts_with("not support to add pk field, field name = id"));
    let more = schema::FieldSchema { nullable: true, ..vector("w") };
    assert!(added(more).is_ok());
    assert!(added(nullable("v")).expect_err("doubled").message.starts_with("duplicated field name v"));
}

#[test]
fn arrays_need_a_capacity_and_elements_of_a_type_that_can_be_stored() {
    let array = |element_type: schema::DataType, params: &[(&str, &str)]| schema::FieldSchema {
        element_type: element_type as i32,
        ..field("a", schema::DataType::Array, params)
    };
    let refused = |array: schema::FieldSchema| refusal(vec![primary(), vector("v"), array]).message;
    use schema::DataType as Wire;
    let capacity = ("max_capacity", "16");
    assert_eq!(
        refused(array(Wire::Int8, &[])),
        "type param(max_capacity) should be specified for array field a of collection c: invalid parameter"
    );
    for wrong in ["0", "4097", "-1"] {
        assert_eq!(
            refused(array(Wire::Int8, &[("max_capacity", wrong)])),
            "the maximum capacity specified for a Array should be in (0, 4096]: invalid parameter"
        );
    }
    assert_eq!(
        refused(array(Wire::Int8, &[("max_capacity", "many")])),
        "the value for max_capacity of field a must be an integer: invalid parameter"
    );
    assert_eq!(
        refused(array(Wire::VarChar, &[capacity])),
        "type param(max_length) should be specified for the field(a) of collection c: invalid parameter"
    );
    assert_eq!(refused(array(Wire::None, &[capacity])), "element data type None is not valid: invalid parameter");
    assert_eq!(refused(array(Wire::Json, &[capacity])), "element type JSON is not supported");
    assert_eq!(refused(array(Wire::Geometry, &[capacity])), "element type Geometry is not supported");
    let with_default = schema::FieldSchema {
        default_value: default_value(value_field::Data::IntData(1)),
        ..array(Wire::Int8, &[capacity])
    };
    assert!(refused(with_default).starts_with("type not support default_value, type:Array, name:a"));
}

#[test]
fn defaults_of_timestamps_are_read_and_shown_in_the_collections_zone() {
    let time = |data| schema::FieldSchema {
        default_value: default_value(data),
        ..field("t", schema::DataType::Timestamptz, &[])
    };
    let text = |text: &str| time(value_field::Data::StringData(text.to_owned()));
    let zone = Zone::from_name("Asia/Tokyo").expect("a zone");
    let sent = wire(vec![primary(), vector("v"), text("2025-01-01T00:00:00")]);
    let schema = schema_from_wire("c", sent, &zone).expect("a good schema");
    assert_eq!(schema.fields[2].default_value, Some(Value::Int(1_735_657_200_000_000)));
    let answered = schema_to_wire("c", &schema, &zone).fields[2].default_value.clone();
    assert_eq!(answered, default_value(value_field::Data::StringData("2025-01-01T00:00:00+09:00".to_owned())));
    assert_eq!(
        refusal(vec![primary(), vector("v"), text("timestamp")]).message,
        "invalid timestamp string: 'timestamp'. Does not match any known format: invalid parameter"
    );
    assert_eq!(
        refusal(vec![primary(), vector("v"), time(value_field::Data::LongData(10))]).message,
        "type (Timestamptz) of field (t) is not equal to the type(DataType_Int64) of default_value: invalid parameter"
    );
}
