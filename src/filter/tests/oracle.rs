//! The evaluator against a slow and obvious one: random expressions on random rows, a row at a time, TRUE, FALSE or
//! UNKNOWN as `Option<bool>`. It shares nothing with the evaluator but the text of the expression.
//!
//! `SHOAL_FILTER_SEED` replays one case, `SHOAL_FILTER_CASES` sets how many are tried.

use std::cmp::Ordering;

use serde_json::{Value as Json, json};

use super::expressions::{Expression, FLOATS, INTS, Place, Random, Row, TEXTS, random_expression, random_row, written};
use super::fixture::{Form, Table, schema};
use crate::filter::{Plan, Templates};
use crate::types::{FieldId, Nulls, ValueRange};

pub(super) fn order(left: &Json, right: &Json) -> Option<Ordering> {
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
        let text = written(&expression);
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
