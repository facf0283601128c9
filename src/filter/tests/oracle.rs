//! The evaluator against a slow and obvious one: random expressions on random rows, a row at a time, TRUE, FALSE or
//! UNKNOWN as `Option<bool>`. It shares nothing with the evaluator but the text of the expression.
//!
//! `SHOAL_FILTER_SEED` replays one case, `SHOAL_FILTER_CASES` sets how many are tried.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::fixture::{Form, Table, schema};
use crate::filter::{Plan, Templates};
use crate::types::{FieldId, Nulls, ValueRange, Zone};

type Row = Map<String, Json>;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const INTS: [&str; 5] = ["i8", "i16", "i32", "i64", "id"];
const FLOATS: [&str; 2] = ["f", "d"];
const TEXTS: [&str; 2] = ["s", "t"];
const ARRAYS: [&str; 6] = ["ai", "a16", "at", "af", "ad", "ab"];
/// With months, days, hours; in microseconds where they have a length of their own.
const INTERVALS: [(&str, i64); 4] =
    [("P1D", 86_400_000_000), ("PT36H", 129_600_000_000), ("P1DT1S", 86_401_000_000), ("PT0S", 0)];
const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];
const WORDS: [&str; 10] = ["", "a", "ab", "abc", "b", "ba", "äb", "a%", "a_c", "abcabcabc"];
const PATTERNS: [&str; 10] = ["%", "a%", "%b", "%b%", "_b", "a_c", "abc", "", "a%c", "_%_"];

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Place {
    Column(&'static str),
    /// Of `j`, or with an empty first key of the dynamic field.
    Path(Vec<Json>),
    Element(&'static str, usize),
}

#[derive(Clone, Debug)]
enum Expression {
    Compare { place: Place, comparison: &'static str, constant: Json, is_reversed: bool },
    Range { place: Place, low: Json, includes_low: bool, high: Json, includes_high: bool, is_reversed: bool },
    In { place: Place, list: Vec<Json>, is_negated: bool },
    Like { place: Place, pattern: &'static str },
    Arithmetic { place: Place, operator: &'static str, operand: Json, comparison: &'static str, constant: Json },
    Columns { left: &'static str, comparison: &'static str, right: &'static str },
    Null { place: Place, is_negated: bool },
    Exists(Place),
    Length { place: Place, comparison: &'static str, constant: i64 },
    Contains { kind: &'static str, place: Place, constant: Json },
    WholeArray { name: &'static str, is_negated: bool, list: Vec<Json> },
    Instant { comparison: &'static str, instant: i64, interval: Option<(&'static str, i64, bool)>, is_reversed: bool },
    Constant(bool),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

// Making rows and expressions.

fn random_int(random: &mut Random) -> i64 {
    match random.below(12) {
        0 => 127,
        1 => -128,
        2 => i64::from(i32::MAX),
        _ => random.below(9) as i64 - 4,
    }
}

fn random_float(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => 0.1,
        1 => -0.0,
        2 => 1e9,
        _ => (random.below(17) as f64 - 8.0) / 4.0,
    }
}

fn random_scalar(random: &mut Random) -> Json {
    match random.below(6) {
        0 | 1 => json!(random_int(random)),
        2 => json!(random_float(random)),
        3 => json!(random.chance(50)),
        _ => json!(random.pick(&WORDS)),
    }
}

fn random_document(random: &mut Random, depth: usize) -> Json {
    match random.below(if depth == 0 { 7 } else { 12 }) {
        0 => Json::Null,
        1..7 => random_scalar(random),
        7 | 8 => Json::Array((0..random.below(4)).map(|_| random_document(random, depth - 1)).collect()),
        _ => {
            let keys = ["a", "b", "0", "k\"y\\"];
            let count = random.below(4);
            let entries = keys.iter().take(count).map(|key| ((*key).to_string(), random_document(random, depth - 1)));
            Json::Object(entries.collect())
        }
    }
}

fn random_row(random: &mut Random, id: usize) -> Row {
    let mut row = Row::new();
    let mut set = |name: &str, value: Json, random: &mut Random| {
        if !random.chance(20) {
            row.insert(name.into(), value);
        }
    };
    for (name, bits) in [("i8", 8), ("i16", 16), ("i32", 32), ("i64", 64)] {
        let value = random_int(random);
        set(
            name,
            json!(if bits == 64 { value } else { value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }),
            random,
        );
    }
    set("b", json!(random.chance(50)), random);
    set("f", json!(f64::from(random_float(random) as f32)), random);
    set("d", json!(random_float(random)), random);
    set("s", json!(random.pick(&WORDS)), random);
    set("t", json!(random.pick(&WORDS)), random);
    let ints: Vec<i64> = (0..random.below(4)).map(|_| random_int(random)).collect();
    set("ai", json!(ints), random);
    let texts: Vec<&str> = (0..random.below(4)).map(|_| random.pick(&WORDS)).collect();
    set("at", json!(texts), random);
    for name in ["a16", "af", "ad", "ab"] {
        let elements: Vec<Json> = (0..random.below(4)).map(|_| random_element(random, name)).collect();
        set(name, Json::Array(elements), random);
    }
    let instant = random_instant(random);
    set("ts", json!(instant), random);
    let document = random_document(random, 3);
    set("j", document, random);
    set("$meta", json!({ "color": random_document(random, 1), "b2": random_scalar(random) }), random);
    row.insert("id".into(), json!(id as i64 - 4));
    row
}

/// What an element of an array is, as the column holds it.
fn random_element(random: &mut Random, name: &str) -> Json {
    match name {
        "ai" | "a16" => json!(random_int(random).clamp(-32768, 32767)),
        "at" => json!(random.pick(&WORDS)),
        "ab" => json!(random.chance(50)),
        "af" => json!(f64::from(random_float(random) as f32)),
        _ => json!(random_float(random)),
    }
}

fn random_instant(random: &mut Random) -> i64 {
    (random.below(9) as i64 - 4) * 43_200_000_000 + random.below(2) as i64
}

fn random_path(random: &mut Random) -> Place {
    if random.chance(25) {
        return Place::Path(vec![json!(""), json!(random.pick(&["color", "b2", "none"]))]);
    }
    let steps = [json!("a"), json!("b"), json!("0"), json!("k\"y\\"), json!(0), json!(1)];
    Place::Path((0..1 + random.below(3)).map(|_| steps[random.below(steps.len())].clone()).collect())
}

/// A place and a constant of a type that it can be compared with.
fn random_operands(random: &mut Random) -> (Place, Json) {
    match random.below(9) {
        0 | 1 => (Place::Column(random.pick(&INTS)), json!(random_int(random))),
        2 => {
            let constant = if random.chance(50) { json!(random_float(random)) } else { json!(random_int(random)) };
            (Place::Column(random.pick(&FLOATS)), constant)
        }
        3 => (Place::Column(random.pick(&TEXTS)), json!(random.pick(&WORDS))),
        4 => (Place::Element("ai", random.below(3)), json!(random_int(random))),
        5 => {
            let name = random.pick(&ARRAYS);
            (Place::Element(name, random.below(3)), random_element(random, name))
        }
        _ => (random_path(random), random_scalar(random)),
    }
}

fn random_leaf(random: &mut Random) -> Expression {
    match random.below(16) {
        14 => {
            let name = random.pick(&ARRAYS);
            let list = (0..random.below(4)).map(|_| random_element(random, name)).collect();
            Expression::WholeArray { name, is_negated: random.chance(40), list }
        }
        15 => Expression::Instant {
            comparison: random.pick(&COMPARISONS),
            instant: random_instant(random),
            interval: random.chance(50).then(|| {
                let (text, length) = random.pick(&INTERVALS);
                (text, length, random.chance(50))
            }),
            is_reversed: random.chance(30),
        },
        0..4 => {
            let (place, constant) = random_operands(random);
            let comparisons = if constant.is_boolean() { &COMPARISONS[4..] } else { &COMPARISONS[..] };
            Expression::Compare {
                place,
                comparison: random.pick(comparisons),
                constant,
                is_reversed: random.chance(20),
            }
        }
        4 => {
            let comparison = random.pick(&COMPARISONS[4..]);
            let constant = json!(random.chance(50));
            Expression::Compare { place: Place::Column("b"), comparison, constant, is_reversed: false }
        }
        5 => random_range(random),
        6 => {
            let (place, first) = random_operands(random);
            let mut list = vec![first.clone()];
            while random.chance(70) && list.len() < 30 {
                list.push(match &first {
                    _ if matches!(place, Place::Path(_)) => random_scalar(random),
                    Json::String(_) => json!(random.pick(&WORDS)),
                    Json::Bool(_) => json!(random.chance(50)),
                    Json::Number(number) if number.is_f64() => json!(random_float(random)),
                    _ => json!(random_int(random)),
                });
            }
            list.truncate(random.below(list.len() + 1));
            Expression::In { place, list, is_negated: random.chance(30) }
        }
        7 => {
            let place = match random.below(3) {
                0 => random_path(random),
                1 => Place::Element("at", random.below(2)),
                _ => Place::Column(random.pick(&TEXTS)),
            };
            Expression::Like { place, pattern: random.pick(&PATTERNS) }
        }
        8 => random_arithmetic(random),
        9 => {
            let (left, right) = match random.below(3) {
                0 => (random.pick(&TEXTS), random.pick(&TEXTS)),
                1 => (random.pick(&INTS), random.pick(&FLOATS)),
                _ => (random.pick(&INTS), random.pick(&INTS)),
            };
            Expression::Columns { left, comparison: random.pick(&COMPARISONS), right }
        }
        10 => {
            let place = if random.chance(50) {
                random_path(random)
            } else {
                Place::Column(random.pick(&["i8", "s", "j", "ai", "af", "ts"]))
            };
            Expression::Null { place, is_negated: random.chance(50) }
        }
        11 => Expression::Exists(random_path(random)),
        12 => {
            let place = if random.chance(50) { random_path(random) } else { Place::Column(random.pick(&ARRAYS)) };
            Expression::Length { place, comparison: random.pick(&COMPARISONS), constant: random.below(4) as i64 }
        }
        _ => random_contains(random),
    }
}

fn random_range(random: &mut Random) -> Expression {
    let (place, low, high) = match random.below(5) {
        4 => {
            let name = random.pick(&ARRAYS[..5]);
            (Place::Element(name, random.below(2)), random_element(random, name), random_element(random, name))
        }
        0 => (Place::Column(random.pick(&INTS)), json!(random_int(random)), json!(random_int(random))),
        1 => (Place::Column(random.pick(&FLOATS)), json!(random_float(random)), json!(random_int(random))),
        2 => (Place::Column(random.pick(&TEXTS)), json!(random.pick(&WORDS)), json!(random.pick(&WORDS))),
        _ => (random_path(random), json!(random_int(random)), json!(random_float(random))),
    };
    let is_ordered = order(&low, &high).is_some_and(|order| order == Ordering::Less);
    let (low, high) = if is_ordered { (low, high) } else { (high, low) };
    let (includes_low, includes_high) =
        if order(&low, &high) == Some(Ordering::Equal) { (true, true) } else { (random.chance(50), random.chance(50)) };
    Expression::Range { place, low, includes_low, high, includes_high, is_reversed: random.chance(30) }
}

fn random_arithmetic(random: &mut Random) -> Expression {
    let comparison = random.pick(&COMPARISONS);
    let nonzero = 1 + random.below(4) as i64;
    match random.below(4) {
        3 => Expression::Arithmetic {
            place: Place::Element(random.pick(&["ai", "a16"]), random.below(2)),
            operator: random.pick(&["+", "-", "*", "/", "%", "&", "|", "^"]),
            operand: json!(nonzero),
            comparison,
            constant: json!(random_int(random)),
        },
        0 => Expression::Arithmetic {
            place: Place::Column(random.pick(&INTS)),
            operator: random.pick(&["+", "-", "*", "/", "%", "&", "|", "^"]),
            operand: json!(nonzero),
            comparison,
            constant: json!(random_int(random)),
        },
        1 => Expression::Arithmetic {
            place: Place::Column(random.pick(&FLOATS)),
            operator: random.pick(&["+", "-", "*", "/"]),
            operand: json!(nonzero as f64 / 2.0),
            comparison,
            constant: json!(random_float(random)),
        },
        _ => Expression::Arithmetic {
            place: random_path(random),
            operator: random.pick(&["+", "-", "*"]),
            operand: if random.chance(50) { json!(nonzero) } else { json!(nonzero as f64 / 2.0) },
            comparison,
            constant: if random.chance(50) { json!(random_int(random)) } else { json!(random_float(random)) },
        },
    }
}

fn random_contains(random: &mut Random) -> Expression {
    let kind = random.pick(&["contains", "contains_all", "contains_any"]);
    let (place, name) = match random.below(3) {
        0 => (random_path(random), None),
        _ => {
            let name = random.pick(&ARRAYS);
            (Place::Column(name), Some(name))
        }
    };
    let element = |random: &mut Random| match name {
        Some(name) => random_element(random, name),
        None => random_scalar(random),
    };
    let constant = if kind == "contains" {
        element(random)
    } else {
        Json::Array((0..random.below(4)).map(|_| element(random)).collect())
    };
    Expression::Contains { kind, place, constant }
}

fn random_expression(random: &mut Random, depth: usize) -> Expression {
    if depth == 0 || random.chance(30) {
        return if random.chance(3) { Expression::Constant(random.chance(50)) } else { random_leaf(random) };
    }
    let children =
        |random: &mut Random| (0..2 + random.below(3)).map(|_| random_expression(random, depth - 1)).collect();
    match random.below(3) {
        0 => Expression::Not(Box::new(random_expression(random, depth - 1))),
        1 => Expression::And(children(random)),
        _ => Expression::Or(children(random)),
    }
}

// Writing them down.

fn constant_text(constant: &Json) -> String {
    match constant {
        Json::Array(values) => format!("[{}]", values.iter().map(constant_text).collect::<Vec<_>>().join(", ")),
        // As Rust writes it a float keeps its point; the language has no exponent without digits either.
        Json::Number(number) if number.is_f64() => format!("{:?}", number.as_f64().unwrap()),
        other => other.to_string(),
    }
}

fn place_text(place: &Place) -> String {
    match place {
        Place::Column(name) => (*name).to_string(),
        Place::Element(name, index) => format!("{name}[{index}]"),
        Place::Path(steps) if steps[0] == json!("") => steps[1].as_str().unwrap().to_string(),
        Place::Path(steps) => steps.iter().fold("j".to_string(), |mut text, step| {
            write!(text, "[{step}]").unwrap();
            text
        }),
    }
}

fn text(expression: &Expression) -> String {
    let mirrored = |comparison: &str| match comparison {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        _ => {
            if comparison == "==" {
                "=="
            } else {
                "!="
            }
        }
    };
    let chain = |children: &[Expression], word: &str| {
        children.iter().map(|child| format!("({})", text(child))).collect::<Vec<_>>().join(word)
    };
    match expression {
        Expression::Compare { place, comparison, constant, is_reversed: false } => {
            format!("{} {comparison} {}", place_text(place), constant_text(constant))
        }
        Expression::Compare { place, comparison, constant, is_reversed: true } => {
            format!("{} {} {}", constant_text(constant), mirrored(comparison), place_text(place))
        }
        Expression::Range { place, low, includes_low, high, includes_high, is_reversed } => {
            let place = place_text(place);
            let (low, high) = (constant_text(low), constant_text(high));
            let (left, right) = (if *includes_low { "<=" } else { "<" }, if *includes_high { "<=" } else { "<" });
            if *is_reversed {
                format!("{high} {} {place} {} {low}", mirrored(right), mirrored(left))
            } else {
                format!("{low} {left} {place} {right} {high}")
            }
        }
        Expression::In { place, list, is_negated } => {
            let word = if *is_negated { "not in" } else { "in" };
            format!("{} {word} {}", place_text(place), constant_text(&Json::Array(list.clone())))
        }
        Expression::Like { place, pattern } => format!("{} like \"{pattern}\"", place_text(place)),
        Expression::Arithmetic { place, operator, operand, comparison, constant } => {
            let place = place_text(place);
            format!("({place} {operator} {}) {comparison} {}", constant_text(operand), constant_text(constant))
        }
        Expression::Columns { left, comparison, right } => format!("{left} {comparison} {right}"),
        Expression::Null { place, is_negated } => {
            format!("{} {}", place_text(place), if *is_negated { "is not null" } else { "is null" })
        }
        Expression::Exists(place) => format!("exists {}", place_text(place)),
        Expression::Length { place, comparison, constant } => {
            format!("array_length({}) {comparison} {constant}", place_text(place))
        }
        Expression::Contains { kind, place, constant } => {
            let family = if matches!(place, Place::Path(_)) { "json" } else { "array" };
            format!("{family}_{kind}({}, {})", place_text(place), constant_text(constant))
        }
        Expression::WholeArray { name, is_negated, list } => {
            format!("{name} {} {}", if *is_negated { "!=" } else { "==" }, constant_text(&Json::Array(list.clone())))
        }
        Expression::Instant { comparison, instant, interval, is_reversed } => {
            let instant = format!("ISO '{}'", Zone::UTC.show(*instant));
            let column = match interval {
                None => "ts".to_string(),
                Some((text, _, is_added)) => format!("ts {} INTERVAL '{text}'", if *is_added { "+" } else { "-" }),
            };
            match is_reversed {
                true => format!("{instant} {} {column}", mirrored(comparison)),
                false => format!("{column} {comparison} {instant}"),
            }
        }
        Expression::Constant(value) => value.to_string(),
        Expression::Not(child) => format!("not ({})", text(child)),
        Expression::And(children) => chain(children, " and "),
        Expression::Or(children) => chain(children, " or "),
    }
}

// Evaluating them.

fn order(left: &Json, right: &Json) -> Option<Ordering> {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Json::String(left), Json::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Json::Bool(left), Json::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn compare(left: &Json, comparison: &str, right: &Json) -> Option<bool> {
    let order = order(left, right)?;
    Some(match comparison {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        ">=" => order.is_ge(),
        "==" => order.is_eq(),
        _ => order.is_ne(),
    })
}

/// The value at a place, and `None` where there is none.
fn value<'a>(row: &'a Row, place: &Place) -> Option<&'a Json> {
    match place {
        Place::Column(name) => row.get(*name),
        Place::Element(name, index) => row.get(*name)?.get(index),
        Place::Path(steps) => {
            let (mut value, steps) = match steps.first() {
                Some(first) if *first == json!("") => (row.get("$meta")?, &steps[1..]),
                _ => (row.get("j")?, &steps[..]),
            };
            for step in steps {
                let key = step.as_str().map_or_else(|| step.to_string(), str::to_string);
                value = match value {
                    Json::Object(object) => object.get(&key)?,
                    Json::Array(array) => array.get(key.parse::<usize>().ok()?)?,
                    _ => return None,
                };
            }
            Some(value)
        }
    }
}

/// A constant as the column holds it: `Float` columns have less precision.
fn stored(place: &Place, constant: &Json) -> Json {
    match (place, constant.as_f64()) {
        (Place::Column("f") | Place::Element("af", _), Some(value)) => json!(f64::from(value as f32)),
        _ => constant.clone(),
    }
}

fn holds_anything(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Array(values) => values.iter().any(holds_anything),
        Json::Object(values) => values.values().any(holds_anything),
        _ => true,
    }
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|start| like(&text[start..], rest)),
        Some((first, rest)) => {
            text.split_first().is_some_and(|(head, tail)| (*first == '_' || first == head) && like(tail, rest))
        }
    }
}

fn arithmetic(left: &Json, operator: &str, right: &Json) -> Option<Json> {
    if let (Some(left), Some(right)) = (left.as_i64(), right.as_i64()) {
        return Some(json!(match operator {
            "+" => left.wrapping_add(right),
            "-" => left.wrapping_sub(right),
            "*" => left.wrapping_mul(right),
            "/" => left / right,
            "%" => left % right,
            "&" => left & right,
            "|" => left | right,
            _ => left ^ right,
        }));
    }
    let (left, right) = (left.as_f64()?, right.as_f64()?);
    Some(json!(match operator {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ => left / right,
    }))
}

fn same_type(left: &Json, right: &Json) -> bool {
    left.is_number() && right.is_number()
        || left.is_string() && right.is_string()
        || left.is_boolean() && right.is_boolean()
}

fn contains(values: &[Json], wanted: &Json) -> bool {
    values.iter().any(|value| order(value, wanted) == Some(Ordering::Equal))
}

fn evaluate(row: &Row, expression: &Expression) -> Option<bool> {
    match expression {
        Expression::Compare { place, comparison, constant, .. } => {
            compare(value(row, place)?, comparison, &stored(place, constant))
        }
        Expression::Range { place, low, includes_low, high, includes_high, .. } => {
            let value = value(row, place)?;
            let above = compare(value, if *includes_low { ">=" } else { ">" }, &stored(place, low))?;
            Some(above && compare(value, if *includes_high { "<=" } else { "<" }, &stored(place, high))?)
        }
        Expression::In { place, list, is_negated } => {
            let value = value(row, place).filter(|value| !value.is_null())?;
            let is_known = list.is_empty() || list.iter().any(|member| same_type(member, value));
            let list: Vec<Json> = list.iter().map(|member| stored(place, member)).collect();
            is_known.then(|| contains(&list, value) ^ is_negated)
        }
        Expression::Like { place, pattern } => {
            let text: Vec<char> = value(row, place)?.as_str()?.chars().collect();
            Some(like(&text, &pattern.chars().collect::<Vec<_>>()))
        }
        Expression::Arithmetic { place, operator, operand, comparison, constant } => {
            compare(&arithmetic(value(row, place)?, operator, operand)?, comparison, constant)
        }
        Expression::Columns { left, comparison, right } => compare(row.get(*left)?, comparison, row.get(*right)?),
        Expression::Null { place: place @ Place::Path(_), is_negated } => {
            Some(value(row, place).is_some_and(holds_anything) == *is_negated)
        }
        Expression::Null { place, is_negated } => {
            Some(value(row, place).is_some_and(|value| !value.is_null()) == *is_negated)
        }
        Expression::Exists(place) => Some(value(row, place).is_some_and(holds_anything)),
        Expression::Length { place, comparison, constant } => {
            compare(&json!(value(row, place)?.as_array()?.len()), comparison, &json!(constant))
        }
        Expression::Contains { kind, place, constant } => {
            match (*kind, constant.as_array()) {
                ("contains_all", Some(all)) if all.is_empty() => return Some(true),
                ("contains_any", Some(any)) if any.is_empty() => return Some(false),
                _ => {}
            }
            let values = value(row, place)?.as_array()?;
            Some(match (*kind, constant.as_array()) {
                ("contains_all", Some(all)) => all.iter().all(|wanted| contains(values, wanted)),
                ("contains_any", Some(any)) => any.iter().any(|wanted| contains(values, wanted)),
                _ => contains(values, constant),
            })
        }
        Expression::WholeArray { name, is_negated, list } => {
            let values = row.get(*name)?.as_array()?;
            let is_equal = |(left, right)| order(left, right) == Some(Ordering::Equal);
            Some((values.len() == list.len() && values.iter().zip(list).all(is_equal)) ^ is_negated)
        }
        Expression::Instant { comparison, instant, interval, .. } => {
            let moved = interval.map_or(0, |(_, length, is_added)| if is_added { length } else { -length });
            compare(&json!(row.get("ts")?.as_i64()? + moved), comparison, &json!(instant))
        }
        Expression::Constant(value) => Some(*value),
        Expression::Not(child) => evaluate(row, child).map(|value| !value),
        Expression::And(children) => {
            let values: Vec<_> = children.iter().map(|child| evaluate(row, child)).collect();
            if values.contains(&Some(false)) { Some(false) } else { (!values.contains(&None)).then_some(true) }
        }
        Expression::Or(children) => {
            let values: Vec<_> = children.iter().map(|child| evaluate(row, child)).collect();
            if values.contains(&Some(true)) { Some(true) } else { (!values.contains(&None)).then_some(false) }
        }
    }
}

/// What a file's statistics say of its columns; of some it says nothing.
fn known(rows: &[Row], random: &mut Random) -> Vec<(FieldId, Nulls, Option<ValueRange>)> {
    let schema = schema();
    let mut known = Vec::new();
    for name in INTS.iter().chain(&FLOATS).chain(&TEXTS).chain(&["b", "ts", "j", "ai"]) {
        if random.chance(20) {
            continue;
        }
        let values: Vec<&Json> =
            rows.iter().filter_map(|row| row.get(*name)).filter(|value| !value.is_null()).collect();
        let nulls = match values.len() {
            count if count == rows.len() => Nulls::None,
            0 => Nulls::All,
            _ => Nulls::Some,
        };
        let ints = || values.iter().filter_map(|value| value.as_i64().or(value.as_bool().map(i64::from)));
        let floats = || values.iter().filter_map(|value| value.as_f64());
        let texts = || values.iter().filter_map(|value| value.as_str().map(str::to_owned));
        let range = match *name {
            "j" | "ai" => None,
            "s" | "t" => texts().min().zip(texts().max()).map(|(min, max)| ValueRange::Texts {
                // As long strings are cut.
                min: if random.chance(50) { min } else { min.chars().take(1).collect() },
                max: if random.chance(50) { max } else { format!("{max}~") },
            }),
            "f" | "d" => {
                let (min, max) = floats()
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)));
                (min <= max).then_some(ValueRange::Floats { min, max })
            }
            _ => ints().min().zip(ints().max()).map(|(min, max)| ValueRange::Integers { min, max }),
        };
        known.push((schema.field(name).unwrap().id, nulls, range));
    }
    known
}

fn run_case(seed: u64) {
    let mut random = Random(seed);
    let row_count = match random.below(10) {
        0 => random.below(3),
        1 => 4_000 + random.below(300),
        _ => random.below(200),
    };
    let rows: Vec<Row> = (0..row_count).map(|id| random_row(&mut random, id)).collect();
    let form = if random.chance(50) { Form::Growing } else { Form::Sealed(random.below(17)) };
    let mut table = Table::new(&schema(), &rows, form, &[]);
    if random.chance(50) {
        table.known = known(&rows, &mut random);
    }
    let repeats = if row_count > 1_000 { 3 } else { 20 };
    for _ in 0..repeats {
        let expression = random_expression(&mut random, 3);
        let text = text(&expression);
        let plan = match Plan::new(&text, &schema(), &Templates::default()) {
            Ok(plan) => plan,
            Err(error) => panic!("seed {seed}: `{text}`: {error}"),
        };
        let found = table.matches(&plan);
        for (id, row) in rows.iter().enumerate() {
            let expected = evaluate(row, &expression);
            assert_eq!(
                found.get(id),
                expected == Some(true),
                "seed {seed}: `{text}` is {expected:?} of row {id}: {}",
                Json::Object(row.clone())
            );
        }
    }
}

#[test]
fn random_expressions_match_what_a_row_at_a_time_evaluator_matches() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SHOAL_FILTER_SEED") {
        return run_case(seed);
    }
    let first = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) >> 1;
    for case in 0..number("SHOAL_FILTER_CASES").unwrap_or(300) {
        run_case(first + case);
    }
}

#[test]
fn random_texts_neither_panic_nor_hang() {
    let pieces = [
        "i8",
        "s",
        "j",
        "ai",
        "color",
        "$meta",
        "[",
        "]",
        "(",
        ")",
        "'a'",
        "\"b\\n\"",
        "1",
        "-",
        "2.5",
        "0x1",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        "in",
        "not",
        "and",
        "or",
        "like",
        "=~",
        "is null",
        "exists",
        "json_contains",
        "array_length",
        ",",
        "{x}",
        "true",
        "null",
        "+",
        "*",
        "/",
        "%",
        "**",
        "ISO",
        "INTERVAL",
        "'P1D'",
        "random_sample",
        "0.5",
        "&",
        "|",
        "<<",
        "$",
        "text_match",
        "=",
        " ",
        "你",
        "9223372036854775808",
        "\\",
        "'",
        ".",
        "1e400",
        "r'",
        "\n",
    ];
    let mut random = Random(7);
    let rows: Vec<Row> = (0..70).map(|id| random_row(&mut random, id)).collect();
    let table = Table::new(&schema(), &rows, Form::Growing, &[]);
    for _ in 0..20_000 {
        let text = (0..1 + random.below(12)).map(|_| random.pick(&pieces)).collect::<Vec<_>>().join(" ");
        match Plan::new(&text, &schema(), &Templates::default()) {
            Ok(plan) => drop(table.matches(&plan)),
            Err(error) => assert!(error.query_plan_message(&text).ends_with(": invalid parameter")),
        }
    }
}
