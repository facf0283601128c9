//! How many rows a second does each operator of the filter language test?
//!
//! One million rows with a fixed seed, sealed (Arrow) form, no nulls unless said; the best of several passes. Run with
//! `cargo bench --bench filter`, with a part of a name to run only those. `benches/peers/filter_peers.py` drives it with
//! `--columns FILE` (an Arrow file): it then makes one pass over the file's columns for each filter it reads from a line.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int8Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use shoaldb::filter::{Plan, Rows, Templates};
use shoaldb::types::{ArrayRow, CollectionSchema, ColumnView, DataType, FieldId, FieldSchema, Validity, Value, Values};

const ROW_COUNT: usize = 1_000_000;
/// The bit of a bitmap that row 0 is: whole files begin at 0, windows of them anywhere.
const FIRST_BIT: usize = 3;
/// Microseconds between two instants.
const MINUTE: i64 = 60_000_000;

struct Table {
    ints: Vec<i64>,
    shorts: Vec<i8>,
    floats: Vec<f32>,
    words: (Vec<i32>, Vec<u8>),
    titles: (Vec<i32>, Vec<u8>),
    instants: Vec<i64>,
    documents: (Vec<i32>, Vec<u8>),
    arrays: (Vec<i32>, Vec<u8>),
    validity: Vec<u8>,
    first_bit: usize,
}

impl Table {
    fn new() -> Table {
        let mut state = 42u64;
        let mut random = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed ^ mixed >> 31
        };
        let numbers: Vec<u64> = (0..ROW_COUNT).map(|_| random() % 1_000_000).collect();
        let texts = |of: fn(u64) -> Vec<u8>| rows_of_bytes(numbers.iter().map(|number| of(*number)));
        Table {
            words: texts(|number| format!("category-{:03}", number % 1000).into_bytes()),
            titles: texts(|number| format!("{}{}", number % 100_000, "x".repeat(number as usize % 23)).into_bytes()),
            instants: numbers.iter().map(|number| *number as i64 * MINUTE).collect(),
            arrays: texts(|number| array_bytes(&[number as i64 % 100, 7, number as i64])),
            documents: texts(|number| {
                format!(
                    r#"{{"title":"document {number} of many","tags":["a","b"],"price":{},"in":{{"stock":{}}}}}"#,
                    number % 500,
                    number % 2 == 0
                )
                .into_bytes()
            }),
            ints: numbers.iter().map(|number| *number as i64).collect(),
            shorts: numbers.iter().map(|number| *number as i8).collect(),
            floats: numbers.iter().map(|number| *number as f32 / 1e6).collect(),
            validity: numbers.iter().map(|number| *number as u8 | 1).collect(),
            first_bit: FIRST_BIT,
        }
    }

    /// The columns of an Arrow file with one record batch.
    fn read(path: &str) -> Table {
        let file = std::fs::File::open(path).expect("the file of columns is there");
        let mut batches = arrow_ipc::reader::FileReader::try_new(file, None).expect("an Arrow file");
        let batch: RecordBatch = batches.next().expect("a record batch").expect("a whole record batch");
        let column = |name: &str| batch.column_by_name(name).expect("a column of the bench");
        let text = |name: &str| {
            let column = column(name).as_string::<i32>();
            (column.offsets().to_vec(), column.values().to_vec())
        };
        let lists = column("list").as_list::<i32>();
        let list = |row: usize| array_bytes(lists.value(row).as_primitive::<Int64Type>().values());
        let nulls = column("nullable").nulls().expect("a column with nulls");
        assert_eq!(nulls.offset() % 8, 0);
        assert_eq!(batch.num_rows(), ROW_COUNT);
        Table {
            ints: column("number").as_primitive::<Int64Type>().values().to_vec(),
            shorts: column("short").as_primitive::<Int8Type>().values().to_vec(),
            floats: column("share").as_primitive::<Float32Type>().values().to_vec(),
            words: text("word"),
            titles: text("title"),
            instants: column("instant").as_primitive::<TimestampMicrosecondType>().values().to_vec(),
            documents: text("document"),
            arrays: rows_of_bytes((0..ROW_COUNT).map(list)),
            validity: nulls.validity()[nulls.offset() / 8..].to_vec(),
            first_bit: 0,
        }
    }
}

fn rows_of_bytes(rows: impl Iterator<Item = Vec<u8>>) -> (Vec<i32>, Vec<u8>) {
    let (mut offsets, mut bytes) = (vec![0], Vec::new());
    for row in rows {
        bytes.extend(row);
        offsets.push(bytes.len() as i32);
    }
    (offsets, bytes)
}

fn array_bytes(elements: &[i64]) -> Vec<u8> {
    ArrayRow::encode(&elements.iter().map(|element| Value::Int(*element)).collect::<Vec<_>>(), DataType::Int64)
}

impl Rows for Table {
    fn row_count(&self) -> usize {
        ROW_COUNT
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let values = match field.name.as_str() {
            "number" | "nullable" => Values::Int64(&self.ints),
            "short" => Values::Int8(&self.shorts),
            "share" => Values::Float(&self.floats),
            "word" => text(&self.words),
            "title" => text(&self.titles),
            "instant" => Values::Int64(&self.instants),
            "list" => text(&self.arrays),
            _ => text(&self.documents),
        };
        let validity = match field.name.as_str() {
            "nullable" => Validity::Bits { bits: &self.validity, offset: self.first_bit },
            _ => Validity::All,
        };
        Some(ColumnView { values, validity })
    }
}

fn text((offsets, bytes): &(Vec<i32>, Vec<u8>)) -> Values<'_> {
    Values::Text { offsets, bytes }
}

fn schema() -> CollectionSchema {
    let field = |(index, (name, data_type)): (usize, &(&str, DataType))| FieldSchema {
        element_type: (*data_type == DataType::Array).then_some(DataType::Int64),
        is_nullable: true,
        is_dynamic: *name == "$meta",
        ..FieldSchema::new(FieldId(100 + index as i64), *name, *data_type)
    };
    let fields = [
        ("number", DataType::Int64),
        ("nullable", DataType::Int64),
        ("short", DataType::Int8),
        ("share", DataType::Float),
        ("word", DataType::VarChar),
        ("title", DataType::VarChar),
        ("instant", DataType::Timestamptz),
        ("document", DataType::Json),
        ("$meta", DataType::Json),
        ("list", DataType::Array),
    ];
    CollectionSchema {
        description: String::new(),
        fields: fields.iter().enumerate().map(field).collect(),
        enable_dynamic_field: true,
        version: 1,
    }
}

/// `in` with so many integers, `step` apart.
fn list(count: usize, step: usize) -> String {
    (0..count).map(|index| (index * step + 1).to_string()).collect::<Vec<_>>().join(",")
}

/// Plans of long lists: as long again takes as long again.
fn plan_times() {
    for count in [10_000, 100_000, 1_000_000] {
        let text = format!("number in [{}]", list(count, 7));
        let start = Instant::now();
        let plan = Plan::new(&text, &schema(), &Templates::default()).expect("a filter");
        let planned = start.elapsed();
        drop(plan);
        println!("plan of in {count:<9} {:>10.0} ns a value", planned.as_nanos() as f64 / count as f64);
    }
}

/// What this process used: on a busy machine the clock on the wall says more of the others.
fn cpu_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID;
    nix::time::clock_gettime(clock).expect("every Linux has this clock").into()
}

/// One pass for each line; answers seconds and matches.
fn serve(path: &str) {
    let table = Table::read(path);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let text = line.expect("a line of text");
        let plan = Plan::new(&text, &schema(), &Templates::default()).expect("a filter");
        let start = cpu_time();
        let found = plan.evaluate(&table);
        let taken = cpu_time() - start;
        println!("{} {}", taken.as_secs_f64(), found.count_ones());
        std::io::stdout().flush().expect("somebody reads");
    }
}

/// Name and filter.
fn cases() -> Vec<(&'static str, String)> {
    let words = |count: usize| (0..count).map(|word| format!("'category-{word:03}'")).collect::<Vec<_>>().join(",");
    vec![
        ("int64 <", "number < 500000".to_string()),
        ("int64 ==", "number == 5".into()),
        ("int64 < with nulls", "nullable < 500000".into()),
        ("is null", "nullable is null".into()),
        ("in 10 with nulls", format!("nullable in [{}]", list(10, 7919))),
        ("int64 range", "1000 < number <= 600000".into()),
        ("int8 <", "short < 5".into()),
        ("float <", "share < 0.5".into()),
        ("int64 + == ", "number + 5 == 7".into()),
        ("in 10", format!("number in [{}]", list(10, 7919))),
        ("in 16", format!("number in [{}]", list(16, 7919))),
        ("in 17", format!("number in [{}]", list(17, 58_001))),
        ("in 1000 dense", format!("number in [{}]", list(1000, 3))),
        ("in 1000 sparse", format!("number in [{}]", list(1000, 991))),
        ("in 100000 sparse", format!("number in [{}]", list(100_000, 7919))),
        ("varchar ==", "word == 'category-007'".into()),
        ("varchar <", "word < 'category-500'".into()),
        ("varchar in 10", format!("word in [{}]", words(10))),
        ("varchar in 500", format!("word in [{}]", words(500))),
        ("title ==", "title == '54321xxxx'".into()),
        ("title <", "title < '5'".into()),
        (
            "title in 10",
            format!("title in [{}]", (0..10).map(|title| format!("'{title}54xx'")).collect::<Vec<_>>().join(",")),
        ),
        ("instant <", "instant < ISO '1971-01-01T00:00:00Z'".into()),
        ("instant + month <", "instant + INTERVAL 'P1M' < ISO '1971-01-01T00:00:00Z'".into()),
        ("like prefix", "word like 'category-00%'".into()),
        ("like inner", "word like '%y-00%'".into()),
        ("regex", "word =~ '-0[0-4]7$'".into()),
        ("array length", "array_length(list) == 3".into()),
        ("array element", "list[0] < 50".into()),
        ("array contains", "array_contains(list, 5)".into()),
        ("json number <", "document['price'] < 250".into()),
        ("json number in 10", format!("document['price'] in [{}]", list(10, 37))),
        ("json text ==", "document['title'] == 'document 5 of many'".into()),
        ("json contains", "json_contains(document['tags'], 'b')".into()),
        ("dynamic field <", "price < 250".into()),
        ("dynamic field missing", "colour < 250".into()),
        ("json nested bool", "document['in']['stock'] == true".into()),
        ("and of int, json", "document['price'] < 250 and number < 10000".into()),
        ("and", "number < 500000 and share > 0.25 and short > 0".into()),
        ("or", "number < 500000 or share > 0.75 or short > 0".into()),
    ]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--columns") {
        return serve(&arguments[place + 1]);
    }
    plan_times();
    let table = Table::new();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!("{:<22} {:>12} {:>10}", "filter", "Mrows/s", "matches");
    for (name, text) in cases() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let plan = Plan::new(&text, &schema(), &Templates::default()).expect("the bench's filters are right");
        let mut best = Duration::MAX;
        let mut matches = 0;
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            let start = Instant::now();
            let found = plan.evaluate(&table);
            best = best.min(start.elapsed());
            matches = found.count_ones();
        }
        println!("{name:<22} {:>12.0} {matches:>10}", ROW_COUNT as f64 / best.as_secs_f64() / 1e6);
    }
}
