//! Predicates over the columns of one file, a block of rows at a time.
//!
//! A mask of candidate rows goes into every predicate and comes out narrowed: what an earlier part of an `and` ruled
//! out costs a later part nothing, and an `or` asks its later parts only about rows that are still open.

use super::Rows;
use super::columns::narrow_columns;
use super::condition::ArrayCondition;
use super::json;
use super::kernels::{BLOCK_WORDS, Block, narrow, narrow_rows, narrow_valid, negation};
use super::known::{self, Fixed};
use super::planner::Checked;
use super::predicate::{FieldIndex, Leaf, Predicate, PredicateId};
use super::scalars::narrow_scalar;
use super::syntax::Comparison;
use super::texts::narrow_lengths;
use crate::types::{ArrayRow, Bitmap, ColumnView, DataType, FieldSchema, Nulls, Validity, Value, Values};

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
