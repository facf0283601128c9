//! What a table file says about its columns: ranges and null counts, as JSON in the metadata of Arrow's footer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::Value;

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

/// A number of a column.
pub(super) trait Number: bytemuck::Pod + PartialOrd {
    /// Made of a field's default value; 0 when there is none.
    fn from_default(value: Option<&Value>) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    fn range(min: Self, max: Self) -> Range;
}

macro_rules! number {
    ($kind:ident, $is_finite:expr; $($native:ty),*) => {$(
        impl Number for $native {
            fn from_default(value: Option<&Value>) -> $native {
                match value {
                    Some(Value::Int(value)) => *value as $native,
                    Some(Value::Float(value)) => *value as $native,
                    _ => 0 as $native,
                }
            }

            fn is_finite(self) -> bool {
                $is_finite(self as f64)
            }

            fn range(min: $native, max: $native) -> Range {
                Range::$kind { min: min.into(), max: max.into() }
            }
        }
    )*};
}
number!(Integers, |_| true; i8, i16, i32, i64);
number!(Floats, f64::is_finite; f32, f64);

/// Smallest and largest of the values seen.
pub(super) struct RangeBuilder<T> {
    range: Option<(T, T)>,
    is_finite: bool,
}

impl<T> Default for RangeBuilder<T> {
    fn default() -> RangeBuilder<T> {
        RangeBuilder { range: None, is_finite: true }
    }
}

impl<T: Number> RangeBuilder<T> {
    /// Sees the values for which `is_valid(index)`.
    pub fn see(&mut self, values: &[T], is_valid: impl Fn(usize) -> bool) {
        for (index, value) in values.iter().copied().enumerate() {
            if !is_valid(index) {
                continue;
            }
            self.is_finite &= value.is_finite();
            let (min, max) = self.range.unwrap_or((value, value));
            self.range = Some((if value < min { value } else { min }, if value > max { value } else { max }));
        }
    }

    pub fn finish(self) -> Option<Range> {
        self.range.filter(|_| self.is_finite).map(|(min, max)| T::range(min, max))
    }
}
