//! Types: which comparisons a column takes, and the test each of them becomes.

use std::ops::Bound;

use super::condition::{ArrayCondition, Condition, JsonCondition, NumberRange, ValueSet};
use super::error::FilterError;
use super::literal::Literal;
use super::predicate::{FieldIndex, Leaf};
use super::sets::{FloatSet, IntSet, TextSet};
use super::syntax::{ArithmeticOp, Comparison, PathStep};
use crate::types::DataType;

/// A leaf and whether its opposite is meant.
pub(super) type SignedLeaf = (Leaf, bool);

/// A column as a filter names it.
#[derive(Clone, Debug)]
pub(super) struct ColumnRef {
    pub(super) field: FieldIndex,
    pub(super) data_type: DataType,
    pub(super) element_type: Option<DataType>,
    pub(super) path: Box<[PathStep]>,
}

/// A constant and whether a template brought it: those fail with other words.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    pub(super) value: Literal,
    pub(super) is_template: bool,
}

impl ColumnRef {
    /// The type that is compared: an array's element type when an element is named.
    pub(super) fn compared_type(&self) -> DataType {
        match (self.data_type, self.element_type) {
            (DataType::Array, Some(element_type)) if !self.path.is_empty() => element_type,
            (data_type, _) => data_type,
        }
    }

    /// The type as Milvus' comparison errors spell it.
    pub(super) fn type_name(&self) -> String {
        match (self.data_type, self.element_type) {
            (DataType::Array, Some(element_type)) => format!("Array[{}]", element_type.name()),
            (data_type, _) => data_type.name().to_string(),
        }
    }

    /// Refuses a JSON document and an array as a whole.
    pub(super) fn check_is_scalar(&self) -> Result<(), FilterError> {
        match self.data_type {
            DataType::Array if self.path.is_empty() => {
                Err(FilterError::expression("can not comparisons array fields directly"))
            }
            DataType::Json if self.path.is_empty() => {
                Err(FilterError::expression("can not comparisons jsonField directly"))
            }
            _ => Ok(()),
        }
    }

    /// The leaf that asks a scalar test of this column or element.
    pub(super) fn scalar_leaf(&self, test: Condition) -> Leaf {
        match (self.data_type, self.element_type) {
            (DataType::Json, _) => {
                Leaf::Json { field: self.field, path: self.path.clone(), test: Box::new(JsonCondition::Scalar(test)) }
            }
            (DataType::Array, Some(element_type)) => {
                let index = self.path.first().and_then(|step| step.index).unwrap_or(usize::MAX);
                self.array_leaf(element_type, ArrayCondition::Element { index, test })
            }
            _ => Leaf::Scalar { field: self.field, test },
        }
    }

    /// The leaf that asks a test of the value at this column's path.
    pub(super) fn json_leaf(&self, test: JsonCondition) -> Leaf {
        Leaf::Json { field: self.field, path: self.path.clone(), test: Box::new(test) }
    }

    /// The leaf that asks a test of a whole array.
    pub(super) fn array_leaf(&self, element_type: DataType, test: ArrayCondition) -> Leaf {
        Leaf::Array { field: self.field, element_type, test: Box::new(test) }
    }
}

/// Milvus' words for a constant of the wrong type.
pub(super) fn cast_error(data_type: DataType, value: &Literal) -> FilterError {
    FilterError::expression(format!("cannot cast value to {}, value: {}", data_type.name(), value.shown()))
}

/// Whether it is one of the integer types.
pub(super) fn is_integer(data_type: DataType) -> bool {
    matches!(data_type, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// Whether it is `Float` or `Double`.
pub(super) fn is_float(data_type: DataType) -> bool {
    matches!(data_type, DataType::Float | DataType::Double)
}

/// Whether values of a type can be compared with a constant at all; a number may still not be an integer.
fn can_compare(data_type: DataType, value: &Literal) -> bool {
    match value {
        Literal::Bool(_) => data_type == DataType::Bool,
        Literal::Int(_) | Literal::Float(_) => is_integer(data_type) || is_float(data_type),
        Literal::Text(_) => data_type == DataType::VarChar,
        Literal::List(_) => false,
    }
}

/// `column comparison constant`; `is_reversed` says that the constant stood first, for the error's words.
pub(super) fn compare_column(
    column: &ColumnRef,
    comparison: Comparison,
    constant: &Constant,
    is_reversed: bool,
) -> Result<SignedLeaf, FilterError> {
    let value = &constant.value;
    if let (DataType::Array, Some(element_type), Literal::List(list)) = (column.data_type, column.element_type, value)
        && column.path.is_empty()
        && matches!(comparison, Comparison::Equal | Comparison::NotEqual)
    {
        let list = list.iter().map(|value| cast(element_type, value)).collect::<Result<Box<[_]>, _>>()?;
        return Ok((column.array_leaf(element_type, ArrayCondition::Equal(list)), comparison == Comparison::NotEqual));
    }
    column.check_is_scalar()?;
    if column.data_type == DataType::Json {
        return compare_json(column, comparison, value);
    }
    let data_type = column.compared_type();
    if !can_compare(data_type, value) {
        if constant.is_template {
            return Err(cast_error(data_type, value));
        }
        let (column, value) = (column.type_name(), value.type_name());
        let (left, right) = if is_reversed { (value, column.as_str()) } else { (column.as_str(), value) };
        return Err(FilterError::expression(format!("comparisons between {left} and {right} are not supported")));
    }
    let (test, is_negated) = scalar_test(data_type, comparison, &cast(data_type, value)?)?;
    Ok((column.scalar_leaf(test), is_negated))
}

/// The constant in a column's type: integers become floats, `Float` constants lose what the column cannot hold.
fn cast(data_type: DataType, value: &Literal) -> Result<Literal, FilterError> {
    match (data_type, value) {
        (DataType::Bool, Literal::Bool(_)) | (DataType::VarChar, Literal::Text(_)) => Ok(value.clone()),
        (data_type, Literal::Int(_)) if is_integer(data_type) => Ok(value.clone()),
        (DataType::Double, Literal::Int(value)) => Ok(Literal::Float(*value as f64)),
        (DataType::Double, Literal::Float(value)) => Ok(Literal::Float(*value)),
        (DataType::Float, Literal::Int(value)) => Ok(Literal::Float(f64::from(*value as f32))),
        (DataType::Float, Literal::Float(value)) => Ok(Literal::Float(f64::from(*value as f32))),
        _ => Err(cast_error(data_type, value)),
    }
}

/// The test of a comparison with a constant of the column's type.
fn scalar_test(data_type: DataType, comparison: Comparison, value: &Literal) -> Result<(Condition, bool), FilterError> {
    let is_negated = comparison == Comparison::NotEqual;
    Ok(match value {
        Literal::Bool(value) => (bool_test(comparison, *value)?, is_negated),
        Literal::Int(value) => {
            let (low, high) = int_range(comparison, *value);
            (Condition::Int { low, high }, is_negated)
        }
        Literal::Float(value) => {
            let (low, high) = float_range(data_type == DataType::Float, comparison, *value);
            (Condition::Float { low, high }, is_negated)
        }
        Literal::Text(text) => (text_test(comparison, text), is_negated),
        Literal::List(_) => return Err(cast_error(data_type, value)),
    })
}

fn bool_test(comparison: Comparison, value: bool) -> Result<Condition, FilterError> {
    match comparison {
        Comparison::Equal | Comparison::NotEqual => Ok(Condition::Bool { if_true: value, if_false: !value }),
        _ => Err(FilterError::expression("invalid range operations on boolean expr")),
    }
}

/// `!=` gives the range of `==`; the caller negates.
pub(super) fn int_range(comparison: Comparison, value: i64) -> (i64, i64) {
    const EMPTY: (i64, i64) = (1, 0);
    match comparison {
        Comparison::Equal | Comparison::NotEqual => (value, value),
        Comparison::LessEqual => (i64::MIN, value),
        Comparison::GreaterEqual => (value, i64::MAX),
        Comparison::Less => value.checked_sub(1).map_or(EMPTY, |high| (i64::MIN, high)),
        Comparison::Greater => value.checked_add(1).map_or(EMPTY, |low| (low, i64::MAX)),
    }
}

/// As [`int_range`]; `is_single` steps by the precision of `f32`.
pub(super) fn float_range(is_single: bool, comparison: Comparison, value: f64) -> (f64, f64) {
    const EMPTY: (f64, f64) = (f64::INFINITY, f64::NEG_INFINITY);
    let above = if is_single { f64::from((value as f32).next_up()) } else { value.next_up() };
    let below = if is_single { f64::from((value as f32).next_down()) } else { value.next_down() };
    match comparison {
        _ if value.is_nan() => EMPTY,
        Comparison::Equal | Comparison::NotEqual => (value, value),
        Comparison::LessEqual => (f64::NEG_INFINITY, value),
        Comparison::GreaterEqual => (value, f64::INFINITY),
        Comparison::Less if below == value => EMPTY,
        Comparison::Greater if above == value => EMPTY,
        Comparison::Less => (f64::NEG_INFINITY, below),
        Comparison::Greater => (above, f64::INFINITY),
    }
}

fn text_test(comparison: Comparison, text: &str) -> Condition {
    let text: Box<str> = text.into();
    let (low, high) = match comparison {
        Comparison::Equal | Comparison::NotEqual => return Condition::TextEqual(text),
        Comparison::Less => (Bound::Unbounded, Bound::Excluded(text)),
        Comparison::LessEqual => (Bound::Unbounded, Bound::Included(text)),
        Comparison::Greater => (Bound::Excluded(text), Bound::Unbounded),
        Comparison::GreaterEqual => (Bound::Included(text), Bound::Unbounded),
    };
    Condition::TextRange { low, high }
}

/// The range that a number at a JSON path is held against.
pub(super) fn number_range(comparison: Comparison, value: &Literal) -> Option<NumberRange> {
    let ints = if let Literal::Int(value) = value { Some(int_range(comparison, *value)) } else { None };
    Some(NumberRange { ints, floats: float_range(false, comparison, value.number()?) })
}

fn compare_json(column: &ColumnRef, comparison: Comparison, value: &Literal) -> Result<SignedLeaf, FilterError> {
    let is_negated = comparison == Comparison::NotEqual;
    let test = match value {
        Literal::Bool(value) => JsonCondition::Scalar(bool_test(comparison, *value)?),
        Literal::Text(text) => JsonCondition::Scalar(text_test(comparison, text)),
        Literal::List(_) if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) => {
            return Err(FilterError::expression("comparisons between JSON and Array are not supported"));
        }
        Literal::List(_) => JsonCondition::List(value.clone()),
        number => {
            JsonCondition::Number(number_range(comparison, number).ok_or_else(|| cast_error(DataType::Json, number))?)
        }
    };
    Ok((column.json_leaf(test), is_negated))
}

/// `column operator operand`, the operand being of the right type.
#[derive(Clone, Debug)]
pub(super) struct ArithmeticRef {
    column: ColumnRef,
    operator: ArithmeticOp,
    operand: Literal,
}

impl ArithmeticRef {
    /// Checks the types of `column operator operand`.
    pub(super) fn new(
        column: ColumnRef,
        operator: ArithmeticOp,
        operand: &Constant,
    ) -> Result<ArithmeticRef, FilterError> {
        column.check_is_scalar()?;
        let data_type = column.compared_type();
        let value = &operand.value;
        let is_number = matches!(value, Literal::Int(_) | Literal::Float(_));
        let fits = match data_type {
            data_type if is_integer(data_type) => matches!(value, Literal::Int(_)),
            DataType::Float | DataType::Double | DataType::Json => is_number,
            _ => false,
        };
        if !fits {
            if operand.is_template {
                return Err(cast_error(data_type, value));
            }
            return Err(FilterError::expression(format!(
                "'{}' cannot perform arithmetic between {} field and {}",
                operator.name(),
                data_type.name(),
                value.type_name()
            )));
        }
        if operator.is_integer_only() && (is_float(data_type) || !matches!(value, Literal::Int(_))) {
            return Err(FilterError::expression(format!("{} can only apply on integer types", operator.name())));
        }
        if matches!(operator, ArithmeticOp::Divide | ArithmeticOp::Modulo) && value.number() == Some(0.0) {
            return Err(FilterError::expression("division or modulus by zero"));
        }
        Ok(ArithmeticRef { column, operator, operand: value.clone() })
    }

    /// The result compared with a constant.
    pub(super) fn compare(self, comparison: Comparison, value: &Literal) -> Result<SignedLeaf, FilterError> {
        let (column, operator) = (&self.column, self.operator);
        let data_type = column.compared_type();
        let is_negated = comparison == Comparison::NotEqual;
        let Some(range) = number_range(comparison, value) else { return Err(cast_error(data_type, value)) };
        if data_type == DataType::Json {
            let test = JsonCondition::Arithmetic { operator, operand: self.operand, range };
            return Ok((column.json_leaf(test), is_negated));
        }
        let test = match (self.operand, range.ints) {
            (Literal::Int(operand), Some(range)) if is_integer(data_type) => {
                match range_before(operator, operand, range) {
                    Some((low, high)) => Condition::Int { low, high },
                    None => Condition::IntArithmetic { operator, operand, low: range.0, high: range.1 },
                }
            }
            (operand, _) if is_float(data_type) => {
                let operand = operand.number().unwrap_or(f64::NAN);
                Condition::FloatArithmetic { operator, operand, low: range.floats.0, high: range.floats.1 }
            }
            _ => return Err(cast_error(data_type, value)),
        };
        Ok((column.scalar_leaf(test), is_negated))
    }
}

/// Between which values an integer lies when the result of an operator with a constant lies in a range: then there is nothing
/// to calculate per row, and statistics can tell. Exact, where C++ overflows. `None` for operators that keep no order.
pub(super) fn range_before(operator: ArithmeticOp, operand: i64, (low, high): (i64, i64)) -> Option<(i64, i64)> {
    const EMPTY: (i64, i64) = (1, 0);
    let operand = i128::from(operand);
    // Half a range has no other end, whatever is added to it.
    let low = if low == i64::MIN { i128::MIN / 2 } else { i128::from(low) };
    let high = if high == i64::MAX { i128::MAX / 2 } else { i128::from(high) };
    if low > high {
        return Some(EMPTY);
    }
    // With a negative factor the order turns round.
    let (size, is_turned) = (operand.abs(), operand < 0);
    let (near, far) = if is_turned { (-high, -low) } else { (low, high) };
    let (first, last) = match operator {
        ArithmeticOp::Add => (low - operand, high - operand),
        ArithmeticOp::Subtract => (low + operand, high + operand),
        ArithmeticOp::Multiply if size == 0 => {
            return Some(if low <= 0 && high >= 0 { (i64::MIN, i64::MAX) } else { EMPTY });
        }
        ArithmeticOp::Multiply => (-(-near).div_euclid(size), far.div_euclid(size)),
        // Quotients are cut towards zero: zero has values on both sides.
        ArithmeticOp::Divide if size != 0 => {
            let first = if near > 0 { near.saturating_mul(size) } else { (near - 1).saturating_mul(size) + 1 };
            let last = if far < 0 { far.saturating_mul(size) } else { (far + 1).saturating_mul(size) - 1 };
            (first, last)
        }
        _ => return None,
    };
    let (smallest, largest) = (i128::from(i64::MIN), i128::from(i64::MAX));
    if first > last || first > largest || last < smallest {
        return Some(EMPTY);
    }
    Some((first.max(smallest) as i64, last.min(largest) as i64))
}

/// One end of a chained range.
pub(super) struct RangeEnd<'a> {
    pub(super) constant: &'a Constant,
    pub(super) is_included: bool,
}

/// `low < column <= high`.
pub(super) fn range(column: &ColumnRef, low: RangeEnd<'_>, high: RangeEnd<'_>) -> Result<Leaf, FilterError> {
    column.check_is_scalar()?;
    let data_type = column.compared_type();
    let cast_end = |end: &RangeEnd<'_>| match data_type {
        DataType::Bool => Err(FilterError::expression("invalid range operations on boolean expr")),
        DataType::Json => Ok(end.constant.value.clone()),
        _ => cast(data_type, &end.constant.value).map_err(|_| FilterError::expression("invalid range operations")),
    };
    let (low_value, high_value) = (cast_end(&low)?, cast_end(&high)?);
    let fits = if low.is_included && high.is_included { Comparison::LessEqual } else { Comparison::Less };
    let is_text = matches!((&low_value, &high_value), (Literal::Text(_), Literal::Text(_)));
    let is_number = low_value.number().is_some() && high_value.number().is_some();
    if !is_text && !is_number {
        return Err(FilterError::expression("invalid range operations"));
    }
    let is_ordered = low_value.compare(fits, &high_value).unwrap_or(false);
    if !is_ordered && !low.constant.is_template && !high.constant.is_template {
        return Err(FilterError::expression("invalid range: lowerbound is greater than upperbound"));
    }
    let above = if low.is_included { Comparison::GreaterEqual } else { Comparison::Greater };
    let below = if high.is_included { Comparison::LessEqual } else { Comparison::Less };
    if data_type == DataType::Json && is_number {
        return Ok(column.json_leaf(json_number_range(above, &low_value, below, &high_value)));
    }
    let (above, below) = (scalar_test(data_type, above, &low_value)?.0, scalar_test(data_type, below, &high_value)?.0);
    Ok(column.scalar_leaf(match (above, below) {
        // Either side may be empty by itself: `9223372036854775807 < column`.
        (Condition::Int { low, high: open_high }, Condition::Int { low: open_low, high }) => {
            let (low, high) = if low <= open_high && open_low <= high { (low, high) } else { (1, 0) };
            Condition::Int { low, high }
        }
        (Condition::Float { low, high: open_high }, Condition::Float { low: open_low, high }) => {
            let is_possible = low <= open_high && open_low <= high;
            Condition::Float {
                low: if is_possible { low } else { f64::INFINITY },
                high: if is_possible { high } else { f64::NEG_INFINITY },
            }
        }
        (Condition::TextRange { low, .. }, Condition::TextRange { high, .. }) => Condition::TextRange { low, high },
        _ => return Err(FilterError::expression("invalid range operations")),
    }))
}

fn json_number_range(above: Comparison, low: &Literal, below: Comparison, high: &Literal) -> JsonCondition {
    let floats = (f64::INFINITY, f64::NEG_INFINITY);
    let empty = NumberRange { ints: None, floats };
    let low = number_range(above, low).unwrap_or(empty);
    let high = number_range(below, high).unwrap_or(empty);
    let ints = match (low.ints, high.ints) {
        (Some(low), Some(high)) if low.0 <= low.1 && high.0 <= high.1 => Some((low.0, high.1)),
        (Some(_), Some(_)) => Some((1, 0)),
        _ => None,
    };
    let is_possible = low.floats.0 <= low.floats.1 && high.floats.0 <= high.floats.1;
    JsonCondition::Number(NumberRange {
        ints,
        floats: if is_possible { (low.floats.0, high.floats.1) } else { floats },
    })
}

/// `column in list`.
pub(super) fn membership(column: &ColumnRef, list: Vec<Literal>, is_template: bool) -> Result<Leaf, FilterError> {
    column.check_is_scalar()?;
    let data_type = column.compared_type();
    if data_type == DataType::Json {
        return Ok(column.json_leaf(JsonCondition::In(Box::new(ValueSet::new(list)?))));
    }
    let error = |value: &Literal| {
        if is_template {
            return cast_error(data_type, value);
        }
        let shown = value.shown();
        FilterError::expression(format!("value '{shown}' in list cannot be casted to {}", data_type.name()))
    };
    let test = match data_type {
        DataType::Bool => {
            let values = collect(list, |value| if let Literal::Bool(value) = value { Ok(value) } else { Err(value) });
            let values = values.map_err(|value| error(&value))?;
            Condition::Bool { if_true: values.contains(&true), if_false: values.contains(&false) }
        }
        DataType::VarChar => {
            let values = collect(list, |value| if let Literal::Text(value) = value { Ok(value) } else { Err(value) });
            Condition::TextIn(Box::new(TextSet::new(values.map_err(|value| error(&value))?)))
        }
        DataType::Float | DataType::Double => {
            let values = collect(list, |value| match cast(data_type, &value) {
                Ok(Literal::Float(value)) => Ok(value),
                _ => Err(value),
            });
            Condition::FloatIn(Box::new(FloatSet::new(values.map_err(|value| error(&value))?)))
        }
        data_type if is_integer(data_type) => {
            let values = collect(list, |value| if let Literal::Int(value) = value { Ok(value) } else { Err(value) });
            Condition::IntIn(Box::new(IntSet::new(values.map_err(|value| error(&value))?)))
        }
        data_type => {
            return Err(match list.first() {
                Some(value) => error(value),
                None => FilterError::expression(format!("'in' is not supported on {} fields", data_type.name())),
            });
        }
    };
    Ok(column.scalar_leaf(test))
}

fn collect<T>(list: Vec<Literal>, cast: impl Fn(Literal) -> Result<T, Literal>) -> Result<Vec<T>, Literal> {
    list.into_iter().map(cast).collect()
}

/// An element that an array's elements are looked up against, in their type.
pub(super) fn cast_element(element_type: DataType, value: &Literal) -> Result<Literal, FilterError> {
    cast(element_type, value)
}

/// Whether two scalar types can be compared column to column.
pub(super) fn can_compare_columns(left: DataType, right: DataType) -> bool {
    let is_number = |data_type| is_integer(data_type) || is_float(data_type);
    match (left, right) {
        (DataType::Bool, DataType::Bool)
        | (DataType::VarChar, DataType::VarChar)
        | (DataType::Timestamptz, DataType::Timestamptz) => true,
        (left, right) => is_number(left) && is_number(right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_before_an_operator_hold_exactly_the_values_that_lead_into_the_range() {
        use ArithmeticOp::{Add, Divide, Multiply, Subtract};
        let ends = [i64::MIN, -9, -4, -3, -1, 0, 1, 2, 5, 9, i64::MAX];
        for operator in [Add, Subtract, Multiply, Divide] {
            for operand in [-7, -3, -2, -1, 0, 1, 2, 3, 7] {
                for (low, high) in ends.iter().flat_map(|low| ends.iter().map(|high| (*low, *high))) {
                    let Some((first, last)) = range_before(operator, operand, (low, high)) else {
                        assert!(operator == Divide && operand == 0);
                        continue;
                    };
                    for value in -40..=40 {
                        let result = operator.on_integers(value, operand);
                        let expected = result.is_some_and(|result| (low..=high).contains(&result));
                        assert_eq!(
                            (first..=last).contains(&value),
                            expected,
                            "{value} {operator:?} {operand} in {low}..={high}: {first}..={last}"
                        );
                    }
                }
            }
        }
        assert_eq!(range_before(Add, i64::MAX, (0, i64::MAX)), Some((-i64::MAX, i64::MAX)));
        assert_eq!(range_before(Multiply, i64::MIN, (i64::MIN, 0)), Some((0, i64::MAX)));
        assert_eq!(range_before(ArithmeticOp::Modulo, 3, (0, 0)), None);
    }
}
