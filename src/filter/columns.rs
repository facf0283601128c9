//! Comparisons between two columns of numbers, 64 rows at a time.

use std::ops::Range;

use super::kernels::{Block, narrow_pairs, narrow_valid};
use super::syntax::Comparison;
use crate::types::{ColumnView, Values};

/// Compares two columns of numbers 64 rows at a time; `false` when they are of other types.
pub(super) fn narrow_columns(
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
    let values = (left.values, right.values);
    if is_integer(left.values) && is_integer(right.values) {
        compare_words(values, comparison, block, mask, negate, load);
    } else {
        compare_words(values, comparison, block, mask, negate, load_floats);
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

fn compare_words<'a, T: Copy + Default + PartialOrd>(
    (left, right): (Values<'a>, Values<'a>),
    comparison: Comparison,
    block: Block,
    mask: &mut [u64],
    negate: u64,
    load: impl Fn(Values<'a>, Range<usize>, &mut [T; 64]),
) {
    let (mut lefts, mut rights) = ([T::default(); 64], [T::default(); 64]);
    for (index, word) in mask.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
        let start = block.start + index * 64;
        let rows = start..block.end.min(start + 64);
        load(left, rows.clone(), &mut lefts);
        load(right, rows, &mut rights);
        compare_slices(&lefts, &rights, comparison, std::slice::from_mut(word), negate);
    }
}
