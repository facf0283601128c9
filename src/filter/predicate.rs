//! A checked filter as a tree in one vector, and what is done to it before it is evaluated.
//!
//! Negations are moved to the leaves (De Morgan holds in three-valued logic). After that a row matches an `and` when it
//! matches every part and an `or` when it matches any, so evaluation needs one bitmap, "is TRUE", instead of two:
//! only a leaf has to tell FALSE from UNKNOWN.

use super::condition::{ArrayCondition, Condition, JsonCondition};
use super::sets::{IntSet, TextSet};
use super::syntax::{Comparison, PathStep};
use super::time::Interval;
use crate::types::DataType;

/// A predicate's place in the vector; children come before their parents.
pub(super) type PredicateId = u32;

/// A place in [`super::Plan`]'s list of fields.
pub(super) type FieldIndex = u16;

/// One node.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    /// TRUE or FALSE.
    Constant(bool),
    And(Box<[PredicateId]>),
    Or(Box<[PredicateId]>),
    Not(PredicateId),
    /// What a leaf knows, or its opposite; UNKNOWN stays UNKNOWN.
    Leaf {
        leaf: Leaf,
        is_negated: bool,
    },
}

/// A question about one row's values.
#[derive(Clone, Debug)]
pub(super) enum Leaf {
    /// Of a scalar column.
    Scalar { field: FieldIndex, test: Condition },
    /// Of a timestamp moved by an interval with months, whose length depends on the row.
    Moved { field: FieldIndex, by: Interval, test: Box<Condition> },
    /// Between two columns.
    Columns { left: FieldIndex, comparison: Comparison, right: FieldIndex },
    /// Of the value at a path.
    Json { field: FieldIndex, path: Box<[PathStep]>, test: Box<JsonCondition> },
    /// Whether there is anything at a path; never UNKNOWN.
    Exists { field: FieldIndex, path: Box<[PathStep]> },
    /// Of an array column.
    Array { field: FieldIndex, element_type: DataType, test: Box<ArrayCondition> },
    /// Whether a row is null; never UNKNOWN.
    Null { field: FieldIndex },
}

impl Leaf {
    /// The one field it asks about.
    pub(super) fn field(&self) -> Option<FieldIndex> {
        match self {
            Leaf::Columns { .. } => None,
            Leaf::Scalar { field, .. }
            | Leaf::Moved { field, .. }
            | Leaf::Json { field, .. }
            | Leaf::Exists { field, .. }
            | Leaf::Array { field, .. }
            | Leaf::Null { field } => Some(*field),
        }
    }

    /// What a row costs, in about nanoseconds: cheap parts of an `and` go first.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Leaf::Null { .. } => 1,
            Leaf::Scalar { test, .. } => match test {
                Condition::Bool { .. } => 1,
                Condition::Int { .. } | Condition::Float { .. } => 2,
                Condition::IntArithmetic { .. } | Condition::FloatArithmetic { .. } => 3,
                Condition::IntIn(_) | Condition::FloatIn(_) => 6,
                Condition::TextEqual(_) | Condition::TextRange { .. } => 10,
                Condition::TextIn(_) => 20,
                Condition::Pattern(_) => 60,
            },
            Leaf::Columns { .. } => 10,
            Leaf::Moved { .. } => 20,
            Leaf::Array { .. } => 40,
            Leaf::Json { .. } | Leaf::Exists { .. } => 200,
        }
    }
}

/// Moves negations to the leaves; the last predicate is the root.
pub(super) fn push_negations_down(predicates: &mut [Predicate]) {
    let mut is_negated = vec![false; predicates.len()];
    for id in (0..predicates.len()).rev() {
        let negate = is_negated[id];
        let mut pass_down = |children: &[PredicateId], negate| {
            for child in children {
                is_negated[*child as usize] = negate;
            }
        };
        let taken = std::mem::replace(&mut predicates[id], Predicate::Constant(false));
        predicates[id] = match taken {
            Predicate::Constant(value) => Predicate::Constant(value ^ negate),
            Predicate::Leaf { leaf, is_negated } => Predicate::Leaf { leaf, is_negated: is_negated ^ negate },
            Predicate::Not(child) => {
                pass_down(&[child], !negate);
                Predicate::And(Box::new([child]))
            }
            Predicate::And(children) => {
                pass_down(&children, negate);
                if negate { Predicate::Or(children) } else { Predicate::And(children) }
            }
            Predicate::Or(children) => {
                pass_down(&children, negate);
                if negate { Predicate::And(children) } else { Predicate::Or(children) }
            }
        };
    }
}

/// Makes `a == 1 or a == 2 or a in [3]` one `a in [1, 2, 3]`, and the same of `!=` and `not in` under `and`: programs
/// write such chains with thousands of parts.
pub(super) fn merge_equalities(predicates: &mut [Predicate]) {
    for id in 0..predicates.len() {
        let (children, of_negated) = match &mut predicates[id] {
            Predicate::Or(children) => (std::mem::take(children), false),
            Predicate::And(children) => (std::mem::take(children), true),
            _ => continue,
        };
        let merged = merge_children(predicates, children, of_negated);
        predicates[id] = if of_negated { Predicate::And(merged) } else { Predicate::Or(merged) };
    }
}

/// Equalities on one field, to become one set.
#[derive(Default)]
struct Group {
    /// The child that becomes the set.
    first: PredicateId,
    count: usize,
    is_text: bool,
    ints: Vec<i64>,
    texts: Vec<Box<str>>,
}

fn merge_children(predicates: &mut [Predicate], children: Box<[PredicateId]>, of_negated: bool) -> Box<[PredicateId]> {
    let mut groups: Vec<Option<Group>> = Vec::new();
    let mut kept = Vec::with_capacity(children.len());
    for child in children {
        let Some(field) = equality_field(&predicates[child as usize], of_negated) else {
            kept.push(child);
            continue;
        };
        if groups.len() <= field.into() {
            groups.resize_with(usize::from(field) + 1, || None);
        }
        let group = groups[usize::from(field)].get_or_insert_with(|| {
            kept.push(child);
            Group { first: child, ..Group::default() }
        });
        group.count += 1;
        if let Predicate::Leaf { leaf: Leaf::Scalar { test, .. }, .. } = &predicates[child as usize] {
            group.is_text = matches!(test, Condition::TextEqual(_) | Condition::TextIn(_));
            match test {
                Condition::Int { low, .. } => group.ints.push(*low),
                Condition::IntIn(set) => group.ints.extend_from_slice(set.members()),
                Condition::TextEqual(text) => group.texts.push(text.clone()),
                Condition::TextIn(set) => group.texts.extend_from_slice(set.members()),
                _ => {}
            }
        }
    }
    for (field, group) in groups.into_iter().enumerate() {
        let Some(group) = group.filter(|group| group.count > 1) else { continue };
        let test = if group.is_text {
            Condition::TextIn(Box::new(TextSet::new(group.texts)))
        } else {
            Condition::IntIn(Box::new(IntSet::new(group.ints)))
        };
        let leaf = Leaf::Scalar { field: field as FieldIndex, test };
        predicates[group.first as usize] = Predicate::Leaf { leaf, is_negated: of_negated };
    }
    kept.into()
}

/// The field of an equality or membership with this sign; a field is of one type, so the sets never mix.
fn equality_field(predicate: &Predicate, of_negated: bool) -> Option<FieldIndex> {
    match predicate {
        Predicate::Leaf { leaf: Leaf::Scalar { field, test }, is_negated } if *is_negated == of_negated => match test {
            Condition::Int { low, high } if low == high => Some(*field),
            Condition::IntIn(_) | Condition::TextEqual(_) | Condition::TextIn(_) => Some(*field),
            _ => None,
        },
        _ => None,
    }
}

/// Puts the cheap parts of every `and` and `or` first.
pub(super) fn order_by_cost(predicates: &mut [Predicate]) {
    let mut costs = vec![0u64; predicates.len()];
    for id in 0..predicates.len() {
        costs[id] = match &mut predicates[id] {
            Predicate::Leaf { leaf, .. } => leaf.cost(),
            Predicate::And(children) | Predicate::Or(children) => {
                children.sort_by_key(|child| costs[*child as usize]);
                children.iter().fold(0, |sum: u64, child| sum.saturating_add(costs[*child as usize]))
            }
            Predicate::Constant(_) | Predicate::Not(_) => 0,
        };
    }
}
