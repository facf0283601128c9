//! What a filter is for every row of a file, as far as statistics say: such files need not be read.

use super::Rows;
use super::condition::Condition;
use super::pattern::Pattern;
use super::planner::Checked;
use super::predicate::{Leaf, Predicate, PredicateId};
use crate::types::{Nulls, ValueRange};
use std::ops::Bound;

/// What a predicate is for every row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fixed {
    /// TRUE for none.
    Never,
    /// TRUE for all.
    Always,
    /// That depends on the row.
    Open,
}

/// Whether no row can match.
pub(super) fn excludes(checked: &Checked, rows: &dyn Rows) -> bool {
    decide(checked, rows)[checked.root as usize] == Fixed::Never
}

/// What each predicate is, by the statistics of its columns.
pub(super) fn decide(checked: &Checked, rows: &dyn Rows) -> Vec<Fixed> {
    let known: Vec<_> = checked.fields.iter().map(|field| rows.known(field.id)).collect();
    combine(&checked.predicates, |_, of, is_negated| {
        let known = of.field().and_then(|field| known[usize::from(field)]);
        known.map_or(Fixed::Open, |(nulls, range)| leaf(of, is_negated, nulls, range))
    })
}

/// What each predicate is, given what the leaves are.
pub(super) fn combine(predicates: &[Predicate], of_leaf: impl Fn(usize, &Leaf, bool) -> Fixed) -> Vec<Fixed> {
    let mut fixed: Vec<Fixed> = Vec::with_capacity(predicates.len());
    for (id, predicate) in predicates.iter().enumerate() {
        let of = |child: &PredicateId| fixed[*child as usize];
        fixed.push(match predicate {
            Predicate::Constant(true) => Fixed::Always,
            Predicate::Constant(false) | Predicate::Not(_) => Fixed::Never,
            Predicate::And(children) if children.iter().any(|child| of(child) == Fixed::Never) => Fixed::Never,
            Predicate::And(children) if children.iter().all(|child| of(child) == Fixed::Always) => Fixed::Always,
            Predicate::Or(children) if children.iter().any(|child| of(child) == Fixed::Always) => Fixed::Always,
            Predicate::Or(children) if children.iter().all(|child| of(child) == Fixed::Never) => Fixed::Never,
            Predicate::And(_) | Predicate::Or(_) => Fixed::Open,
            Predicate::Leaf { leaf, is_negated } => of_leaf(id, leaf, *is_negated),
        });
    }
    fixed
}

/// What a leaf of one column is, given how many rows are null and between which values the others lie.
pub(super) fn leaf(leaf: &Leaf, is_negated: bool, nulls: Nulls, range: Option<&ValueRange>) -> Fixed {
    let decided = |value: bool| if value != is_negated { Fixed::Always } else { Fixed::Never };
    match (leaf, nulls) {
        (Leaf::Null { .. }, Nulls::None) => decided(false),
        (Leaf::Null { .. }, Nulls::All) => decided(true),
        // Never UNKNOWN: there is nothing in a null row.
        (Leaf::Exists { .. }, Nulls::All) => decided(false),
        (Leaf::Null { .. } | Leaf::Exists { .. }, _) => Fixed::Open,
        (_, Nulls::All) => Fixed::Never,
        (Leaf::Scalar { test, .. }, _) => match range.and_then(|range| constant_in(test, range)) {
            Some(value) if value == is_negated => Fixed::Never,
            // Nulls are neither: only where there are none does it hold for every row.
            Some(_) if nulls == Nulls::None => Fixed::Always,
            _ => Fixed::Open,
        },
        _ => Fixed::Open,
    }
}

/// What a test says of every value of a range; `None` when that depends on the value.
fn constant_in(test: &Condition, range: &ValueRange) -> Option<bool> {
    match (test, range) {
        (Condition::Int { low, high }, ValueRange::Integers { min, max }) => {
            decide_range(*max < *low || *min > *high || low > high, *min >= *low && *max <= *high)
        }
        (Condition::IntIn(set), ValueRange::Integers { min, max }) => {
            let members = set.members();
            let next = members.partition_point(|member| member < min);
            (members.get(next).is_none_or(|member| member > max)).then_some(false)
        }
        (Condition::Float { low, high }, ValueRange::Floats { min, max }) => {
            decide_range(*max < *low || *min > *high || low > high, *min >= *low && *max <= *high)
        }
        (Condition::Bool { if_true, if_false }, ValueRange::Integers { min, max }) => match (min, max) {
            (0, 0) => Some(*if_false),
            (1, 1) => Some(*if_true),
            _ => (if_true == if_false).then_some(*if_true),
        },
        (test, ValueRange::Texts { min, max }) => is_outside(test, min.as_bytes(), max.as_bytes()).then_some(false),
        _ => None,
    }
}

fn decide_range(is_outside: bool, is_inside: bool) -> Option<bool> {
    match (is_outside, is_inside) {
        (true, _) => Some(false),
        (false, true) => Some(true),
        _ => None,
    }
}

/// Whether no string between two others passes; their ends may be cut, so nothing else is certain.
fn is_outside(test: &Condition, min: &[u8], max: &[u8]) -> bool {
    match test {
        Condition::TextEqual(text) => text.as_bytes() < min || text.as_bytes() > max,
        Condition::TextRange { low, high } => {
            let is_below = match high {
                Bound::Included(high) => high.as_bytes() < min,
                Bound::Excluded(high) => high.as_bytes() <= min,
                Bound::Unbounded => false,
            };
            let is_above = match low {
                Bound::Included(low) => low.as_bytes() > max,
                Bound::Excluded(low) => low.as_bytes() >= max,
                Bound::Unbounded => false,
            };
            is_below || is_above
        }
        Condition::TextIn(set) => {
            let members = set.members();
            let next = members.partition_point(|member| member.as_bytes() < min);
            members.get(next).is_none_or(|member| member.as_bytes() > max)
        }
        Condition::Pattern(Pattern::Equal(text)) => **text < *min || **text > *max,
        Condition::Pattern(Pattern::Prefix(prefix)) => **prefix > *max || **prefix < *min && !min.starts_with(prefix),
        _ => false,
    }
}
