//! What plans say about themselves, and that long filters stay cheap.

use std::ops::Bound;

use serde_json::json;

use super::fixture::{Form, Table, plan, rows, schema};
use crate::filter::{KeyBounds, Plan, Templates};
use crate::types::{FieldSchema, Keys, Value};

#[test]
fn primary_keys_are_named_when_the_filter_is_nothing_else() {
    for (text, keys) in [
        ("id == 5", Some(vec![5])),
        ("5 == id", Some(vec![5])),
        ("id in [3, 1, 3]", Some(vec![1, 3])),
        ("(id in [3])", Some(vec![3])),
        ("id in []", Some(vec![])),
        ("id == 1 or id == 2", Some(vec![1, 2])),
        ("not (id != 4)", Some(vec![4])),
        ("id in [3] and i8 == 1", None),
        ("id not in [3]", None),
        ("id > 3", None),
        ("i64 == 3", None),
        ("id == 1 and random_sample(0.5)", None),
    ] {
        assert_eq!(plan(text).unwrap().primary_keys(), keys.map(Keys::Int).as_ref(), "{text}");
    }
    let mut schema = schema();
    schema.fields[0].is_primary = false;
    schema.fields[8] = FieldSchema { is_primary: true, ..schema.fields[8].clone() };
    let plan = Plan::new("s in ['b', 'a']", &schema, &Templates::default()).unwrap();
    assert_eq!(plan.primary_keys(), Some(&Keys::Text(vec!["a".into(), "b".into()])));
}

#[test]
fn conjunctions_bound_the_primary_key() {
    let int = |value| Bound::Included(Value::Int(value));
    for (text, bounds) in [
        ("id > 5 and (i8 == 1 or i8 == 2)", Some((int(6), Bound::Unbounded))),
        ("id >= 5 and id < 9 and id > 2", Some((int(5), int(8)))),
        ("i8 == 1 and (3 < id <= 7 and s == 'a')", Some((int(4), int(7)))),
        ("id == 4", Some((int(4), int(4)))),
        ("id in [9, 2]", Some((int(2), int(9)))),
        ("id > 5 or i8 == 1", None),
        ("not (id > 5)", None),
        ("i8 > 5", None),
    ] {
        let expected = bounds.map(|(low, high)| KeyBounds { low, high });
        assert_eq!(plan(text).unwrap().primary_key_bounds(), expected.as_ref(), "{text}");
    }
    let mut schema = schema();
    schema.fields[0].is_primary = false;
    schema.fields[8].is_primary = true;
    let plan = Plan::new("s > 'a' and s > 'b' and s <= 'x'", &schema, &Templates::default()).unwrap();
    let text = |text: &str| Value::Text(text.into());
    let expected = KeyBounds { low: Bound::Excluded(text("b")), high: Bound::Included(text("x")) };
    assert_eq!(plan.primary_key_bounds(), Some(&expected));
}

#[test]
fn plans_name_the_fields_they_read() {
    let plan = plan("i8 == 1 and (j['a'] == 2 or color == 'red') and i8 < i16").unwrap();
    let names: Vec<&str> = plan.fields().iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["i8", "j", "$meta", "i16"]);
}

#[test]
fn a_million_parts_neither_recurse_nor_stay_a_million() {
    let count = 1_000_000usize;
    let mut list = String::from("id in [");
    for key in 0..count {
        list.push_str(&format!("{},", key * 7));
    }
    list.push(']');
    assert!(matches!(plan(&list).unwrap().primary_keys(), Some(Keys::Int(keys)) if keys.len() == count));

    let chain = vec!["id==7"; count].join(" or ");
    assert_eq!(plan(&chain).unwrap().primary_keys(), Some(&Keys::Int(vec![7])));
    let mixed = vec!["id==7 and i8>1"; count / 10].join(" or ");
    drop(plan(&mixed).unwrap().clone());
    let sum = format!("i8 == {}", vec!["1"; count].join("+"));
    assert!(plan(&sum).is_ok());
}

#[test]
fn samples_keep_their_share() {
    let rows = rows(json!((0..2000).map(|id| json!({ "id": id, "i8": id % 2 })).collect::<Vec<_>>()));
    let table = Table::new(&schema(), &rows, Form::Growing, &[]);
    let all = table.matches(&plan("random_sample(0.25)").unwrap());
    assert!((500..=501).contains(&all.count_ones()));
    let odd = table.matches(&plan("i8 == 1 and random_sample(0.1)").unwrap());
    assert!((100..=101).contains(&odd.count_ones()) && odd.iter_ones().all(|row| row % 2 == 1));
}
