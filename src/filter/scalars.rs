//! Tests of one scalar column: a loop for each type and kind of test, so that the compiler makes vectors of it.

use std::cmp::Ordering;

use super::condition::Condition;
use super::kernels::{BLOCK_WORDS, Block, narrow, narrow_any, narrow_bits, narrow_rows, negation};
use super::sets::IntSet;
use super::syntax::ArithmeticOp;
use super::texts::{Texts, narrow_texts};
use crate::types::{ColumnView, Values};

/// Keeps the rows whose value passes; nulls were ruled out before.
pub(super) fn narrow_scalar(test: &Condition, view: ColumnView<'_>, block: Block, mask: &mut [u64], negate: u64) {
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
