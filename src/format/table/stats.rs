//! What a table file says about its columns: ranges and null counts, as JSON in the Arrow schema's metadata.

use std::collections::BTreeMap;

use arrow_buffer::NullBuffer;
use serde::{Deserialize, Serialize};

/// Of all columns: field id to statistics. JSON's keys are strings.
pub(super) type FileStats = BTreeMap<String, ColumnStats>;

/// Of one column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ColumnStats {
    /// Rows that are null.
    pub null_count: u64,
    /// Smallest and largest value that is not null; `None` for columns without numbers, for no values, and when a value
    /// is not finite (JSON has no such numbers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
}

/// Both ends of a range of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Range {
    /// Integers keep all their digits.
    Integers { min: i64, max: i64 },
    /// Floats.
    Floats { min: f64, max: f64 },
}

impl Range {
    /// Widened to the neighbouring floats where an integer has none of its own: no value may fall outside.
    pub fn as_floats(self) -> (f64, f64) {
        match self {
            Range::Floats { min, max } => (min, max),
            Range::Integers { min, max } => {
                let (mut low, mut high) = (min as f64, max as f64);
                if low as i128 > i128::from(min) {
                    low = low.next_down();
                }
                if (high as i128) < i128::from(max) {
                    high = high.next_up();
                }
                (low, high)
            }
        }
    }
}

impl ColumnStats {
    /// Of a column without numbers.
    pub fn of_nulls(nulls: Option<&NullBuffer>) -> ColumnStats {
        ColumnStats { null_count: nulls.map_or(0, |nulls| nulls.null_count() as u64), range: None }
    }

    /// Of integers.
    pub fn of_integers<T: Copy + Ord + Into<i64>>(values: &[T], nulls: Option<&NullBuffer>) -> ColumnStats {
        let range = match nulls {
            None => values.iter().copied().min().zip(values.iter().copied().max()),
            Some(nulls) => {
                let valid = || nulls.valid_indices().map(|row| values[row]);
                valid().min().zip(valid().max())
            }
        };
        let range = range.map(|(min, max)| Range::Integers { min: min.into(), max: max.into() });
        ColumnStats { range, ..ColumnStats::of_nulls(nulls) }
    }

    /// Of floats.
    pub fn of_floats<T: Copy + Into<f64>>(values: &[T], nulls: Option<&NullBuffer>) -> ColumnStats {
        let widen = |range: Option<(f64, f64)>, value: f64| {
            range.map_or(Some((value, value)), |(min, max)| Some((min.min(value), max.max(value))))
        };
        let mut is_finite = true;
        let mut range = None;
        let mut see = |value: f64| {
            is_finite &= value.is_finite();
            range = widen(range, value);
        };
        match nulls {
            None => values.iter().for_each(|value| see((*value).into())),
            Some(nulls) => nulls.valid_indices().for_each(|row| see(values[row].into())),
        }
        let range = range.filter(|_| is_finite).map(|(min, max)| Range::Floats { min, max });
        ColumnStats { range, ..ColumnStats::of_nulls(nulls) }
    }
}
