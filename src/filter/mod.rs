//! The filter language: text to plan to rows. Start at `parser.rs`, then `plan.rs` and `evaluate.rs`.
//! Uses `types`, `config`; does no I/O and never recurses on input. Invariant: a plan that was made evaluates without error.

use crate::types::{Bitmap, CollectionSchema, ColumnView, FieldId, FieldSchema, Keys};

/// Values of `{name}` in a filter.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// By name.
    pub values: std::collections::HashMap<String, TemplateValue>,
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

/// Why a filter cannot be used; the text is Milvus' detail, without the `failed to create query plan: ` around it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// What Milvus' callers match on.
    pub message: String,
}

/// A checked filter.
#[derive(Clone, Debug)]
pub struct Plan {}

/// Rows of one file as the evaluator sees them.
pub trait Rows {
    /// Number of rows.
    fn row_count(&self) -> usize;
    /// A column, or `None` when the file is older than the field: every row then holds the field's default (or null).
    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>>;
    /// Smallest and largest value of a numeric or timestamp column in this file, when they are known; to skip files.
    fn numeric_range(&self, field: FieldId) -> Option<(f64, f64)> {
        let _ = field;
        None
    }
}

impl Plan {
    /// Parses and checks a filter; an empty or blank text matches every row.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn new(text: &str, schema: &CollectionSchema, templates: &Templates) -> Result<Plan, FilterError> {
        let _ = (text, schema, templates);
        todo!()
    }

    /// Whether every row matches, because the text was empty (or folded to `true`).
    pub fn is_match_all(&self) -> bool {
        todo!()
    }

    /// The keys, when the filter is exactly `pk in [...]` or `pk == x`: rows are then found without a scan.
    pub fn primary_keys(&self) -> Option<&Keys> {
        todo!()
    }

    /// The rows that match: bit = 1 where the filter is TRUE (not where it is FALSE or UNKNOWN).
    pub fn evaluate(&self, rows: &dyn Rows) -> Bitmap {
        let _ = rows;
        todo!()
    }
}
