//! The words of errors: those that Milvus' callers match on.

use super::fixture::{message, plan, schema, strict_schema, templates};
use crate::config::limits::{FILTER_DEPTH_MAX, FILTER_LISTS_MAX, FILTER_NODES_MAX};
use crate::filter::{Plan, TemplateValue, Templates};

#[track_caller]
fn refused(text: &str, part: &str) {
    let message = message(text);
    assert!(message.contains(part), "`{text}`: {message}");
}

#[test]
fn messages_have_milvus_frame() {
    assert_eq!(
        message("s == 0"),
        "failed to create query plan: cannot parse expression: s == 0, error: comparisons between VarChar and Int64 are \
         not supported: invalid parameter"
    );
    assert_eq!(
        message("b"),
        "failed to create query plan: predicate is not a boolean expression: b, data type: Bool: invalid parameter"
    );
    let error = Plan::new("x == 1", &strict_schema(), &Templates::default()).unwrap_err();
    assert_eq!(error.message, "field x not exist");
}

#[test]
fn types_are_checked_when_the_plan_is_made() {
    refused("i8 == 1.5", "cannot cast value to Int8, value: float_val:1.5");
    refused("1 == s", "comparisons between Int64 and VarChar are not supported");
    refused("i64 == 'x'", "comparisons between Int64 and VarChar are not supported");
    refused("b > true", "invalid range operations on boolean expr");
    refused("b == 1", "comparisons between Bool and Int64 are not supported");
    refused("vec == 1", "comparisons between FloatVector and Int64 are not supported");
    refused("ai == 1", "can not comparisons array fields directly");
    refused("ai > [1]", "can not comparisons array fields directly");
    refused("j == 1", "can not comparisons jsonField directly");
    refused("j['a'] == i8", "two column comparison with JSON type is not supported");
    refused("i64 in [1, 1.0]", "value 'float_val:1' in list cannot be casted to Int64");
    refused("b in [0]", "value 'int64_val:0' in list cannot be casted to Bool");
    refused("i64 in (mn)", "value '(mn)' in list cannot be a non-const expression");
    refused("i64 in 5", "the right-hand side of 'in' must be a list");
    refused("i64 in [s]", "array element type must be generic value, but got: s");
    refused("1 in [1]", "'term' can only be used on non-const expression, but got: 1");
    refused("not i64 in [1]", "not op can only be applied on boolean expression");
    refused("i8 and i16 == 1", "'and' can only be used between boolean expressions");
    refused("i8 == 1 or 5", "'or' can only be used between boolean expressions");
    refused("not 1", "not can only apply on boolean");
    refused("i8 like 'a'", "like operation on non-string or no-json field is unsupported");
    refused("i8 =~ 'a'", "regex match on non-string or non-json field");
    refused("s =~ t", "string literal or template variable");
    refused("s =~ '('", "invalid regex pattern");
    refused("s =~ '[a'", "missing closing");
    refused("5 < i8 < 1", "invalid range: lowerbound is greater than upperbound");
    refused("1 < i8 < 1", "invalid range: lowerbound is greater than upperbound");
    refused("i16 < i8 < 1", "lowerbound cannot be a non-const expression: i16");
    refused("false < b <= true", "invalid range operations on boolean expr");
    refused("1 < s < 2", "invalid range operations");
    refused("i8 / 0 == 1", "division or modulus by zero");
    refused("i8 == 1 / 0", "by zero");
    refused("i8 % 2.5 == 1", "cannot perform arithmetic");
    refused("f % 2 == 1", "modulo can only apply on integer");
    refused("i8 + i16 == 1", "not supported to do arithmetic operations between multiple fields");
    refused("(i8 + 1) * 2 == 1", "complicated arithmetic operations are not supported");
    refused("i8 << 1 == 2", "shift is not supported: i8<<1");
    refused("i8 ** 2 == 4", "power can only apply on constants: i8**2");
    refused("1 == 'a'", "comparison operations cannot be applied to two incompatible operands: 1=='a'");
    refused("s['a'] == 1", "VarChar data type not supported accessed with []");
    refused("ai['a'] == 1", "can only access array field with integer index");
    refused("i8 + 1", "predicate is not a boolean expression: i8 + 1, data type: Int64");
}

#[test]
fn null_tests_contains_and_exists_say_what_they_take() {
    refused("vec is null", "IsNull/IsNotNull operations are not supported on vector fields");
    refused("ai[0] is null", "IsNull/IsNotNull operations are not supported on array element access");
    refused("exists j", "exists operations are only supportted on json key");
    refused("exists s", "exists operations are only supportted on json field, got:VarChar");
    refused("json_contains(s, 1)", "contains operation are only supported on json or array fields now, got: s");
    refused("json_contains_all(j['a'], 1)", "ContainsAll operation element must be an array");
    refused("array_contains_any(ai, 1)", "ContainsAny operation element must be an array");
    refused("array_contains(ai, 'a')", "cannot cast value to Int64, value: string_val:\"a\"");
    refused("array_length(s) == 1", "array_length operation are only supported on json or array fields now, got: s");
    refused("array_length(ai) == 1.5", "cannot cast value to Int64");
}

#[test]
fn syntax_errors_say_where() {
    refused("int64 inn [1, 2]", "invalid expression: int64 inn [1, 2]");
    refused("i8 == ", "line 1:6 mismatched input '<EOF>'");
    refused("i8 ==\n  == 1", "line 2:2 mismatched input '=='");
    refused("(i8 == 1", "line 1:8 mismatched input '<EOF>' expecting ')'");
    refused("i8 = 1", "invalid expression: i8 = 1");
    refused("i8 == null", "mismatched input 'null'");
    refused("i8 == @", "line 1:6 token recognition error at: '@'");
    refused("i8 == 9223372036854775808", "value out of range");
    refused("s == 'open", "token recognition error");
    refused("i8 And i16", "invalid expression");
    refused("events[name] == 1", "struct field not found: events[name]");
}

#[test]
fn what_comes_later_parses_and_is_refused_by_name() {
    refused("text_match(s, 'a b')", "field \"s\" does not enable match");
    refused("text_match(i8, 'a')", "text match operation on non-string is unsupported");
    let mut schema = schema();
    schema.fields[8].type_params.push(("enable_match".into(), "true".into()));
    for text in ["text_match(s, 'a', minimum_should_match=2)", "PHRASE_MATCH(s, 'a b', 2)"] {
        let error = Plan::new(text, &schema, &Templates::default()).unwrap_err();
        assert!(error.message.contains("_match is not supported yet by ShoalDB"), "{error}");
    }
    refused("st_within(s, 'POINT(1 2)')", "the filter function st_within is not supported yet by ShoalDB");
    refused("element_filter(st, $[a] > 1 and $ < 2)", "is not supported yet by ShoalDB");
    refused("match_least(st, $[a] > 1, threshold=2)", "is not supported yet by ShoalDB");
    refused("my_udf(1, s)", "the filter function my_udf is not supported yet by ShoalDB");
}

#[test]
fn random_samples_stand_last() {
    refused("random_sample(1.5)", "the sample factor should be between 0 and 1 and not too close to 0 or 1");
    refused("random_sample(0.5) and i8 == 1", "can only be the last expression");
    refused("i8 == 1 or random_sample(0.5)", "random sample expression cannot be used in logical or expression");
    refused("not random_sample(0.5)", "random sample expression cannot be used in unary expression");
    assert!(plan("i8 == 1 and random_sample(0.5)").is_ok());
}

#[test]
fn template_values_are_checked_like_constants() {
    let values = templates(&[
        ("text", TemplateValue::Text("a".into())),
        ("list", TemplateValue::List(vec![TemplateValue::Text("a".into())])),
        ("int", TemplateValue::Int(1)),
    ]);
    let message = |text: &str| Plan::new(text, &schema(), &values).unwrap_err().query_plan_message(text);
    assert_eq!(
        message("i8 == {none}"),
        "failed to create query plan: the value of expression template variable name {none} is not found: invalid \
         parameter"
    );
    assert!(message("i8 == {text}").contains("cannot cast value to Int8, value: string_val:\"a\""));
    assert!(message("i8 in {list}").contains("cannot cast value to Int8"));
    assert!(message("i8 in {int}").contains("the value of term expression template variable {int} is not array"));
    assert!(message("s like {int}").contains("the value of like expression template variable {int} is not string"));
    assert!(message("{int} == 1").contains("placeholder was not supported between two constants with operator: =="));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}i8 == 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(plan(&nested(FILTER_DEPTH_MAX)).is_ok());
    refused(&nested(FILTER_DEPTH_MAX + 1), "nested deeper than 64 levels");
    refused(&"(".repeat(1_000_000), "nested deeper than 64 levels");
    refused(&format!("{} i8 == 1", "not ".repeat(100_000)), "nested deeper than 64 levels");
    refused(&format!("j['a'] == {}", "[".repeat(100_000)), "nested deeper than 64 levels");
    assert!(plan(&vec!["1"; FILTER_NODES_MAX / 2].join("+")).is_err());
    // One operator of every binding on every level: the deepest recursion a text can cause.
    let level = "i8 == 1 or i8 == 1 and 1 | 1 ^ 1 & 1 == 1 < 1 << 1 + 1 * - ";
    let _ = plan(&format!("{}1", format!("{level}(").repeat(FILTER_DEPTH_MAX / 2)));
}

#[test]
fn lists_that_every_row_is_held_against_are_limited() {
    let lists = |count: usize| (0..count).map(|number| format!("[{number}]")).collect::<Vec<_>>().join(", ");
    assert!(plan(&format!("json_contains_any(j, [{}])", lists(FILTER_LISTS_MAX))).is_ok());
    for filter in ["json_contains_any(j, [{}])", "j['a'] in [{}]"] {
        refused(&filter.replace("{}", &lists(FILTER_LISTS_MAX + 1)), "more than 1024 lists");
    }
}
