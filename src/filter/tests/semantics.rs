//! Which rows match: every kind of expression on a handful of rows, in every form of columns.

use serde_json::json;

use super::fixture::{Form, Table, plan, rows, schema, templates};
use crate::filter::{Plan, Rows, TemplateValue};
use crate::types::{ColumnView, FieldSchema, Nulls, ValueRange};

fn table(form: Form) -> Table {
    let rows = rows(json!([
        { "id": 0, "b": true, "i8": 1, "i16": 10, "i32": 100, "i64": 1000, "f": 0.1, "d": 0.1, "s": "apple",
          "t": "apple", "ts": 0, "j": { "a": 1, "n": { "x": [1, 2, { "y": "z" }] }, "s": "one", "l": [1, 2, 3] },
          "ai": [1, 2, 3], "at": ["x", "y"], "af": [0.1], "$meta": { "color": "red", "size": 3 } },
        { "id": 1, "b": false, "i8": -1, "i16": -10, "i32": -100, "i64": -1000, "f": -1.5, "d": -1.5, "s": "banana",
          "t": "apple", "ts": 86400000000i64, "j": { "a": 2.5, "e": {}, "s": "two", "l": [], "nul": null },
          "ai": [], "at": [], "af": [], "$meta": { "color": "blue" } },
        { "id": 2, "j": { "a": "text", "l": "no list", "b": true }, "$meta": {} },
        { "id": 3, "b": true, "i8": 127, "i16": 0, "i32": 0, "i64": 9223372036854775807i64, "f": 3.0, "d": 1e300,
          "s": "", "t": "", "ts": -1, "ai": [9], "at": ["ä%_"], "af": [3.0], "j": [1, 2],
          "$meta": { "color": 5, "size": 3.5 } },
    ]));
    Table::new(&schema(), &rows, form, &["late"])
}

#[track_caller]
fn expect_with(plan: &Plan, text: &str, expected: &[usize]) {
    for form in [Form::Growing, Form::Sealed(0), Form::Sealed(5)] {
        let found: Vec<usize> = table(form).matches(plan).iter_ones().collect();
        assert_eq!(found, expected, "`{text}` as {form:?}");
    }
}

#[track_caller]
fn expect(text: &str, expected: &[usize]) {
    match plan(text) {
        Ok(plan) => expect_with(&plan, text, expected),
        Err(error) => panic!("`{text}`: {error}"),
    }
}

#[test]
fn blank_filters_match_every_row() {
    for text in ["", " \t\n", "true", "not false", "1 < 2", "true or i8 == 1"] {
        assert!(plan(text).unwrap().is_match_all(), "{text}");
        expect(text, &[0, 1, 2, 3]);
    }
    expect("false", &[]);
    expect("i8 == 1 and true", &[0]);
    expect("i8 == 1 and false", &[]);
}

#[test]
fn integers_compare_in_every_width_and_nulls_never_match() {
    for (name, value) in [("i8", 1), ("i16", 10), ("i32", 100), ("i64", 1000)] {
        expect(&format!("{name} == {value}"), &[0]);
        expect(&format!("{name} != {value}"), &[1, 3]);
        expect(&format!("not ({name} == {value})"), &[1, 3]);
        expect(&format!("{name} < 0"), &[1]);
        expect(&format!("{value} >= {name} && {name} >= {value}"), &[0]);
    }
    expect("i8 > 1000", &[]);
    expect("i8 < 1000", &[0, 1, 3]);
    expect("i64 > 9223372036854775807", &[]);
    expect("i64 >= 9223372036854775807", &[3]);
    expect("i64 != -9223372036854775808", &[0, 1, 3]);
    expect("i8 == 0x7f or i16 == -012 or i32 == 0b1100100", &[0, 1, 3]);
}

#[test]
fn float_columns_compare_in_their_own_precision() {
    expect("f == 0.1", &[0]);
    expect("d == 0.1", &[0]);
    expect("f > 0.1", &[3]);
    expect("f >= 0.1", &[0, 3]);
    expect("f < 3", &[0, 1]);
    expect("d in [0.1, -1.5]", &[0, 1]);
    expect("f in [0.1, 3]", &[0, 3]);
    expect("-1.5 <= f < 3.0", &[0, 1]);
    expect("d > 1e299", &[3]);
}

#[test]
fn strings_and_booleans_compare() {
    expect("s == \"apple\" or s == 'banana'", &[0, 1]);
    expect("s > 'apple'", &[1]);
    expect("'a' < s <= 'apple'", &[0]);
    expect("s in ['', \"banana\"]", &[1, 3]);
    expect("s not in ['apple']", &[1, 3]);
    expect("b == true", &[0, 3]);
    expect("b != true", &[1]);
    expect("b in [true, false]", &[0, 1, 3]);
    expect("s == t", &[0, 3]);
    expect("s != t", &[1]);
}

#[test]
fn ranges_chain_in_both_directions() {
    expect("-1 <= i8 < 127", &[0, 1]);
    expect("127 > i8 > -1", &[0]);
    expect("127 >= i8 >= 127", &[3]);
    expect("1 < j['a'] < 3", &[1]);
    expect("0 <= j['a'] <= 1", &[0]);
    expect("0 < ai[0] < 9", &[0]);
}

#[test]
fn three_valued_logic_keeps_unknown_out_of_both_sides() {
    expect("i8 == 1 or i16 == 0", &[0, 3]);
    expect("not (i8 == 1 and i16 == 10)", &[1, 3]);
    expect("not (i8 == 1 or s == 'banana')", &[3]);
    expect("i8 is null", &[2]);
    expect("i8 is not null", &[0, 1, 3]);
    expect("not (i8 is null)", &[0, 1, 3]);
    expect("i8 == 5 or id == 2", &[2]);
    expect("not (i8 == 5 and id == 2)", &[0, 1, 3]);
    expect("i8 in []", &[]);
    expect("i8 not in []", &[0, 1, 3]);
    expect("s in []", &[]);
    expect("s not in [] and s not in []", &[0, 1, 3]);
}

#[test]
fn arithmetic_stands_between_a_column_and_constants() {
    expect("i8 + 1 == 2", &[0]);
    expect("1 + i8 == 2", &[0]);
    expect("i16 * 2 > 0", &[0]);
    expect("i16 - 5 == 5", &[0]);
    expect("i16 / 3 == -3", &[1]);
    expect("i16 % 3 == -1", &[1]);
    expect("(i8 & 1) == 1", &[0, 1, 3]);
    expect("(i8 | 2) == 3", &[0]);
    expect("(i8 ^ 1) == 0", &[0]);
    expect("f * 2 == 6.0", &[3]);
    expect("d + 0.5 < 0", &[1]);
    expect("j['a'] + 1 == 2", &[0]);
    expect("j['a'] * 2 == 5", &[1]);
    expect("d < 2 ** 3 - 8.5", &[1]);
}

#[test]
fn json_paths_reach_into_documents() {
    expect("j['a'] == 1", &[0]);
    expect("j['a'] != 1", &[1]);
    expect("not (j['a'] == 1)", &[1]);
    expect("j['a'] < 2.6", &[0, 1]);
    expect("j['a'] == 'text'", &[2]);
    expect("j['b'] == true", &[2]);
    expect("j['n']['x'][1] == 2", &[0]);
    expect("j['n'][\"x\"][2]['y'] == 'z'", &[0]);
    expect("j[0] == 1", &[3]);
    expect("j['l'] == [1, 2, 3]", &[0]);
    expect("j['l'] != [1, 2, 3]", &[1]);
    expect("j['a'] in [1, 2.5, 'text']", &[0, 1, 2]);
    expect("j['a'] not in [1, 2]", &[1]);
    expect("j['s'] like 't%'", &[1]);
    expect("j['s'] =~ 'ne$'", &[0]);
    expect("j['s'] !~ 'ne$'", &[1]);
}

#[test]
fn existence_looks_for_anything_but_null_and_empty() {
    expect("exists j['a']", &[0, 1, 2]);
    expect("exists j['e']", &[]);
    expect("exists j['l']", &[0, 2]);
    expect("not exists j['a']", &[3]);
    expect("j['nul'] is null", &[0, 1, 2, 3]);
    expect("j['n'] is not null", &[0]);
    expect("j is null", &[]);
    expect("exists color and exists size", &[0, 3]);
}

#[test]
fn unknown_names_are_dynamic_keys() {
    expect("color == 'red'", &[0]);
    expect("$meta['color'] == 'blue'", &[1]);
    expect("color in ['red', 'blue']", &[0, 1]);
    expect("size > 3", &[3]);
    expect("size >= 3 and color == 5", &[3]);
    expect("nothing == 1", &[]);
    expect("nothing != 1", &[]);
}

#[test]
fn arrays_have_elements_lengths_and_members() {
    expect("ai[0] == 1", &[0]);
    expect("ai[0] != 1", &[3]);
    expect("ai[7] != 1", &[]);
    expect("at[0] like '%\\\\%%'", &[3]);
    expect("af[0] == 0.1", &[0]);
    expect("ai[0] in [1, 9]", &[0, 3]);
    expect("ai == [1, 2, 3]", &[0]);
    expect("ai != [1, 2, 3]", &[1, 3]);
    expect("array_length(ai) == 0", &[1]);
    expect("array_length(ai) > 0", &[0, 3]);
    expect("array_length(j['l']) == 3", &[0]);
    expect("array_contains(ai, 2)", &[0]);
    expect("not array_contains(ai, 2)", &[1, 3]);
    expect("ARRAY_CONTAINS_ALL(ai, [1, 3])", &[0]);
    expect("array_contains_any(ai, [3, 9])", &[0, 3]);
    expect("array_contains(at, 'y')", &[0]);
    expect("array_contains_all(ai, [])", &[0, 1, 2, 3]);
    expect("array_contains_any(ai, [])", &[]);
    expect("json_contains(j['l'], 2)", &[0]);
    expect("json_contains_all(j['l'], [1, 2.0, 1])", &[0]);
    expect("json_contains_any(j['n']['x'], [7, 1])", &[0]);
    expect("not json_contains(j['l'], 2)", &[1]);
    expect("json_contains(j, 2)", &[3]);
}

#[test]
fn patterns_match_strings() {
    expect("s like 'a%'", &[0]);
    expect("s like '%an%'", &[1]);
    expect("s like '_pple'", &[0]);
    expect("not (s like 'a%')", &[1, 3]);
    expect("s =~ '^b.*a$'", &[1]);
    expect("s !~ 'a'", &[3]);
    expect("s =~ r\"\\w{6}\"", &[1]);
}

#[test]
fn timestamps_compare_with_instants_and_move_by_intervals() {
    expect("ts == ISO '1970-01-01T00:00:00Z'", &[0]);
    expect("ts + INTERVAL 'P1D' > iso '1970-01-02T00:00:00Z'", &[1]);
    expect("ts - interval 'PT1H' < ISO '1970-01-01T00:00:00Z'", &[0, 3]);
    expect("ISO '1970-01-01T08:00:00+08:00' <= ts", &[0, 1]);
    expect("ts + INTERVAL 'P1M' == ISO '1970-02-01T00:00:00Z'", &[0]);
    expect("ts + INTERVAL 'P1M' != ISO '1970-02-01T00:00:00Z'", &[1, 3]);
}

#[test]
fn fields_newer_than_a_file_have_their_default() {
    expect("late == 7", &[0, 1, 2, 3]);
    expect("late != 7", &[]);
    expect("late is null", &[]);
    expect("late == i8", &[]);
    expect("late > i8", &[0, 1]);
    expect("late in [6, 7] and i8 == 1", &[0]);
}

/// A file whose columns hold fewer rows than it says.
struct Damaged(Table);

impl Rows for Damaged {
    fn row_count(&self) -> usize {
        10_000
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        self.0.column(field)
    }
}

#[test]
fn columns_shorter_than_their_file_match_nothing() {
    for form in [Form::Growing, Form::Sealed(3)] {
        let damaged = Damaged(table(form));
        for text in [
            "i8 < 5",
            "not (i8 < 5)",
            "b == true",
            "s like '%a%'",
            "j['a'] == 1",
            "ai[0] == 1",
            "i8 == i16",
            "d in [1]",
        ] {
            assert_eq!(plan(text).unwrap().evaluate(&damaged).count_ones(), 0, "{text} as {form:?}");
        }
    }
}

#[test]
fn columns_compare_with_columns() {
    expect("i8 < i16", &[0]);
    expect("i16 > f", &[0]);
    expect("f == d", &[1]);
    expect("not (i8 < i16)", &[1, 3]);
}

#[test]
fn templates_stand_for_constants() {
    let values = templates(&[
        ("x", TemplateValue::Int(1)),
        ("ids", TemplateValue::List(vec![TemplateValue::Int(1), TemplateValue::Int(3)])),
        ("name", TemplateValue::Text("a%".into())),
        ("json", TemplateValue::List(vec![TemplateValue::Json(b"[1, 2, 3]".to_vec())])),
        ("yes", TemplateValue::Bool(true)),
    ]);
    for (text, expected) in [
        ("i8 == {x}", &[0][..]),
        ("{x} > i8", &[1]),
        ("id in {ids}", &[1, 3]),
        ("s like {name}", &[0]),
        ("i8 + {x} == 2", &[0]),
        ("{x} <= i8 <= 127", &[0, 3]),
        ("json_contains_any(j['l'], {ids})", &[0]),
        ("j['l'] in {json}", &[0]),
        ("b == {yes}", &[0, 3]),
        ("{yes} and i8 == 1", &[0]),
    ] {
        match Plan::new(text, &schema(), &values) {
            Ok(plan) => expect_with(&plan, text, expected),
            Err(error) => panic!("`{text}`: {error}"),
        }
    }
}

#[test]
fn statistics_decide_whole_files_only_where_that_is_sound() {
    let mut table = table(Form::Growing);
    let id = |name: &str| schema().field(name).unwrap().id;
    let texts = |min: &str, max: &str| ValueRange::Texts { min: min.to_owned(), max: max.to_owned() };
    table.known = vec![
        (id("i8"), Nulls::Some, Some(ValueRange::Integers { min: -1, max: 127 })),
        (id("f"), Nulls::Some, Some(ValueRange::Floats { min: -1.5, max: 3.0 })),
        (id("s"), Nulls::Some, Some(texts("", "banana"))),
        (id("id"), Nulls::None, Some(ValueRange::Integers { min: 0, max: 3 })),
        (id("d"), Nulls::All, None),
        (id("b"), Nulls::None, Some(ValueRange::Integers { min: 1, max: 1 })),
        (id("t"), Nulls::Some, Some(texts("x", "y"))),
        (id("ai"), Nulls::All, None),
    ];
    for (text, expected) in [
        ("i8 < 200", &[0, 1, 3][..]),
        ("not (i8 < 200)", &[]),
        ("i8 > 127", &[]),
        ("not (i8 > 127)", &[0, 1, 3]),
        ("i8 in [500, 600]", &[]),
        ("i8 not in [500, 600]", &[0, 1, 3]),
        ("f > 3", &[]),
        ("not (f > 3)", &[0, 1, 3]),
        ("f <= 3.0", &[0, 1, 3]),
        ("id >= 0", &[0, 1, 2, 3]),
        ("s > 'banana'", &[]),
        ("s <= ''", &[3]),
        ("s < ''", &[]),
        ("s == 'cherry'", &[]),
        ("s != 'cherry'", &[0, 1, 3]),
        ("s in ['c', 'd']", &[]),
        ("s like 'c%'", &[]),
        ("s like 'ban%'", &[1]),
        // What is known differs from what the columns hold: who looks at them finds other rows.
        ("d == 0.1", &[]),
        ("not (d == 0.1)", &[]),
        ("d is null", &[0, 1, 2, 3]),
        ("b == false", &[]),
        ("b == true", &[0, 1, 2, 3]),
        ("t == 'apple'", &[]),
        ("t == 'apple' or i8 == 1", &[0]),
        ("t in ['apple', 'banana']", &[]),
        ("array_length(ai) > 0", &[]),
    ] {
        let found: Vec<usize> = table.matches(&plan(text).unwrap()).iter_ones().collect();
        assert_eq!(found, expected, "{text}");
    }
}

/// Counts how often a column is asked for.
struct Counting {
    table: Table,
    asked: std::cell::Cell<usize>,
}

impl Rows for Counting {
    fn row_count(&self) -> usize {
        self.table.row_count()
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        self.asked.set(self.asked.get() + 1);
        self.table.column(field)
    }

    fn known(&self, field: crate::types::FieldId) -> Option<(Nulls, Option<&ValueRange>)> {
        self.table.known(field)
    }
}

#[test]
fn what_statistics_decide_is_not_read() {
    let mut table = table(Form::Growing);
    let id = schema().field("i8").unwrap().id;
    table.known = vec![(id, Nulls::None, Some(ValueRange::Integers { min: -1, max: 127 }))];
    let rows = Counting { table, asked: std::cell::Cell::new(0) };
    for (text, is_excluded) in
        [("i8 > 200", true), ("i8 > 200 and j['a'] == 1", true), ("i8 < 200", false), ("i8 < 200 or s == 'a'", false)]
    {
        let plan = plan(text).unwrap();
        assert_eq!(plan.excludes(&rows), is_excluded, "{text}");
        assert_eq!(plan.evaluate(&rows).count_ones(), if is_excluded { 0 } else { 4 }, "{text}");
        assert_eq!(rows.asked.get(), 0, "{text}");
    }
    assert_eq!(plan("i8 > 100").unwrap().evaluate(&rows).count_ones(), 1);
    assert_eq!(rows.asked.get(), 1);
}
