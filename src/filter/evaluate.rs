//! Predicates over the columns of one file, a block of rows at a time.
//!
//! A mask of candidate rows goes into every predicate and comes out narrowed: what an earlier part of an `and` ruled
//! out costs a later part nothing, and an `or` asks its later parts only about rows that are still open.

use std::cmp::Ordering;
use std::ops::Range;

use super::Rows;
use super::condition::{ArrayCondition, Condition};
use super::json;
use super::kernels::{narrow, narrow_any, narrow_bits, narrow_pairs, narrow_rows, narrow_valid};
use super::known::{self, Fixed};
use super::planner::Checked;
use super::predicate::{FieldIndex, Leaf, Predicate, PredicateId};
use super::sets::IntSet;
use super::syntax::{ArithmeticOp, Comparison};
use super::texts::{Texts, narrow_lengths, narrow_texts};
use crate::types::{ArrayRow, Bitmap, ColumnView, DataType, FieldSchema, Nulls, Validity, Value, Values};

/// Words of a block: 4,096 rows of eight bytes fill the first-level cache.
const BLOCK_WORDS: usize = 64;

/// The rows of a file for which a filter is TRUE.
pub(super) fn evaluate(checked: &Checked, rows: &dyn Rows) -> Bitmap {
    let row_count = rows.row_count();
    let known = known::decide(checked, rows);
    match known[checked.root as usize] {
        Fixed::Never => return Bitmap::zeros(row_count),
        Fixed::Always => return Bitmap::ones(row_count),
        Fixed::Open => {}
    }
    let columns = checked.fields.iter().map(|field| Source::new(field, rows)).collect();
    let mut evaluator =
        Evaluator { predicates: &checked.predicates, fields: &checked.fields, columns, fixed: Vec::new() };
    evaluator.fixed = known::combine(&checked.predicates, |id, leaf, is_negated| match known[id] {
        Fixed::Open => evaluator.fix_leaf(leaf, is_negated),
        fixed => fixed,
    });
    match evaluator.fixed[checked.root as usize] {
        Fixed::Never => return Bitmap::zeros(row_count),
        Fixed::Always => return Bitmap::ones(row_count),
        Fixed::Open => {}
    }
    // Candidates are filled in a block at a time: the first predicate then finds them in the first-level cache.
    let mut words = Vec::with_capacity(row_count.div_ceil(64));
    for start in (0..row_count).step_by(BLOCK_WORDS * 64) {
        let block = Block { start, end: row_count.min(start + BLOCK_WORDS * 64) };
        let first = words.len();
        words.resize(block.end.div_ceil(64), u64::MAX);
        if let Some(last) = words.last_mut().filter(|_| !block.end.is_multiple_of(64)) {
            *last >>= 64 - block.end % 64;
        }
        evaluator.narrow(checked.root, block, &mut words[first..]);
    }
    Bitmap::from_words(words, row_count)
}

/// Rows `start..end`.
#[derive(Clone, Copy, Debug)]
struct Block {
    start: usize,
    end: usize,
}

/// Where a field's values are.
#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    Column(ColumnView<'a>),
    /// The file is older than the field: every row holds its default, or null.
    Default,
}

impl<'a> Source<'a> {
    fn new(field: &FieldSchema, rows: &'a dyn Rows) -> Source<'a> {
        match rows.column(field) {
            Some(view) if holds_rows(&view, rows.row_count()) => Source::Column(view),
            // A column too short for its file is damaged; its rows are unknown.
            Some(view) => Source::Column(ColumnView { validity: Validity::None, ..view }),
            None => Source::Default,
        }
    }
}

fn holds_rows(view: &ColumnView<'_>, row_count: usize) -> bool {
    let values = match view.values {
        Values::BoolBits { bits, offset } => (bits.len() * 8).saturating_sub(offset),
        Values::BoolBytes(bytes) => bytes.len(),
        Values::Int8(values) => values.len(),
        Values::Int16(values) => values.len(),
        Values::Int32(values) => values.len(),
        Values::Int64(values) => values.len(),
        Values::Float(values) => values.len(),
        Values::Double(values) => values.len(),
        Values::Text { offsets, .. } => offsets.len().saturating_sub(1),
        Values::Vector { .. } => usize::MAX,
    };
    let validity = match view.validity {
        Validity::All | Validity::None => usize::MAX,
        Validity::Bits { bits, offset } => (bits.len() * 8).saturating_sub(offset),
        Validity::Bytes(bytes) => bytes.len(),
    };
    values >= row_count && validity >= row_count
}

struct Evaluator<'a> {
    predicates: &'a [Predicate],
    fields: &'a [FieldSchema],
    columns: Vec<Source<'a>>,
    /// One per predicate.
    fixed: Vec<Fixed>,
}

impl Evaluator<'_> {
    /// What a leaf is for every row of this file, as its column says without being read.
    fn fix_leaf(&self, leaf: &Leaf, is_negated: bool) -> Fixed {
        // One of two columns may be there and the other not.
        let Some(field) = leaf.field() else { return Fixed::Open };
        match self.columns[usize::from(field)] {
            Source::Default => {
                let mut mask = [1];
                with_default(&self.fields[usize::from(field)], |view| {
                    narrow_leaf(leaf, view, Block { start: 0, end: 1 }, &mut mask, negation(is_negated));
                });
                if mask == [1] { Fixed::Always } else { Fixed::Never }
            }
            Source::Column(view) => {
                let nulls = match view.validity {
                    Validity::All => Nulls::None,
                    // Also columns that are too short.
                    Validity::None => Nulls::All,
                    _ => Nulls::Some,
                };
                known::leaf(leaf, is_negated, nulls, None)
            }
        }
    }

    /// Keeps the bits of rows for which the predicate is TRUE. Recursion follows the nesting of the filter, which is
    /// bounded.
    fn narrow(&self, id: PredicateId, block: Block, mask: &mut [u64]) {
        match self.fixed[id as usize] {
            Fixed::Never => return mask.fill(0),
            Fixed::Always => return,
            Fixed::Open => {}
        }
        match &self.predicates[id as usize] {
            Predicate::And(children) => {
                for child in children {
                    self.narrow(*child, block, mask);
                    if mask.iter().all(|word| *word == 0) {
                        return;
                    }
                }
            }
            Predicate::Or(children) => self.narrow_or(children, block, mask),
            Predicate::Leaf { leaf, is_negated } => self.leaf(leaf, block, mask, negation(*is_negated)),
            Predicate::Constant(_) | Predicate::Not(_) => {}
        }
    }

    fn narrow_or(&self, children: &[PredicateId], block: Block, mask: &mut [u64]) {
        let mut part = [0; BLOCK_WORDS];
        let mut open = [0; BLOCK_WORDS];
        let (part, open) = (&mut part[..mask.len()], &mut open[..mask.len()]);
        open.copy_from_slice(mask);
        for child in children {
            if self.fixed[*child as usize] == Fixed::Never {
                continue;
            }
            part.copy_from_slice(open);
            self.narrow(*child, block, part);
            let mut left = 0;
            for (open, part) in open.iter_mut().zip(&*part) {
                *open &= !part;
                left |= *open;
            }
            if left == 0 {
                return;
            }
        }
        // What no part took stays open: the rest of the candidates is what the `or` keeps.
        mask.iter_mut().zip(open).for_each(|(word, open)| *word &= !*open);
    }

    fn leaf(&self, leaf: &Leaf, block: Block, mask: &mut [u64], negate: u64) {
        match leaf {
            Leaf::Columns { left, comparison, right } => {
                self.compare_columns(*left, *comparison, *right, block, mask, negate);
            }
            _ => match leaf.field().map(|field| self.columns[usize::from(field)]) {
                Some(Source::Column(view)) => narrow_leaf(leaf, view, block, mask, negate),
                // Defaults were decided by `fix_leaf`.
                Some(Source::Default) | None => {}
            },
        }
    }

    fn compare_columns(
        &self,
        left: FieldIndex,
        comparison: Comparison,
        right: FieldIndex,
        block: Block,
        mask: &mut [u64],
        negate: u64,
    ) {
        let sources = (self.columns[usize::from(left)], self.columns[usize::from(right)]);
        if let (Source::Column(left), Source::Column(right)) = sources
            && narrow_columns(left, comparison, right, block, mask, negate)
        {
            return;
        }
        narrow_rows(mask, |row| {
            let cells = (self.cell(left, block.start + row), self.cell(right, block.start + row));
            let (Some(left), Some(right)) = cells else { return false };
            let holds = match (left, right) {
                (Cell::Int(left), Cell::Int(right)) => comparison.holds(left.cmp(&right)),
                (Cell::Text(left), Cell::Text(right)) => comparison.holds(left.cmp(right)),
                (left, right) => match left.number().partial_cmp(&right.number()) {
                    Some(order) => comparison.holds(order),
                    None => comparison == Comparison::NotEqual,
                },
            };
            holds ^ (negate != 0)
        });
    }

    /// One value of a scalar column; `None` when it is null.
    fn cell(&self, field: FieldIndex, row: usize) -> Option<Cell<'_>> {
        match self.columns[usize::from(field)] {
            Source::Column(view) => cell(&view, row),
            Source::Default => match self.fields[usize::from(field)].default_value.as_ref()? {
                Value::Null => None,
                Value::Bool(value) => Some(Cell::Int((*value).into())),
                Value::Int(value) => Some(Cell::Int(*value)),
                Value::Float(value) => Some(Cell::Float(*value)),
                Value::Text(text) => Some(Cell::Text(text.as_bytes())),
            },
        }
    }
}

/// A scalar; truth values are 0 and 1.
#[derive(Clone, Copy, Debug)]
enum Cell<'a> {
    Int(i64),
    Float(f64),
    Text(&'a [u8]),
}

impl Cell<'_> {
    fn number(self) -> f64 {
        match self {
            Cell::Int(value) => value as f64,
            Cell::Float(value) => value,
            Cell::Text(_) => f64::NAN,
        }
    }
}

fn cell<'a>(view: &ColumnView<'a>, row: usize) -> Option<Cell<'a>> {
    if !view.validity.is_valid(row) {
        return None;
    }
    match view.values {
        Values::BoolBits { .. } | Values::BoolBytes(_) => Some(Cell::Int(view.bool(row).into())),
        Values::Float(values) => Some(Cell::Float(values[row].into())),
        Values::Double(values) => Some(Cell::Float(values[row])),
        Values::Text { .. } => Some(Cell::Text(view.text(row))),
        Values::Vector { .. } => None,
        _ => view.integer(row).map(Cell::Int),
    }
}

fn negation(is_negated: bool) -> u64 {
    if is_negated { u64::MAX } else { 0 }
}

/// A column of one row that holds a field's default.
fn with_default(field: &FieldSchema, then: impl FnOnce(ColumnView<'_>)) {
    let valid = |values| ColumnView { values, validity: Validity::All };
    match (&field.default_value, field.data_type) {
        (Some(Value::Bool(value)), _) => then(valid(Values::BoolBytes(&[u8::from(*value)]))),
        (Some(Value::Int(value)), DataType::Float | DataType::Double) => then(valid(Values::Double(&[*value as f64]))),
        (Some(Value::Int(value)), _) => then(valid(Values::Int64(&[*value]))),
        (Some(Value::Float(value)), DataType::Float) => then(valid(Values::Float(&[*value as f32]))),
        (Some(Value::Float(value)), _) => then(valid(Values::Double(&[*value]))),
        (Some(Value::Text(text)), _) => {
            let end = i32::try_from(text.len()).unwrap_or(i32::MAX);
            then(valid(Values::Text { offsets: &[0, end], bytes: text.as_bytes() }));
        }
        (Some(Value::Null) | None, _) => {
            then(ColumnView { values: Values::Int64(&[0]), validity: Validity::None });
        }
    }
}

/// Keeps the bits of rows for which a leaf of one column is TRUE.
fn narrow_leaf(leaf: &Leaf, view: ColumnView<'_>, block: Block, mask: &mut [u64], negate: u64) {
    match leaf {
        // TRUE for null rows, never UNKNOWN.
        Leaf::Null { .. } => return narrow_valid(view.validity, block.start, mask, !negate),
        Leaf::Exists { path, .. } => {
            return narrow_rows(mask, |row| {
                let row = block.start + row;
                let found = view.validity.is_valid(row) && {
                    json::find(view.text(row), path).is_some_and(json::holds_anything)
                };
                found ^ (negate != 0)
            });
        }
        _ => narrow_valid(view.validity, block.start, mask, 0),
    }
    let is_true = |known: Option<bool>| known.is_some_and(|value| value ^ (negate != 0));
    match leaf {
        Leaf::Scalar { test, .. } => narrow_scalar(test, view, block, mask, negate),
        Leaf::Moved { by, test, .. } => match view.values {
            Values::Int64(values) => {
                narrow(&values[block.start..block.end], mask, negate, |value| test.int(by.after(value)));
            }
            _ => mask.fill(0),
        },
        Leaf::Json { path, test, .. } => narrow_rows(mask, |row| {
            is_true(json::find(view.text(block.start + row), path).and_then(|text| test.value(text)))
        }),
        Leaf::Array { element_type, test, .. } => {
            if let (ArrayCondition::Length { low, high }, Some(width), Values::Text { offsets, .. }) =
                (&**test, ArrayRow::width(*element_type), view.values)
            {
                let width = width as i64;
                let bytes = (low.saturating_mul(width), high.saturating_mul(width).saturating_add(width - 1));
                return narrow_lengths(offsets, block.start..block.end, bytes, mask, negate);
            }
            narrow_rows(mask, |row| is_true(test.row(ArrayRow::new(view.text(block.start + row), *element_type))))
        }
        Leaf::Columns { .. } | Leaf::Exists { .. } | Leaf::Null { .. } => {}
    }
}

fn narrow_scalar(test: &Condition, view: ColumnView<'_>, block: Block, mask: &mut [u64], negate: u64) {
    let rows = block.start..block.end;
    match view.values {
        Values::BoolBits { bits, offset } => {
            let (if_true, if_false) = (negation(test.bool(true)), negation(test.bool(false)));
            narrow_bits(bits, offset + block.start, mask, |word| (word & if_true | !word & if_false) ^ negate);
        }
        Values::BoolBytes(values) => narrow(&values[rows], mask, negate, |value| test.bool(value != 0)),
        Values::Int8(values) => narrow_ints(&values[rows], test, mask, negate),
        Values::Int16(values) => narrow_ints(&values[rows], test, mask, negate),
        Values::Int32(values) => narrow_ints(&values[rows], test, mask, negate),
        Values::Int64(values) => narrow_ints(&values[rows], test, mask, negate),
        Values::Float(values) => match test {
            // The plan rounded the range's ends to what the column can hold.
            Condition::Float { low, high } => {
                let (low, high) = (*low as f32, *high as f32);
                narrow(&values[rows], mask, negate, |value| (value >= low) & (value <= high));
            }
            _ => narrow_floats(&values[rows], test, mask, negate),
        },
        Values::Double(values) => match test {
            Condition::Float { low, high } => {
                let (low, high) = (*low, *high);
                narrow(&values[rows], mask, negate, |value| (value >= low) & (value <= high));
            }
            _ => narrow_floats(&values[rows], test, mask, negate),
        },
        Values::Text { offsets, bytes } => {
            if !narrow_texts(test, Texts { offsets, bytes }, rows, mask, negate) {
                narrow_rows(mask, |row| test.text(view.text(block.start + row)) ^ (negate != 0));
            }
        }
        Values::Vector { .. } => mask.fill(0),
    }
}

/// Compares two columns of numbers 64 rows at a time; `false` when they are of other types.
fn narrow_columns(
    left: ColumnView<'_>,
    comparison: Comparison,
    right: ColumnView<'_>,
    block: Block,
    mask: &mut [u64],
    negate: u64,
) -> bool {
    let are_numbers = is_number(left.values) && is_number(right.values);
    if !are_numbers {
        return false;
    }
    narrow_valid(left.validity, block.start, mask, 0);
    narrow_valid(right.validity, block.start, mask, 0);
    let rows = block.start..block.end;
    match (left.values, right.values) {
        (Values::Int32(left), Values::Int32(right)) => {
            compare_slices(&left[rows.clone()], &right[rows], comparison, mask, negate)
        }
        (Values::Int64(left), Values::Int64(right)) => {
            compare_slices(&left[rows.clone()], &right[rows], comparison, mask, negate)
        }
        (Values::Float(left), Values::Float(right)) => {
            compare_slices(&left[rows.clone()], &right[rows], comparison, mask, negate)
        }
        (Values::Double(left), Values::Double(right)) => {
            compare_slices(&left[rows.clone()], &right[rows], comparison, mask, negate)
        }
        _ => compare_widened(left, comparison, right, block, mask, negate),
    }
    true
}

/// Of one type.
fn compare_slices<T: Copy + PartialOrd>(
    left: &[T],
    right: &[T],
    comparison: Comparison,
    mask: &mut [u64],
    negate: u64,
) {
    match comparison {
        Comparison::Less => narrow_pairs(left, right, mask, negate, |left, right| left < right),
        Comparison::LessEqual => narrow_pairs(left, right, mask, negate, |left, right| left <= right),
        Comparison::Greater => narrow_pairs(left, right, mask, negate, |left, right| left > right),
        Comparison::GreaterEqual => narrow_pairs(left, right, mask, negate, |left, right| left >= right),
        Comparison::Equal => narrow_pairs(left, right, mask, negate, |left, right| left == right),
        Comparison::NotEqual => narrow_pairs(left, right, mask, negate, |left, right| left != right),
    }
}

/// Of two types of numbers: integers as 64 bits, otherwise doubles.
fn compare_widened(
    left: ColumnView<'_>,
    comparison: Comparison,
    right: ColumnView<'_>,
    block: Block,
    mask: &mut [u64],
    negate: u64,
) {
    if is_integer(left.values) && is_integer(right.values) {
        compare_words(
            block,
            mask,
            negate,
            comparison,
            |rows, out| load(left.values, rows, out),
            |rows, out| {
                load(right.values, rows, out);
            },
        );
    } else {
        compare_words(
            block,
            mask,
            negate,
            comparison,
            |rows, out| load_floats(left.values, rows, out),
            |rows, out| {
                load_floats(right.values, rows, out);
            },
        );
    }
}

fn is_integer(values: Values<'_>) -> bool {
    matches!(values, Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_))
}

fn is_number(values: Values<'_>) -> bool {
    is_integer(values) || matches!(values, Values::Float(_) | Values::Double(_))
}

/// Up to 64 integers, widened.
fn load(values: Values<'_>, rows: Range<usize>, out: &mut [i64; 64]) {
    macro_rules! widen {
        ($values:expr) => {
            out.iter_mut().zip(&$values[rows]).for_each(|(out, value)| *out = i64::from(*value))
        };
    }
    match values {
        Values::Int8(values) => widen!(values),
        Values::Int16(values) => widen!(values),
        Values::Int32(values) => widen!(values),
        Values::Int64(values) => widen!(values),
        _ => {}
    }
}

/// Up to 64 numbers as doubles.
fn load_floats(values: Values<'_>, rows: Range<usize>, out: &mut [f64; 64]) {
    match values {
        Values::Float(values) => out.iter_mut().zip(&values[rows]).for_each(|(out, value)| *out = f64::from(*value)),
        Values::Double(values) => out.iter_mut().zip(&values[rows]).for_each(|(out, value)| *out = *value),
        integers => {
            let mut wide = [0; 64];
            load(integers, rows, &mut wide);
            out.iter_mut().zip(wide).for_each(|(out, value)| *out = value as f64);
        }
    }
}

fn compare_words<T: Copy + Default + PartialOrd>(
    block: Block,
    mask: &mut [u64],
    negate: u64,
    comparison: Comparison,
    load_left: impl Fn(Range<usize>, &mut [T; 64]),
    load_right: impl Fn(Range<usize>, &mut [T; 64]),
) {
    let (mut left, mut right) = ([T::default(); 64], [T::default(); 64]);
    for (index, word) in mask.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
        let start = block.start + index * 64;
        let rows = start..block.end.min(start + 64);
        load_left(rows.clone(), &mut left);
        load_right(rows, &mut right);
        compare_slices(&left, &right, comparison, std::slice::from_mut(word), negate);
    }
}

/// An integer of a column.
trait Integer: Copy + Ord + Into<i64> {
    const SMALLEST: i64;
    const LARGEST: i64;
    /// Of a number between [`Integer::SMALLEST`] and [`Integer::LARGEST`].
    fn of(value: i64) -> Self;
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Integer for $type {
            const SMALLEST: i64 = <$type>::MIN as i64;
            const LARGEST: i64 = <$type>::MAX as i64;
            fn of(value: i64) -> $type {
                value as $type
            }
        }
    )*};
}

integer!(i8, i16, i32, i64);

fn narrow_floats<T: Copy + Into<f64>>(values: &[T], test: &Condition, mask: &mut [u64], negate: u64) {
    let Condition::FloatArithmetic { operator, operand, low, high } = test else {
        return narrow(values, mask, negate, |value| test.float(value.into()));
    };
    let (operand, low, high) = (*operand, *low, *high);
    let is_inside = |result: f64| (result >= low) & (result <= high);
    match operator {
        ArithmeticOp::Add => narrow(values, mask, negate, |value| is_inside(value.into() + operand)),
        ArithmeticOp::Subtract => narrow(values, mask, negate, |value| is_inside(value.into() - operand)),
        ArithmeticOp::Multiply => narrow(values, mask, negate, |value| is_inside(value.into() * operand)),
        ArithmeticOp::Divide => narrow(values, mask, negate, |value| is_inside(value.into() / operand)),
        _ => narrow(values, mask, negate, |value| test.float(value.into())),
    }
}

fn narrow_ints<T: Integer>(values: &[T], test: &Condition, mask: &mut [u64], negate: u64) {
    match test {
        Condition::Int { low, high } => {
            let (low, high) = ((*low).max(T::SMALLEST), (*high).min(T::LARGEST));
            match low.cmp(&high) {
                Ordering::Greater => mask.iter_mut().for_each(|word| *word &= negate),
                Ordering::Equal => {
                    let only = T::of(low);
                    narrow(values, mask, negate, |value| value == only);
                }
                Ordering::Less if low == T::SMALLEST => {
                    let high = T::of(high);
                    narrow(values, mask, negate, |value| value <= high);
                }
                Ordering::Less if high == T::LARGEST => {
                    let low = T::of(low);
                    narrow(values, mask, negate, |value| value >= low);
                }
                Ordering::Less => {
                    let (low, high) = (T::of(low), T::of(high));
                    narrow(values, mask, negate, |value| (value >= low) & (value <= high));
                }
            }
        }
        Condition::IntIn(set) => narrow_members(values, set, mask, negate),
        Condition::IntArithmetic { operator, operand, low, high } => {
            let (operand, low, high) = (*operand, *low, *high);
            let is_inside = |result: i64| (result >= low) & (result <= high);
            // One loop for each operator: a branch within would keep the compiler from using vectors.
            match operator {
                ArithmeticOp::BitAnd => narrow(values, mask, negate, |value| is_inside(value.into() & operand)),
                ArithmeticOp::BitOr => narrow(values, mask, negate, |value| is_inside(value.into() | operand)),
                ArithmeticOp::BitXor => narrow(values, mask, negate, |value| is_inside(value.into() ^ operand)),
                _ => narrow(values, mask, negate, |value| test.int(value.into())),
            }
        }
        _ => narrow(values, mask, negate, |value| test.int(value.into())),
    }
}

fn narrow_members<T: Integer>(values: &[T], set: &IntSet, mask: &mut [u64], negate: u64) {
    if let Some(few) = set.few() {
        let is_possible = |member: &&i64| (T::SMALLEST..=T::LARGEST).contains(*member);
        let members: Vec<T> = few.iter().filter(is_possible).map(|member| T::of(*member)).collect();
        return narrow_any(values, mask, negate, &members);
    }
    let Some(may_contain) = set.prefilter() else {
        return narrow(values, mask, negate, |value| set.contains(value.into()));
    };
    let mut members = [0; BLOCK_WORDS];
    let members = &mut members[..mask.len()];
    members.copy_from_slice(mask);
    narrow(values, members, 0, |value| may_contain(value.into()));
    narrow_rows(members, |row| set.contains(values[row].into()));
    mask.iter_mut().zip(members).for_each(|(word, members)| *word &= *members ^ negate);
}
