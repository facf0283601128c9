//! What a file says about its columns, so that a reader need not look at them.

use serde::{Deserialize, Serialize};

/// Between which values all of a column lie. The ends of strings may be cut, outwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum ValueRange {
    /// Also truth values (0 and 1) and timestamps.
    Integers {
        min: i64,
        max: i64,
    },
    /// Every value is finite.
    Floats {
        min: f64,
        max: f64,
    },
    Texts {
        min: String,
        max: String,
    },
}

/// Of one column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Rows that are null.
    pub null_count: u64,
    /// Of the values that are not null; `None` for other types, without values, and when a value is not finite (JSON has no
    /// such numbers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<ValueRange>,
}

/// How many rows of a column are null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Nulls {
    None,
    Some,
    All,
}

impl Statistics {
    /// How many of a file's rows are null.
    pub fn nulls(&self, row_count: usize) -> Nulls {
        match self.null_count {
            0 => Nulls::None,
            nulls if nulls >= row_count as u64 => Nulls::All,
            _ => Nulls::Some,
        }
    }
}
