//! One case of the filter's fuzz target: any bytes as a filter, on a small table with every type of field. Included by the target
//! and by `tests/filter_fuzz.rs`.

use std::sync::OnceLock;

use shoaldb::filter::{Plan, Rows, TemplateValue, Templates};
use shoaldb::types::{
    ArrayRow, Bitmap, CollectionSchema, ColumnView, DataType, FieldId, FieldSchema, Nulls, Validity, Value, ValueRange,
    Values,
};

/// Rows of the table: more than a word of a bitmap, and not a whole number of them.
const ROW_COUNT: usize = 131;

/// Plans and evaluates; panics when something does not hold.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let world = world();
    let plan = match Plan::new(&text, &world.schema, &world.templates) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(error.query_plan_message(&text).starts_with("failed to create query plan: "), "{error}");
            return;
        }
    };
    let [growing, sealed] = [false, true].map(|is_sealed| evaluate(&plan, &Table { world, is_sealed }));
    // A sample is another one each time.
    if text.to_ascii_lowercase().contains("random_sample") {
        return;
    }
    assert_eq!(growing, sealed, "`{text}`: both forms of columns hold the same rows");
    assert!(!plan.is_match_all() || growing.count_ones() == ROW_COUNT, "`{text}` matches every row");
    // The opposite: no row is in both, and it can be planned, too. Only its parentheses may be one too many.
    if let Ok(opposite) = Plan::new(&format!("not ({text})"), &world.schema, &world.templates) {
        let mut both = evaluate(&opposite, &Table { world, is_sealed: false });
        both.and(&growing);
        assert_eq!(both.count_ones(), 0, "`{text}` and its opposite match a row");
    }
}

fn evaluate(plan: &Plan, table: &Table<'_>) -> Bitmap {
    let found = plan.evaluate(table);
    assert_eq!(found.row_count(), ROW_COUNT);
    assert!(found.iter_ones().all(|row| row < ROW_COUNT), "a bit behind the last row");
    assert!(!plan.excludes(table) || found.count_ones() == 0, "a file is excluded that has rows");
    found
}

/// A column in the form of growing files; the other form is made of it.
enum Buffer {
    Bool(Vec<u8>),
    Int8(Vec<i8>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    Text(Vec<i32>, Vec<u8>),
}

struct Column {
    buffer: Buffer,
    is_valid: Vec<u8>,
    valid_bits: Vec<u8>,
    bool_bits: Vec<u8>,
    range: Option<ValueRange>,
}

struct World {
    schema: CollectionSchema,
    columns: Vec<(FieldId, Column)>,
    templates: Templates,
}

struct Table<'a> {
    world: &'a World,
    is_sealed: bool,
}

impl Table<'_> {
    fn find(&self, field: FieldId) -> Option<&Column> {
        self.world.columns.iter().find(|(id, _)| *id == field).map(|(_, column)| column)
    }
}

impl Rows for Table<'_> {
    fn row_count(&self) -> usize {
        ROW_COUNT
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let column = self.find(field.id)?;
        let values = match &column.buffer {
            Buffer::Bool(_) if self.is_sealed => Values::BoolBits { bits: &column.bool_bits, offset: 3 },
            Buffer::Bool(bytes) => Values::BoolBytes(bytes),
            Buffer::Int8(values) => Values::Int8(values),
            Buffer::Int32(values) => Values::Int32(values),
            Buffer::Int64(values) => Values::Int64(values),
            Buffer::Float(values) => Values::Float(values),
            Buffer::Double(values) => Values::Double(values),
            Buffer::Text(offsets, bytes) => Values::Text { offsets, bytes },
        };
        let validity = match (field.is_nullable, self.is_sealed) {
            (false, _) => Validity::All,
            (true, false) => Validity::Bytes(&column.is_valid),
            (true, true) => Validity::Bits { bits: &column.valid_bits, offset: 3 },
        };
        Some(ColumnView { values, validity })
    }

    fn known(&self, field: FieldId) -> Option<(Nulls, Option<&ValueRange>)> {
        let column = self.find(field).filter(|_| self.is_sealed)?;
        let nulls = if column.is_valid.contains(&0) { Nulls::Some } else { Nulls::None };
        Some((nulls, column.range.as_ref()))
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let fields = fields();
        let columns = fields
            .iter()
            .filter(|field| !field.data_type.is_vector() && field.name != "late")
            .map(|field| (field.id, column(field)))
            .collect();
        let values = [
            ("x", TemplateValue::Int(1)),
            ("s", TemplateValue::Text("a%".into())),
            ("l", TemplateValue::List(vec![TemplateValue::Int(1), TemplateValue::Int(7)])),
            ("j", TemplateValue::Json(b"[1, \"a\", 2.5]".to_vec())),
        ];
        World {
            schema: CollectionSchema { description: String::new(), fields, enable_dynamic_field: true, version: 1 },
            columns,
            templates: Templates {
                values: values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                ..Templates::default()
            },
        }
    })
}

fn fields() -> Vec<FieldSchema> {
    let names = [
        ("id", DataType::Int64),
        ("b", DataType::Bool),
        ("i8", DataType::Int8),
        ("i32", DataType::Int32),
        ("f", DataType::Float),
        ("d", DataType::Double),
        ("s", DataType::VarChar),
        ("j", DataType::Json),
        ("ts", DataType::Timestamptz),
        ("ai", DataType::Array),
        ("at", DataType::Array),
        ("v", DataType::FloatVector),
        ("late", DataType::Int32),
        ("$meta", DataType::Json),
    ];
    let field = |(index, (name, data_type)): (usize, (&str, DataType))| FieldSchema {
        element_type: match name {
            "ai" => Some(DataType::Int32),
            "at" => Some(DataType::VarChar),
            _ => None,
        },
        is_primary: name == "id",
        is_nullable: name != "id",
        default_value: (name == "late").then_some(Value::Int(7)),
        is_dynamic: name == "$meta",
        ..FieldSchema::new(FieldId(100 + index as i64), name, data_type)
    };
    names.into_iter().enumerate().map(field).collect()
}

fn column(field: &FieldSchema) -> Column {
    let is_valid: Vec<bool> =
        (0..ROW_COUNT).map(|row| !field.is_nullable || !(row + field.id.0 as usize).is_multiple_of(5)).collect();
    let numbers: Vec<i64> = (0..ROW_COUNT as i64).map(|row| row * 37 % 19 - 6).collect();
    let range_of = |scale: i64| {
        let seen =
            || numbers.iter().zip(&is_valid).filter(|(_, is_valid)| **is_valid).map(|(number, _)| number * scale);
        seen().min().zip(seen().max()).map(|(min, max)| ValueRange::Integers { min, max })
    };
    let texts = |text: &dyn Fn(i64) -> Vec<u8>| {
        let (mut offsets, mut bytes) = (vec![0], Vec::new());
        for (number, is_valid) in numbers.iter().zip(&is_valid) {
            bytes.extend(if *is_valid { text(*number) } else { Vec::new() });
            offsets.push(bytes.len() as i32);
        }
        Buffer::Text(offsets, bytes)
    };
    let mut range = None;
    let mut bool_bits = Vec::new();
    let buffer = match (field.data_type, field.name.as_str()) {
        (DataType::Bool, _) => {
            let bools: Vec<bool> = numbers.iter().map(|number| *number > 0).collect();
            bool_bits = bits(&bools);
            Buffer::Bool(bools.into_iter().map(u8::from).collect())
        }
        (DataType::Int8, _) => {
            range = range_of(1);
            Buffer::Int8(numbers.iter().map(|number| *number as i8).collect())
        }
        (DataType::Int32, _) => {
            range = range_of(1000);
            Buffer::Int32(numbers.iter().map(|number| *number as i32 * 1000).collect())
        }
        (DataType::Int64, _) => Buffer::Int64((0..ROW_COUNT as i64).collect()),
        (DataType::Timestamptz, _) => Buffer::Int64(numbers.iter().map(|number| number * 43_200_000_000).collect()),
        (DataType::Float, _) => Buffer::Float(numbers.iter().map(|number| *number as f32 / 4.0).collect()),
        (DataType::Double, _) => Buffer::Double(numbers.iter().map(|number| *number as f64 / 10.0).collect()),
        (DataType::Array, "ai") => texts(&|number| {
            let elements: Vec<Value> = (0..number.max(0) % 5).map(|element| Value::Int(element * number)).collect();
            ArrayRow::encode(&elements, DataType::Int32)
        }),
        (DataType::Array, _) => texts(&|number| {
            ArrayRow::encode_texts(
                &(0..number.max(0) % 4).map(|element| "äb".repeat(element as usize)).collect::<Vec<_>>(),
            )
        }),
        (DataType::VarChar, _) => texts(&|number| "ab%c"[..(number.max(0) % 5) as usize].into()),
        _ => texts(&|number| {
            format!(
                r#"{{"a":{number},"b":[1,"x",{{"c":null}},{number}.5],"s":"a{number}\n","t":{},"e":{{}}}}"#,
                number > 2
            )
            .into_bytes()
        }),
    };
    Column {
        buffer,
        valid_bits: bits(&is_valid),
        is_valid: is_valid.into_iter().map(u8::from).collect(),
        bool_bits,
        range,
    }
}

/// Arrow's bits, the first of which is bit 3.
fn bits(flags: &[bool]) -> Vec<u8> {
    let mut bits = vec![0xff; (flags.len() + 3).div_ceil(8)];
    for (row, flag) in flags.iter().enumerate().filter(|(_, flag)| !**flag) {
        bits[(row + 3) / 8] ^= u8::from(!flag) << ((row + 3) % 8);
    }
    bits
}
