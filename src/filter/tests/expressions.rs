//! Random rows and random expressions over them, and how an expression is written in the filter language.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::oracle::order;
use crate::types::Zone;

pub(super) type Row = Map<String, Json>;

/// splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

pub(super) const INTS: [&str; 5] = ["i8", "i16", "i32", "i64", "id"];
pub(super) const FLOATS: [&str; 2] = ["f", "d"];
pub(super) const TEXTS: [&str; 2] = ["s", "t"];
const ARRAYS: [&str; 6] = ["ai", "a16", "at", "af", "ad", "ab"];
/// With months, days, hours; in microseconds where they have a length of their own.
const INTERVALS: [(&str, i64); 4] =
    [("P1D", 86_400_000_000), ("PT36H", 129_600_000_000), ("P1DT1S", 86_401_000_000), ("PT0S", 0)];
const COMPARISONS: [&str; 6] = ["<", "<=", ">", ">=", "==", "!="];
const WORDS: [&str; 10] = ["", "a", "ab", "abc", "b", "ba", "äb", "a%", "a_c", "abcabcabc"];
const PATTERNS: [&str; 10] = ["%", "a%", "%b", "%b%", "_b", "a_c", "abc", "", "a%c", "_%_"];

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Column(&'static str),
    /// Of `j`, or with an empty first key of the dynamic field.
    Path(Vec<Json>),
    Element(&'static str, usize),
}

#[derive(Clone, Debug)]
pub(super) enum Expression {
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

pub(super) fn random_row(random: &mut Random, id: usize) -> Row {
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

pub(super) fn random_expression(random: &mut Random, depth: usize) -> Expression {
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

pub(super) fn written(expression: &Expression) -> String {
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
        children.iter().map(|child| format!("({})", written(child))).collect::<Vec<_>>().join(word)
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
        Expression::Not(child) => format!("not ({})", written(child)),
        Expression::And(children) => chain(children, " and "),
        Expression::Or(children) => chain(children, " or "),
    }
}
