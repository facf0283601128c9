//! What is asked of one value: the checked, typed form of every comparison.
//!
//! Comparisons of numbers are closed ranges: `==` is a range of one, `<` one that ends before its constant, `!=` the
//! negation of `==`. So there is one kernel per type, and a range can be held against a file's smallest and largest value.

use std::ops::Bound;

use super::error::FilterError;
use super::json::{self, JsonValue};
use super::literal::Literal;
use super::pattern::Pattern;
use super::sets::{FloatSet, IntSet, TextSet};
use super::syntax::{ArithmeticOp, ContainsKind};
use crate::config::limits::FILTER_LISTS_MAX;
use crate::types::{ArrayRow, Element};

/// A test of a scalar.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// Empty when `low > high`.
    Int {
        low: i64,
        high: i64,
    },
    IntIn(Box<IntSet>),
    IntArithmetic {
        operator: ArithmeticOp,
        operand: i64,
        low: i64,
        high: i64,
    },
    /// Exact in the column's own precision; NaN is in no range.
    Float {
        low: f64,
        high: f64,
    },
    FloatIn(Box<FloatSet>),
    FloatArithmetic {
        operator: ArithmeticOp,
        operand: f64,
        low: f64,
        high: f64,
    },
    Bool {
        if_true: bool,
        if_false: bool,
    },
    TextEqual(Box<str>),
    TextRange {
        low: Bound<Box<str>>,
        high: Bound<Box<str>>,
    },
    TextIn(Box<TextSet>),
    Pattern(Pattern),
}

impl Condition {
    /// Of an integer; `false` for tests of other types, which plans do not make.
    #[inline]
    pub(super) fn int(&self, value: i64) -> bool {
        match self {
            Condition::Int { low, high } => value >= *low && value <= *high,
            Condition::IntIn(set) => set.contains(value),
            Condition::IntArithmetic { operator, operand, low, high } => {
                operator.on_integers(value, *operand).is_some_and(|result| result >= *low && result <= *high)
            }
            _ => false,
        }
    }

    /// Of a floating-point number.
    #[inline]
    pub(super) fn float(&self, value: f64) -> bool {
        match self {
            Condition::Float { low, high } => value >= *low && value <= *high,
            Condition::FloatIn(set) => set.contains(value),
            Condition::FloatArithmetic { operator, operand, low, high } => {
                let result = operator.on_floats(value, *operand);
                result >= *low && result <= *high
            }
            _ => false,
        }
    }

    /// Of a truth value.
    #[inline]
    pub(super) fn bool(&self, value: bool) -> bool {
        matches!(self, Condition::Bool { if_true, if_false } if if value { *if_true } else { *if_false })
    }

    /// Of a string.
    #[inline]
    pub(super) fn text(&self, value: &[u8]) -> bool {
        match self {
            Condition::TextEqual(text) => text.as_bytes() == value,
            Condition::TextRange { low, high } => is_in_range(value, low, high),
            Condition::TextIn(set) => set.contains(value),
            Condition::Pattern(pattern) => pattern.matches(value),
            _ => false,
        }
    }

    /// Of an element of an array.
    pub(super) fn element(&self, element: Element<'_>) -> bool {
        match element {
            Element::Bool(value) => self.bool(value),
            Element::Int(value) => self.int(value),
            Element::Float(value) => self.float(value),
            Element::Text(value) => self.text(value),
        }
    }
}

#[inline]
fn is_in_range(value: &[u8], low: &Bound<Box<str>>, high: &Bound<Box<str>>) -> bool {
    let is_above = match low {
        Bound::Included(low) => value >= low.as_bytes(),
        Bound::Excluded(low) => value > low.as_bytes(),
        Bound::Unbounded => true,
    };
    is_above
        && match high {
            Bound::Included(high) => value <= high.as_bytes(),
            Bound::Excluded(high) => value < high.as_bytes(),
            Bound::Unbounded => true,
        }
}

/// What a number at a JSON path is held against: an integer exactly, if the constant was one, everything else as f64.
#[derive(Clone, Copy, Debug)]
pub(super) struct NumberRange {
    pub(super) ints: Option<(i64, i64)>,
    pub(super) floats: (f64, f64),
}

impl NumberRange {
    fn int(self, value: i64) -> bool {
        match self.ints {
            Some((low, high)) => value >= low && value <= high,
            None => self.float(value as f64),
        }
    }

    fn float(self, value: f64) -> bool {
        value >= self.floats.0 && value <= self.floats.1
    }
}

/// A test of the value at a JSON path.
#[derive(Clone, Debug)]
pub(super) enum JsonCondition {
    /// Of a number.
    Number(NumberRange),
    Arithmetic {
        operator: ArithmeticOp,
        operand: Literal,
        range: NumberRange,
    },
    /// Of a string or a truth value.
    Scalar(Condition),
    /// Equal to a list, element by element.
    List(Literal),
    In(Box<ValueSet>),
    Length {
        low: i64,
        high: i64,
    },
    Contains(ContainsKind, Box<ValueSet>),
}

impl JsonCondition {
    /// Of the value a text begins with; `None` (UNKNOWN) when its type is not the one that is asked for.
    pub(super) fn value(&self, text: &[u8]) -> Option<bool> {
        let value = json::read(text)?;
        match (self, &value) {
            (JsonCondition::Number(range), JsonValue::Int(value)) => Some(range.int(*value)),
            (JsonCondition::Number(range), JsonValue::Float(value)) => Some(range.float(*value)),
            (JsonCondition::Arithmetic { operator, operand, range }, JsonValue::Int(_) | JsonValue::Float(_)) => {
                arithmetic(&value, *operator, operand, *range)
            }
            (JsonCondition::Scalar(test @ Condition::Bool { .. }), JsonValue::Bool(value)) => Some(test.bool(*value)),
            (JsonCondition::Scalar(Condition::Bool { .. }), _) => None,
            (JsonCondition::Scalar(test), JsonValue::Text(text)) => Some(test.text(text)),
            (JsonCondition::List(list), JsonValue::Array(_)) => Some(equals(text, list)),
            (JsonCondition::In(set), value) => set.knows(value).then(|| set.position(value, text).is_some()),
            (JsonCondition::Length { low, high }, JsonValue::Array(array)) => {
                let length = json::elements(array).count() as i64;
                Some(length >= *low && length <= *high)
            }
            (JsonCondition::Contains(kind, set), JsonValue::Array(array)) => Some(contains(array, *kind, set)),
            _ => None,
        }
    }
}

fn arithmetic(value: &JsonValue<'_>, operator: ArithmeticOp, operand: &Literal, range: NumberRange) -> Option<bool> {
    let left = match value {
        JsonValue::Int(left) => {
            if let Literal::Int(right) = operand {
                return operator.on_integers(*left, *right).map(|result| range.int(result));
            }
            *left as f64
        }
        JsonValue::Float(left) => *left,
        _ => return None,
    };
    if operator.is_integer_only() {
        return None;
    }
    Some(range.float(operator.on_floats(left, operand.number()?)))
}

fn contains(array: &[u8], kind: ContainsKind, set: &ValueSet) -> bool {
    // An element has a byte at least: of more members than that, some are missing.
    if kind == ContainsKind::All && set.len() > array.len() {
        return false;
    }
    let mut positions = json::elements(array).filter_map(|text| set.position(&json::read(text)?, text));
    match kind {
        ContainsKind::One | ContainsKind::Any => positions.next().is_some(),
        ContainsKind::All => has_all(positions, set.len()),
    }
}

/// Whether every place below `count` occurs.
pub(super) fn has_all(positions: impl Iterator<Item = usize>, count: usize) -> bool {
    let mut seen = vec![false; count];
    let mut missing = count;
    for position in positions {
        if !std::mem::replace(&mut seen[position], true) {
            missing -= 1;
            if missing == 0 {
                return true;
            }
        }
    }
    missing == 0
}

/// Whether the value a text begins with equals a constant, numbers by value and lists element by element.
fn equals(text: &[u8], literal: &Literal) -> bool {
    match (json::read(text), literal) {
        (Some(JsonValue::Int(value)), Literal::Int(literal)) => value == *literal,
        (Some(JsonValue::Int(value)), Literal::Float(literal)) => value as f64 == *literal,
        (Some(JsonValue::Float(value)), literal) => literal.number() == Some(value),
        (Some(JsonValue::Bool(value)), Literal::Bool(literal)) => value == *literal,
        (Some(JsonValue::Text(value)), Literal::Text(literal)) => *value == *literal.as_bytes(),
        (Some(JsonValue::Array(array)), Literal::List(literals)) => {
            let mut elements = json::elements(array);
            literals.iter().all(|literal| elements.next().is_some_and(|element| equals(element, literal)))
                && elements.next().is_none()
        }
        _ => false,
    }
}

/// Constants of mixed types to look values up in, each once; a number is the same as integer and as float.
#[derive(Clone, Debug)]
pub(super) struct ValueSet {
    ints: IntSet,
    floats: FloatSet,
    texts: TextSet,
    bools: [bool; 2],
    lists: Box<[Literal]>,
}

impl ValueSet {
    /// The set of these constants.
    ///
    /// # Errors
    /// When there are too many lists among them.
    pub(super) fn new(literals: impl IntoIterator<Item = Literal>) -> Result<ValueSet, FilterError> {
        let (mut ints, mut floats, mut texts, mut lists) = (Vec::new(), Vec::new(), Vec::new(), Vec::<Literal>::new());
        let mut bools = [false; 2];
        for literal in literals {
            match literal {
                Literal::Bool(value) => bools[usize::from(value)] = true,
                Literal::Int(value) => ints.push(value),
                Literal::Float(value) => match as_integer(value) {
                    Some(value) => ints.push(value),
                    None => floats.push(value),
                },
                Literal::Text(text) => texts.push(text),
                list => {
                    if lists.len() >= FILTER_LISTS_MAX {
                        return Err(FilterError::expression(format!(
                            "more than {FILTER_LISTS_MAX} lists are looked for at once; ask for their elements instead"
                        )));
                    }
                    if !lists.iter().any(|other| other.equals(&list)) {
                        lists.push(list);
                    }
                }
            }
        }
        Ok(ValueSet {
            ints: IntSet::new(ints),
            floats: FloatSet::new(floats),
            texts: TextSet::new(texts),
            bools,
            lists: lists.into(),
        })
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.ints.members().len() + self.floats.len() + self.texts.members().len() + 2 + self.lists.len()
            - self.bools.iter().filter(|is_member| !**is_member).count()
    }

    /// Whether a value is of the type of some member, so that "not a member" is an answer; every value is known to be
    /// no member of the empty set.
    fn knows(&self, value: &JsonValue<'_>) -> bool {
        match value {
            JsonValue::Null => false,
            _ if self.len() == 0 => true,
            JsonValue::Int(_) | JsonValue::Float(_) => self.ints.members().len() + self.floats.len() > 0,
            JsonValue::Text(_) => !self.texts.members().is_empty(),
            JsonValue::Bool(_) => self.bools != [false; 2],
            JsonValue::Array(_) => !self.lists.is_empty(),
            JsonValue::Object(_) => false,
        }
    }

    /// The place of a JSON value among the members.
    fn position(&self, value: &JsonValue<'_>, text: &[u8]) -> Option<usize> {
        match value {
            JsonValue::Int(value) => self.int(*value),
            JsonValue::Float(value) => self.float(*value),
            JsonValue::Text(value) => self.text(value),
            JsonValue::Bool(value) => self.bool(*value),
            JsonValue::Array(_) => {
                let place = self.lists.iter().position(|list| equals(text, list))?;
                Some(self.len() - self.lists.len() + place)
            }
            JsonValue::Null | JsonValue::Object(_) => None,
        }
    }

    /// The place of an array's element among the members.
    pub(super) fn element_position(&self, element: Element<'_>) -> Option<usize> {
        match element {
            Element::Bool(value) => self.bool(value),
            Element::Int(value) => self.int(value),
            Element::Float(value) => self.float(value),
            Element::Text(value) => self.text(value),
        }
    }

    fn int(&self, value: i64) -> Option<usize> {
        if !self.ints.contains(value) {
            return None;
        }
        self.ints.members().binary_search(&value).ok()
    }

    fn float(&self, value: f64) -> Option<usize> {
        match as_integer(value) {
            Some(value) => self.int(value),
            None => Some(self.ints.members().len() + self.floats.position(value)?),
        }
    }

    fn text(&self, value: &[u8]) -> Option<usize> {
        if !self.texts.contains(value) {
            return None;
        }
        let place = self.texts.members().binary_search_by(|member| member.as_bytes().cmp(value)).ok()?;
        Some(self.ints.members().len() + self.floats.len() + place)
    }

    fn bool(&self, value: bool) -> Option<usize> {
        let before = self.ints.members().len() + self.floats.len() + self.texts.members().len();
        self.bools[usize::from(value)].then(|| before + usize::from(value && self.bools[0]))
    }
}

/// The integer a float is, when it is one and fits.
fn as_integer(value: f64) -> Option<i64> {
    // 2^63 itself does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    (fits && value.fract() == 0.0).then_some(value as i64)
}

/// A test of an array as a whole.
#[derive(Clone, Debug)]
pub(super) enum ArrayCondition {
    Length {
        low: i64,
        high: i64,
    },
    Contains(ContainsKind, Box<ValueSet>),
    Equal(Box<[Literal]>),
    /// Of one element; UNKNOWN when the row has no such element.
    Element {
        index: usize,
        test: Condition,
    },
}

impl ArrayCondition {
    /// Of a row.
    pub(super) fn row(&self, row: ArrayRow<'_>) -> Option<bool> {
        match self {
            ArrayCondition::Length { low, high } => {
                let length = row.len() as i64;
                Some(length >= *low && length <= *high)
            }
            ArrayCondition::Contains(kind, set) => {
                if *kind == ContainsKind::All && set.len() > row.len() {
                    return Some(false);
                }
                let mut positions = row.iter().filter_map(|element| set.element_position(element));
                Some(match kind {
                    ContainsKind::One | ContainsKind::Any => positions.next().is_some(),
                    ContainsKind::All => has_all(positions, set.len()),
                })
            }
            ArrayCondition::Equal(literals) => Some(
                row.len() == literals.len()
                    && row.iter().zip(literals).all(|(element, literal)| match (element, literal) {
                        (Element::Bool(value), Literal::Bool(literal)) => value == *literal,
                        (Element::Int(value), Literal::Int(literal)) => value == *literal,
                        (Element::Float(value), literal) => literal.number() == Some(value),
                        (Element::Text(value), Literal::Text(literal)) => value == literal.as_bytes(),
                        _ => false,
                    }),
            ),
            ArrayCondition::Element { index, test } => row.get(*index).map(|element| test.element(element)),
        }
    }
}
