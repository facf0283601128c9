//! The filter language: text to plan to rows. Start at `parser.rs`, then `planner.rs` and `evaluate.rs`.
//! Uses `types`, `config`; does no I/O and never recurses on input. Invariant: a plan that was made evaluates without error.

mod columns;
mod condition;
mod error;
mod evaluate;
mod json;
mod kernels;
mod known;
mod lexer;
mod literal;
mod parser;
mod path;
mod pattern;
mod plan;
mod planner;
mod predicate;
mod scalars;
mod sets;
mod syntax;
mod texts;
mod time;
mod typing;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

pub use error::{FilterError, FilterErrorKind};
pub use path::{JsonPath, JsonScalar};
pub use plan::{Isolation, KeyBounds, Plan};

use crate::types::{ColumnView, FieldId, FieldSchema, Nulls, ValueRange, Zone};

/// What a filter is read with: values of its `{name}`s, the zone of its timestamps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Templates {
    /// By name.
    pub values: std::collections::HashMap<String, TemplateValue>,
    /// Of timestamps that are written without an offset.
    pub zone: Zone,
}

/// One template value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum TemplateValue {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<TemplateValue>),
    /// A JSON document (elements of a JSON array value).
    Json(Vec<u8>),
}

/// Rows of one file as the evaluator sees them.
pub trait Rows {
    /// Number of rows.
    fn row_count(&self) -> usize;
    /// A column, or `None` when the file is older than the field: every row then holds the field's default (or null).
    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>>;
    /// What is known of a column without reading it, to skip files: how many rows are null, between which values the others
    /// lie. It may be known of more rows than these.
    fn known(&self, field: FieldId) -> Option<(Nulls, Option<&ValueRange>)> {
        let _ = field;
        None
    }
}
