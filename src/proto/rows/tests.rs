//! Tests of `proto/rows`.

use proptest::prelude::*;

use super::schema::{field_data, scalar_field, vector_field};
use super::*;
use crate::proto::instants::{InstantStyle, resolve};
use crate::types::{DataType, FieldId, Zone};

const INSERT: RowOptions = RowOptions { is_upsert: false, takes_keys: false, first_id: 7 };
const UPSERT: RowOptions = RowOptions { is_upsert: true, takes_keys: false, first_id: 7 };

fn field(id: i64, name: &str, data_type: DataType) -> FieldSchema {
    FieldSchema {
        id: FieldId(id),
        name: name.to_owned(),
        data_type,
        is_dynamic: false,
        type_params: match data_type {
            DataType::FloatVector => vec![("dim".to_owned(), "2".to_owned())],
            DataType::VarChar => vec![("max_length".to_owned(), "8".to_owned())],
            _ => Vec::new(),
        },
        ..super::super::schemas::dynamic_field(FieldId(id))
    }
}

fn schema_of(mut fields: Vec<FieldSchema>) -> CollectionSchema {
    let id = FieldSchema { is_primary: true, ..field(100, "id", DataType::Int64) };
    fields.splice(0..0, [id, field(101, "v", DataType::FloatVector)]);
    CollectionSchema { description: String::new(), fields, enable_dynamic_field: false, version: 1 }
}

fn scalars(name: &str, data: scalar_field::Data, valid_data: &[bool]) -> schema::FieldData {
    schema::FieldData {
        field_name: name.to_owned(),
        field: Some(field_data::Field::Scalars(schema::ScalarField { data: Some(data) })),
        valid_data: valid_data.to_vec(),
        ..Default::default()
    }
}

fn ids(data: &[i64]) -> schema::FieldData {
    scalars("id", scalar_field::Data::LongData(schema::LongArray { data: data.to_vec() }), &[])
}

fn ints(name: &str, data: &[i32], valid_data: &[bool]) -> schema::FieldData {
    scalars(name, scalar_field::Data::IntData(schema::IntArray { data: data.to_vec() }), valid_data)
}

fn texts(name: &str, data: &[&str], valid_data: &[bool]) -> schema::FieldData {
    let data = data.iter().map(|text| (*text).to_owned()).collect();
    scalars(name, scalar_field::Data::StringData(schema::StringArray { data }), valid_data)
}

fn vectors(dim: i64, data: &[f32]) -> schema::FieldData {
    let data = Some(vector_field::Data::FloatVector(schema::FloatArray { data: data.to_vec() }));
    schema::FieldData {
        field_name: "v".to_owned(),
        field: Some(field_data::Field::Vectors(schema::VectorField { dim, data })),
        ..Default::default()
    }
}

fn refusal(schema: &CollectionSchema, fields: Vec<schema::FieldData>, row_count: u32) -> String {
    batch_from_wire(schema, fields, row_count, INSERT).expect_err("wrong rows").message
}

#[test]
fn rows_become_columns_in_schema_order() {
    let schema = schema_of(vec![]);
    let batch =
        batch_from_wire(&schema, vec![vectors(2, &[1.0, 2.0, 3.0, 4.0]), ids(&[5, 6])], 2, INSERT).expect("rows");
    assert_eq!(batch.columns[0].data, ColumnData::Int64(vec![5, 6]));
    assert_eq!(batch.columns[1].data, ColumnData::FloatVector(vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!(batch_keys(&schema, &batch), Keys::Int(vec![5, 6]));
}

#[test]
fn nulls_are_spread_and_defaults_filled_in() {
    let nullable = FieldSchema { is_nullable: true, ..field(102, "n", DataType::Int16) };
    let default =
        FieldSchema { default_value: Some(Value::Text("d".to_owned())), ..field(103, "t", DataType::VarChar) };
    let schema = schema_of(vec![nullable, default]);
    let valid = [false, true, false, true];
    for n in [vec![1, 2], vec![0, 1, 0, 2]] {
        let rows =
            vec![ids(&[1, 2, 3, 4]), vectors(2, &[0.0; 8]), ints("n", &n, &valid), texts("t", &["x", "y"], &valid)];
        let batch = batch_from_wire(&schema, rows, 4, INSERT).expect("rows");
        assert_eq!(batch.columns[2].data, ColumnData::Int16(vec![0, 1, 0, 2]));
        assert_eq!(batch.columns[2].validity.as_deref(), Some(&valid[..]));
        let expected = TextColumn { offsets: vec![0, 1, 2, 3, 4], bytes: b"dxdy".to_vec() };
        assert_eq!(batch.columns[3].data, ColumnData::Text(expected));
        assert_eq!(batch.columns[3].validity, None);
    }
}

#[test]
fn columns_that_are_left_out_become_null_or_default() {
    let nullable = FieldSchema { is_nullable: true, ..field(102, "n", DataType::Double) };
    let default = FieldSchema { default_value: Some(Value::Int(9)), ..field(103, "d", DataType::Int8) };
    let mut schema = schema_of(vec![nullable, default]);
    schema.fields.push(super::super::schemas::dynamic_field(FieldId(104)));
    let untouched = schema::FieldData { field_name: "n".to_owned(), valid_data: vec![false; 2], ..Default::default() };
    for extra in [None, Some(untouched)] {
        let rows = [ids(&[1, 2]), vectors(0, &[0.0; 4])].into_iter().chain(extra).collect();
        let batch = batch_from_wire(&schema, rows, 2, INSERT).expect("rows");
        assert_eq!(batch.columns[2].validity, Some(vec![false, false]));
        assert_eq!(batch.columns[3].data, ColumnData::Int8(vec![9, 9]));
        let empty = TextColumn { offsets: vec![0, 2, 4], bytes: b"{}{}".to_vec() };
        assert_eq!(batch.columns[4].data, ColumnData::Text(empty));
    }
}

fn vectors_of(data: Option<vector_field::Data>, valid_data: &[bool]) -> schema::FieldData {
    schema::FieldData {
        field_name: "w".to_owned(),
        field: Some(field_data::Field::Vectors(schema::VectorField { dim: 16, data })),
        valid_data: valid_data.to_vec(),
        ..Default::default()
    }
}

/// A schema with one more vector field `w` of 16 dimensions.
fn schema_with(data_type: DataType, is_nullable: bool) -> CollectionSchema {
    let type_params = vec![("dim".to_owned(), "16".to_owned())];
    schema_of(vec![FieldSchema { is_nullable, type_params, ..field(102, "w", data_type) }])
}

fn wire_of(data_type: DataType, bytes: Vec<u8>) -> vector_field::Data {
    match data_type {
        DataType::Float16Vector => vector_field::Data::Float16Vector(bytes),
        DataType::BFloat16Vector => vector_field::Data::Bfloat16Vector(bytes),
        DataType::Int8Vector => vector_field::Data::Int8Vector(bytes),
        _ => vector_field::Data::BinaryVector(bytes),
    }
}

const BYTE_VECTORS: [(DataType, usize); 4] = [
    (DataType::Float16Vector, 32),
    (DataType::BFloat16Vector, 32),
    (DataType::Int8Vector, 16),
    (DataType::BinaryVector, 2),
];

#[test]
fn vectors_of_bytes_come_in_and_go_out_without_their_nulls() {
    for (data_type, row_bytes) in BYTE_VECTORS {
        let schema = schema_with(data_type, true);
        let given: Vec<u8> = (0..2 * row_bytes).map(|byte| byte as u8 + 1).collect();
        let mut full = vec![0; 4 * row_bytes];
        full[row_bytes..2 * row_bytes].copy_from_slice(&given[..row_bytes]);
        full[3 * row_bytes..].copy_from_slice(&given[row_bytes..]);
        let valid = [false, true, false, true];
        for sent in [given.clone(), full.clone()] {
            let fields =
                vec![ids(&[1, 2, 3, 4]), vectors(2, &[0.0; 8]), vectors_of(Some(wire_of(data_type, sent)), &valid)];
            let batch = batch_from_wire(&schema, fields, 4, INSERT).expect("rows");
            assert_eq!(batch.columns[2].data, ColumnData::BytesVector(full.clone()));
            assert_eq!(batch.columns[2].validity.as_deref(), Some(&valid[..]));
            let back = column_into_wire(&schema.fields[2], batch.columns[2].clone(), &InstantStyle::default());
            let expected = vectors_of(Some(wire_of(data_type, given.clone())), &valid);
            assert_eq!((back.field, back.valid_data), (expected.field, expected.valid_data));
        }
    }
}

#[test]
fn float_lists_are_rounded_for_fields_of_16_bits() {
    for data_type in [DataType::Float16Vector, DataType::BFloat16Vector] {
        let values: Vec<f32> = (0..16).map(|index| index as f32 / 3.0).collect();
        let data = vector_field::Data::FloatVector(schema::FloatArray { data: values.clone() });
        let rows = vec![ids(&[1]), vectors(2, &[0.0; 2]), vectors_of(Some(data), &[])];
        let batch = batch_from_wire(&schema_with(data_type, false), rows, 1, INSERT).expect("rows");
        let expected = values.iter().flat_map(|value| match data_type {
            DataType::Float16Vector => half::f16::from_f32(*value).to_le_bytes(),
            _ => half::bf16::from_f32(*value).to_le_bytes(),
        });
        assert_eq!(batch.columns[2].data, ColumnData::BytesVector(expected.collect()));
    }
}

#[test]
fn vectors_that_no_row_holds_may_be_left_out() {
    let unset = schema::FieldData { field_name: "w".to_owned(), valid_data: vec![false; 2], ..Default::default() };
    for (data_type, row_bytes) in BYTE_VECTORS {
        for extra in [None, Some(unset.clone()), Some(vectors_of(None, &[false; 2]))] {
            let rows = [ids(&[1, 2]), vectors(2, &[0.0; 4])].into_iter().chain(extra).collect();
            let batch = batch_from_wire(&schema_with(data_type, true), rows, 2, INSERT).expect("rows");
            assert_eq!(batch.columns[2].data, ColumnData::BytesVector(vec![0; 2 * row_bytes]));
            assert_eq!(batch.columns[2].validity, Some(vec![false; 2]));
        }
        let rows = vec![ids(&[1, 2]), vectors(2, &[0.0; 4])];
        let missing = refusal(&schema_with(data_type, false), rows, 2);
        assert!(missing.starts_with("fieldSchema(w) has no corresponding fieldData pass in"), "{missing}");
    }
}

#[test]
fn wrong_vectors_of_bytes_are_refused() {
    let refused = |data_type, data, valid: &[bool]| {
        let rows = vec![ids(&[1]), vectors(2, &[0.0; 2]), vectors_of(Some(data), valid)];
        refusal(&schema_with(data_type, false), rows, 1)
    };
    for (data_type, text) in [
        (DataType::Float16Vector, "the length(3) of float16 data should divide the dim(16)"),
        (DataType::BFloat16Vector, "the length(3) of bfloat data should divide the dim(16)"),
        (DataType::Int8Vector, "the length(3) of int8 data should divide the dim(16)"),
        (DataType::BinaryVector, "the num(24) of all bits should divide the dim(16)"),
    ] {
        assert_eq!(refused(data_type, wire_of(data_type, vec![0; 3]), &[]), text);
        let floats = vector_field::Data::FloatVector(schema::FloatArray { data: vec![f32::NAN; 16] });
        let message = refused(data_type, floats, &[]);
        let is_float = matches!(data_type, DataType::Float16Vector | DataType::BFloat16Vector);
        assert!(message.contains(if is_float { "value 'NaN' is not a number" } else { "array type mismatch" }));
    }
    for (data_type, row_bytes) in BYTE_VECTORS {
        let nullish = refused(data_type, wire_of(data_type, Vec::new()), &[false]);
        assert_eq!(nullish, "field w holds null but is not nullable: invalid parameter");
        let twice = refused(data_type, wire_of(data_type, vec![0; 2 * row_bytes]), &[]);
        assert!(twice.starts_with("the num_rows (2) of field (w) is not equal to passed num_rows (1)"), "{twice}");
    }
    for (data_type, bits, text) in [
        (DataType::Float16Vector, 0x7c00u16, "+Inf"),
        (DataType::Float16Vector, 0xfc01, "NaN"),
        (DataType::BFloat16Vector, 0xff80, "-Inf"),
        (DataType::BFloat16Vector, 0x7fc0, "NaN"),
    ] {
        let mut bytes = vec![0; 32];
        bytes[30..].copy_from_slice(&bits.to_le_bytes());
        let message = refused(data_type, wire_of(data_type, bytes), &[]);
        assert_eq!(message, format!("value '{text}' is not a number or infinity"));
    }
    // Too large for a half.
    let floats = vector_field::Data::FloatVector(schema::FloatArray { data: vec![1e6; 16] });
    assert!(refused(DataType::Float16Vector, floats, &[]).contains("+Inf"));
}

#[test]
fn automatic_ids_count_up() {
    let mut schema = schema_of(vec![]);
    schema.fields[0].auto_id = true;
    let batch = batch_from_wire(&schema, vec![vectors(2, &[0.0; 4])], 2, INSERT).expect("rows");
    assert_eq!(batch_keys(&schema, &batch), Keys::Int(vec![7, 8]));
    assert!(
        refusal(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2])], 1).starts_with("can not assign primary field data")
    );
    schema.fields[0] = FieldSchema { is_primary: true, auto_id: true, ..field(100, "id", DataType::VarChar) };
    let batch = batch_from_wire(&schema, vec![vectors(2, &[0.0; 4])], 2, INSERT).expect("rows");
    assert_eq!(batch_keys(&schema, &batch), Keys::Text(vec!["7".to_owned(), "8".to_owned()]));
    assert!(
        batch_from_wire(&schema, vec![vectors(2, &[0.0; 2])], 1, UPSERT)
            .expect_err("no key")
            .message
            .starts_with("must assign pk when upsert, primary field: id")
    );
}

#[test]
fn missing_extra_and_uneven_columns_are_refused() {
    let schema = schema_of(vec![field(102, "n", DataType::Int32)]);
    let (id, v, n) = (ids(&[1]), vectors(2, &[0.0; 2]), ints("n", &[1], &[]));
    assert_eq!(
        refusal(&schema, vec![id.clone(), v.clone()], 1),
        "fieldSchema(n) has no corresponding fieldData pass in: invalid parameter"
    );
    assert_eq!(
        refusal(&schema, vec![v.clone(), n.clone()], 1),
        "fieldSchema(id) has no corresponding fieldData pass in: invalid parameter"
    );
    let extra = ints("x", &[1], &[]);
    for rows in [vec![id.clone(), v.clone(), n.clone(), extra], vec![id.clone(), v.clone(), n.clone(), n.clone()]] {
        assert!(refusal(&schema, rows, 1).ends_with("more fieldData has pass in: invalid parameter"));
    }
    assert_eq!(
        refusal(&schema, vec![ids(&[1, 2]), vectors(2, &[0.0; 4]), n.clone()], 2),
        "the num_rows (1) of field (n) is not equal to passed num_rows (2): invalid parameter[expected=2][actual=1]"
    );
    assert!(refusal(&schema, vec![id.clone(), v.clone(), ints("n", &[1], &[true; 2])], 1).contains("valid_data"));
    assert!(refusal(&schema, vec![id.clone(), v.clone(), ints("n", &[], &[false])], 1).contains("not nullable"));
    assert!(refusal(&schema, vec![id, v, n], 0).starts_with("num_rows should be greater than 0"));
}

#[test]
fn wrong_values_are_refused_with_the_texts_of_milvus() {
    let schema = schema_of(vec![field(102, "n", DataType::Int8), field(103, "t", DataType::VarChar)]);
    let rows = |v, n: i32, t: &str| vec![ids(&[1]), v, ints("n", &[n], &[]), texts("t", &[t], &[])];
    let v = || vectors(2, &[0.0; 2]);
    assert_eq!(
        refusal(&schema, rows(v(), 128, ""), 1),
        "the 0th element (128) out of range: [-128, 127]: invalid parameter"
    );
    assert!(refusal(&schema, rows(v(), 0, "123456789"), 1).starts_with(
        "length of varchar field t exceeds max length, row number: 0, length: 9, max length: 8: invalid parameter"
    ));
    for (value, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "+Inf"), (f32::NEG_INFINITY, "-Inf")] {
        assert_eq!(
            refusal(&schema, rows(vectors(2, &[0.0, value]), 0, ""), 1),
            format!("value '{text}' is not a number or infinity")
        );
    }
    assert_eq!(
        refusal(&schema, rows(vectors(3, &[0.0; 3]), 0, ""), 1),
        "the length(3) of float data should divide the dim(2)"
    );
    assert!(refusal(&schema, rows(vectors(4, &[0.0; 4]), 0, ""), 1).contains("is not equal to schema dim (2)"));
    assert_eq!(
        refusal(&schema, rows(ints("v", &[1], &[]), 0, ""), 1),
        "float vector field 'v' is illegal, array type mismatch: invalid parameter[expected=need float \
         vector][actual=got nil]"
    );
}

#[test]
fn an_upsert_names_each_key_once() {
    let schema = schema_of(vec![]);
    let upsert = |keys: &[i64]| {
        batch_from_wire(&schema, vec![ids(keys), vectors(2, &[0.0; 6])], 3, UPSERT).map(|batch| batch.row_count)
    };
    assert_eq!(upsert(&[3, 1, 2]).expect("rows"), 3);
    assert_eq!(
        upsert(&[3, 1, 3]).expect_err("doubled").message,
        "duplicate primary keys are not allowed in the same batch: invalid parameter"
    );
    batch_from_wire(&schema, vec![ids(&[1, 1]), vectors(2, &[0.0; 4])], 2, INSERT).expect("inserts may double keys");
}

#[test]
fn a_few_bytes_cannot_ask_for_gigabytes() {
    let fields = (0..60)
        .map(|n| FieldSchema { is_nullable: true, ..field(102 + n, &format!("f{n}"), DataType::Int64) })
        .collect();
    let schema = schema_of(fields);
    assert!(
        refusal(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2])], u32::MAX).starts_with("cannot take 4294967295 rows")
    );
}

#[test]
fn dynamic_rows_may_not_name_a_field_of_the_request() {
    let mut schema = schema_of(vec![FieldSchema { is_nullable: true, ..field(102, "later", DataType::Int64) }]);
    schema.fields.push(super::super::schemas::dynamic_field(FieldId(103)));
    let rows = |document: &str| {
        let data = scalar_field::Data::JsonData(schema::JsonArray { data: vec![document.as_bytes().to_vec()] });
        let meta = schema::FieldData { is_dynamic: true, ..scalars("", data, &[]) };
        batch_from_wire(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2]), meta], 1, INSERT)
    };
    rows(r#"{"later":1}"#).expect("the log holds rows that are older than the field");
    assert!(rows(r#"{"v":1}"#).expect_err("a field").message.contains("include the static field name: v"));
    rows("[1]").expect_err("no object");
}

#[test]
fn empty_columns_still_name_their_type() {
    for data_type in [DataType::Int64, DataType::VarChar, DataType::Json, DataType::FloatVector, DataType::Bool] {
        let field = field(100, "x", data_type);
        let data = match data_type {
            DataType::Int64 => ColumnData::Int64(vec![]),
            DataType::Bool => ColumnData::Bool(vec![]),
            DataType::FloatVector => ColumnData::FloatVector(vec![]),
            _ => ColumnData::Text(TextColumn::default()),
        };
        let wire = column_into_wire(&field, Column { field: field.id, data, validity: None }, &InstantStyle::default());
        match wire.field {
            Some(field_data::Field::Scalars(scalars)) => assert!(scalars.data.is_some()),
            Some(field_data::Field::Vectors(vectors)) => assert!(vectors.data.is_some() && vectors.dim == 2),
            _ => panic!("no data"),
        }
    }
}

/// A column of `rows` values of a type, null where the flag says so.
fn column(id: i64, rows: usize) -> impl Strategy<Value = (FieldSchema, Column)> {
    let flags = prop::collection::vec(any::<bool>(), rows);
    let longs = prop::collection::vec(any::<i64>(), rows);
    let words = prop::collection::vec("[a-zé]{0,4}", rows);
    (0..8_usize, any::<bool>(), flags, longs, words).prop_map(move |(kind, is_nullable, flags, longs, words)| {
        let text = |words: Vec<String>| {
            let mut column = TextColumn::default();
            words.iter().for_each(|word| column.push(word.as_bytes()));
            ColumnData::Text(column)
        };
        let (data_type, mut data) = match kind {
            0 => (DataType::Bool, ColumnData::Bool(longs.iter().map(|n| n % 2 == 0).collect())),
            1 => (DataType::Int8, ColumnData::Int8(longs.iter().map(|n| *n as i8).collect())),
            2 => (DataType::Int16, ColumnData::Int16(longs.iter().map(|n| *n as i16).collect())),
            3 => (DataType::Int32, ColumnData::Int32(longs.iter().map(|n| *n as i32).collect())),
            4 => (DataType::Float, ColumnData::Float(longs.iter().map(|n| *n as f32).collect())),
            5 => (DataType::Double, ColumnData::Double(longs.iter().map(|n| *n as f64).collect())),
            6 => (DataType::VarChar, text(words)),
            _ => (DataType::Json, text(words.iter().map(|word| format!("{{\"k\":\"{word}\"}}")).collect())),
        };
        let validity = (is_nullable && flags.contains(&false)).then_some(flags);
        if let Some(validity) = &validity {
            clear_nulls(&mut data, validity);
        }
        let schema = FieldSchema { is_nullable, ..field(id, &format!("f{id}"), data_type) };
        (schema, Column { field: FieldId(id), data, validity })
    })
}

fn clear_nulls(data: &mut ColumnData, validity: &[bool]) {
    fn clear<T: Default>(values: &mut [T], validity: &[bool]) {
        values.iter_mut().zip(validity).filter(|(_, valid)| !**valid).for_each(|(value, _)| *value = T::default());
    }
    match data {
        ColumnData::Bool(values) => clear(values, validity),
        ColumnData::Int8(values) => clear(values, validity),
        ColumnData::Int16(values) => clear(values, validity),
        ColumnData::Int32(values) => clear(values, validity),
        ColumnData::Float(values) => clear(values, validity),
        ColumnData::Double(values) => clear(values, validity),
        ColumnData::Text(old) => {
            let mut new = TextColumn::default();
            text_rows(old).zip(validity).for_each(|(row, valid)| new.push(if *valid { row } else { b"" }));
            *old = new;
        }
        _ => {}
    }
}

/// The row-aligned reply as a client would send it: nulls left out.
fn compacted(mut wire: schema::FieldData) -> schema::FieldData {
    fn keep<T>(values: &mut Vec<T>, valid: &[bool]) {
        let mut flags = valid.iter();
        values.retain(|_| flags.next().copied().unwrap_or(true));
    }
    let valid = wire.valid_data.clone();
    if let Some(field_data::Field::Scalars(schema::ScalarField { data: Some(data) })) = &mut wire.field {
        match data {
            scalar_field::Data::BoolData(values) => keep(&mut values.data, &valid),
            scalar_field::Data::IntData(values) => keep(&mut values.data, &valid),
            scalar_field::Data::FloatData(values) => keep(&mut values.data, &valid),
            scalar_field::Data::DoubleData(values) => keep(&mut values.data, &valid),
            scalar_field::Data::StringData(values) => keep(&mut values.data, &valid),
            scalar_field::Data::JsonData(values) => keep(&mut values.data, &valid),
            _ => {}
        }
    }
    wire
}

fn some_columns() -> impl Strategy<Value = (usize, Vec<(FieldSchema, Column)>)> {
    (1..20_usize).prop_flat_map(|rows| {
        let columns: Vec<_> = (102..106).map(|id| column(id, rows)).collect();
        (Just(rows), columns)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn columns_survive_the_way_out_and_in((rows, columns) in some_columns(), is_compact in any::<bool>()) {
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let schema = schema_of(fields);
        let keys = Column { field: FieldId(100), data: ColumnData::Int64((0..rows as i64).collect()), validity: None };
        let vectors =
            Column { field: FieldId(101), data: ColumnData::FloatVector(vec![0.5; rows * 2]), validity: None };
        let expected = Batch { row_count: rows, columns: [keys, vectors].into_iter().chain(columns).collect() };
        let sent = schema.fields.iter().zip(&expected.columns).map(|(field, column)| {
            let wire = column_into_wire(field, column.clone(), &InstantStyle::default());
            if is_compact { compacted(wire) } else { wire }
        });
        let batch = batch_from_wire(&schema, sent.collect(), rows as u32, INSERT).expect("rows");
        prop_assert_eq!(batch, expected);
    }
}

fn array_field(element_type: DataType) -> FieldSchema {
    FieldSchema {
        element_type: Some(element_type),
        is_nullable: true,
        type_params: vec![("max_capacity".to_owned(), "3".to_owned()), ("max_length".to_owned(), "4".to_owned())],
        ..field(102, "a", DataType::Array)
    }
}

fn arrays(rows: Vec<scalar_field::Data>, valid_data: &[bool]) -> schema::FieldData {
    let data = rows.into_iter().map(|data| schema::ScalarField { data: Some(data) }).collect();
    scalars("a", scalar_field::Data::ArrayData(schema::ArrayArray { data, element_type: 0 }), valid_data)
}

#[test]
fn arrays_of_every_element_type_come_back_as_they_were_sent() {
    use scalar_field::Data;
    let ints = |values: &[i32]| Data::IntData(schema::IntArray { data: values.to_vec() });
    let texts = |values: &[&str]| {
        Data::StringData(schema::StringArray { data: values.iter().map(|value| (*value).to_owned()).collect() })
    };
    let cases = [
        (DataType::Bool, Data::BoolData(schema::BoolArray { data: vec![true, false] })),
        (DataType::Int8, ints(&[-128, 127])),
        (DataType::Int16, ints(&[-32768, 32767])),
        (DataType::Int32, ints(&[i32::MIN, 0, i32::MAX])),
        (DataType::Int64, Data::LongData(schema::LongArray { data: vec![i64::MIN, i64::MAX] })),
        (DataType::Float, Data::FloatData(schema::FloatArray { data: vec![0.1, -2.5] })),
        (DataType::Double, Data::DoubleData(schema::DoubleArray { data: vec![0.1, 1e300] })),
        (DataType::VarChar, texts(&["", "\u{e4}b", "x"])),
        (DataType::VarChar, texts(&[])),
    ];
    for (element_type, sent) in cases {
        let array = array_field(element_type);
        let schema = schema_of(vec![array.clone()]);
        let rows = vec![ids(&[1, 2]), vectors(2, &[0.0; 4]), arrays(vec![sent.clone()], &[false, true])];
        let batch = batch_from_wire(&schema, rows, 2, INSERT).expect("rows");
        assert_eq!(batch.columns[2].validity.as_deref(), Some(&[false, true][..]));
        let wire = column_into_wire(&array, batch.columns[2].clone(), &InstantStyle::default());
        assert_eq!(wire.valid_data, [false, true]);
        let Some(field_data::Field::Scalars(schema::ScalarField { data: Some(Data::ArrayData(answered)) })) =
            wire.field
        else {
            panic!("an array is answered as an array")
        };
        assert_eq!(answered.element_type, element_type as i32);
        assert_eq!(answered.data.len(), 2);
        assert_eq!(answered.data[1].data, Some(sent));
    }
}

#[test]
fn wrong_arrays_are_refused_with_the_texts_of_milvus() {
    use scalar_field::Data;
    let refused = |element_type: DataType, data: Data| {
        let schema = schema_of(vec![array_field(element_type)]);
        refusal(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2]), arrays(vec![data], &[])], 1)
    };
    let ints = |values: &[i32]| Data::IntData(schema::IntArray { data: values.to_vec() });
    assert_eq!(
        refused(DataType::Int32, ints(&[1, 2, 3, 4])),
        "the length (4) of 0th array exceeds max capacity (3): invalid parameter[expected=valid length array]\
         [actual=array length exceeds max capacity]"
    );
    assert_eq!(
        refused(DataType::Int8, ints(&[1, 128])),
        "the 1th element (128) out of range: [-128, 127]: invalid parameter"
    );
    let long = Data::StringData(schema::StringArray { data: vec![String::new(), "12345".to_owned()] });
    assert_eq!(
        refused(DataType::VarChar, long),
        "length of Array array field \"a\" exceeds max length, row number: 0, array index: 1, length: 5, max length: 4: \
         invalid parameter"
    );
    assert_eq!(
        refused(DataType::Int64, ints(&[1])),
        "insert data does not match: invalid parameter[expected=int64 array][actual=*schemapb.ScalarField_IntData array]"
    );
    let schema = schema_of(vec![array_field(DataType::Int8)]);
    assert_eq!(
        refusal(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2]), texts("a", &["x"], &[])], 1),
        "array field 'a' is illegal, array type mismatch: invalid parameter[expected=need Int8 array][actual=got nil]"
    );
}

#[test]
fn timestamps_are_read_in_a_zone_and_answered_in_another() {
    let time =
        FieldSchema { default_value: Some(Value::Int(0)), is_nullable: true, ..field(102, "t", DataType::Timestamptz) };
    let schema = schema_of(vec![time.clone()]);
    let shanghai = Zone::from_name("Asia/Shanghai").expect("a zone");
    let mut rows = vec![ids(&[1, 2]), vectors(2, &[0.0; 4]), texts("t", &["2025-01-01T08:00:00"], &[true, false])];
    let in_utc = batch_from_wire(&schema, rows.clone(), 2, INSERT).expect("rows");
    assert_eq!(in_utc.columns[2].data, ColumnData::Int64(vec![1_735_718_400_000_000, 0]));
    assert!(resolve(&schema, &mut rows, &shanghai).expect("timestamps"));
    let in_shanghai = batch_from_wire(&schema, rows, 2, INSERT).expect("rows");
    assert_eq!(in_shanghai.columns[2].data, ColumnData::Int64(vec![1_735_689_600_000_000, 0]));
    let style = InstantStyle::new(shanghai.clone(), None).expect("a style");
    let Some(field_data::Field::Scalars(answered)) =
        column_into_wire(&time, in_shanghai.columns[2].clone(), &style).field
    else {
        panic!("a scalar")
    };
    let shown = ["2025-01-01T08:00:00+08:00", "1970-01-01T08:00:00+08:00"].map(str::to_owned).to_vec();
    assert_eq!(answered.data, Some(scalar_field::Data::StringData(schema::StringArray { data: shown })));
    let style = InstantStyle::new(shanghai, Some("year, hour")).expect("a style");
    let wire = column_into_wire(&time, in_shanghai.columns[2].clone(), &style);
    assert_eq!(wire.r#type, DataType::Array as i32);
    assert!(InstantStyle::new(Zone::UTC, Some("century")).is_err());
    for wrong in ["soon", "2025-04-31 00:00:00", "2025-01-01T00:00:00+24:00"] {
        let rows = vec![ids(&[1]), vectors(2, &[0.0; 2]), texts("t", &[wrong], &[])];
        assert!(
            refusal(&schema, rows, 1)
                .starts_with(&format!("got invalid timestamptz string '{wrong}': invalid timezone"))
        );
    }
    let numbers = scalars("t", scalar_field::Data::LongData(schema::LongArray { data: vec![1] }), &[]);
    assert_eq!(
        refusal(&schema, vec![ids(&[1]), vectors(2, &[0.0; 2]), numbers], 1),
        "timestamptz field data must be a string array: invalid parameter"
    );
}

#[test]
fn given_keys_of_automatic_ids_are_kept_only_when_that_is_allowed() {
    let mut schema = schema_of(vec![]);
    schema.fields[0].auto_id = true;
    let rows = || vec![ids(&[5]), vectors(2, &[0.0; 2])];
    let keys = |options| batch_from_wire(&schema, rows(), 1, options).map(|batch| batch_keys(&schema, &batch));
    assert_eq!(keys(RowOptions { takes_keys: true, ..INSERT }).expect("rows"), Keys::Int(vec![5]));
    assert_eq!(keys(RowOptions { takes_keys: true, ..UPSERT }).expect("rows"), Keys::Int(vec![5]));
    assert_eq!(keys(UPSERT).expect("rows"), Keys::Int(vec![7]));
    assert!(keys(INSERT).expect_err("a given key").message.contains("allow_insert_auto_id is false id"));
}
