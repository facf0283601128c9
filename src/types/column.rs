//! Rows as columns: owned (`Batch`, on the way in) and borrowed (`ColumnView`, over mapped bytes).

use super::FieldId;

/// Strings or byte strings end to end: row `i` is `bytes[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextColumn {
    /// Row count + 1 offsets, the first 0, ascending.
    pub offsets: Vec<i32>,
    /// All rows.
    pub bytes: Vec<u8>,
}

impl Default for TextColumn {
    fn default() -> TextColumn {
        TextColumn { offsets: vec![0], bytes: Vec::new() }
    }
}

impl TextColumn {
    /// Appends a row.
    ///
    /// # Panics
    /// When the column passes 2 GiB; a batch is bounded far below that.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.offsets.push(i32::try_from(self.bytes.len()).expect("a batch is bounded below 2 GiB"));
    }

    /// Number of rows.
    pub fn row_count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A row; empty where there is none.
    pub fn row(&self, row: usize) -> &[u8] {
        let ends = self.offsets.get(row).zip(self.offsets.get(row + 1));
        ends.and_then(|(start, end)| self.bytes.get(*start as usize..*end as usize)).unwrap_or_default()
    }
}

/// The values of one column, one per row; null rows hold a placeholder (0, empty, zero vector).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum ColumnData {
    Bool(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    /// Also `Timestamptz`: microseconds since the Unix epoch.
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Double(Vec<f64>),
    /// `VarChar` (UTF-8), `Json` (UTF-8), `Array` and sparse vectors (encoded).
    Text(TextColumn),
    /// `FloatVector`: row count x dim values.
    FloatVector(Vec<f32>),
    /// Other dense vectors: row count x `FieldSchema::row_bytes` bytes.
    BytesVector(Vec<u8>),
}

/// One column of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Which field.
    pub field: FieldId,
    /// One value per row.
    pub data: ColumnData,
    /// One flag per row, `false` for null; `None` when no row is null.
    pub validity: Option<Vec<bool>>,
}

/// Checked rows on their way into a MemTable: one column per field of the schema, in its order, all of `row_count` rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Rows of every column.
    pub row_count: usize,
    /// One per field, in schema order.
    pub columns: Vec<Column>,
}

impl Batch {
    /// Some of the rows, in the order of `rows`.
    ///
    /// # Panics
    /// When a row is out of bounds.
    pub fn select(&self, rows: &[usize]) -> Batch {
        let columns = self.columns.iter().map(|column| Column {
            field: column.field,
            data: column.data.select(rows, self.row_count),
            validity: column.validity.as_ref().map(|valid| rows.iter().map(|row| valid[*row]).collect()),
        });
        Batch { row_count: rows.len(), columns: columns.collect() }
    }
}

impl ColumnData {
    fn select(&self, rows: &[usize], row_count: usize) -> ColumnData {
        fn pick<T: Copy>(values: &[T], rows: &[usize], width: usize) -> Vec<T> {
            rows.iter().flat_map(|row| &values[row * width..(row + 1) * width]).copied().collect()
        }
        let width = |value_count: usize| value_count / row_count.max(1);
        match self {
            ColumnData::Bool(values) => ColumnData::Bool(pick(values, rows, 1)),
            ColumnData::Int8(values) => ColumnData::Int8(pick(values, rows, 1)),
            ColumnData::Int16(values) => ColumnData::Int16(pick(values, rows, 1)),
            ColumnData::Int32(values) => ColumnData::Int32(pick(values, rows, 1)),
            ColumnData::Int64(values) => ColumnData::Int64(pick(values, rows, 1)),
            ColumnData::Float(values) => ColumnData::Float(pick(values, rows, 1)),
            ColumnData::Double(values) => ColumnData::Double(pick(values, rows, 1)),
            ColumnData::Text(values) => {
                let mut texts = TextColumn::default();
                for row in rows {
                    texts.push(&values.bytes[values.offsets[*row] as usize..values.offsets[row + 1] as usize]);
                }
                ColumnData::Text(texts)
            }
            ColumnData::FloatVector(values) => ColumnData::FloatVector(pick(values, rows, width(values.len()))),
            ColumnData::BytesVector(values) => ColumnData::BytesVector(pick(values, rows, width(values.len()))),
        }
    }
}

/// Which rows of a borrowed column hold a value.
#[derive(Clone, Copy, Debug)]
pub enum Validity<'a> {
    /// Every row.
    All,
    /// No row.
    None,
    /// Arrow's bits: row `i` is bit `offset + i`, 1 = valid.
    Bits {
        /// The bitmap's bytes.
        bits: &'a [u8],
        /// The bit of row 0.
        offset: usize,
    },
    /// A byte per row, 1 = valid (growing files).
    Bytes(&'a [u8]),
}

impl Validity<'_> {
    /// Whether the row holds a value.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        match self {
            Validity::All => true,
            Validity::None => false,
            Validity::Bits { bits, offset } => {
                let bit = offset + row;
                bits[bit / 8] >> (bit % 8) & 1 == 1
            }
            Validity::Bytes(bytes) => bytes[row] != 0,
        }
    }
}

/// The values of a borrowed column.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum Values<'a> {
    /// Arrow's bits: row `i` is bit `offset + i`.
    BoolBits {
        bits: &'a [u8],
        offset: usize,
    },
    /// A byte per row (growing files).
    BoolBytes(&'a [u8]),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    /// Row `i` is `bytes[offsets[i]..offsets[i + 1]]`; bounds were checked when the file was opened or are checked by `text`.
    Text {
        offsets: &'a [i32],
        bytes: &'a [u8],
    },
    /// Dense vectors, `row_bytes` each, the first at a 64-byte boundary.
    Vector {
        bytes: &'a [u8],
        row_bytes: usize,
    },
}

/// A borrowed column of a table file or of a growing file.
#[derive(Clone, Copy, Debug)]
pub struct ColumnView<'a> {
    /// One per row.
    pub values: Values<'a>,
    /// Nulls.
    pub validity: Validity<'a>,
}

impl<'a> ColumnView<'a> {
    /// A boolean row; `false` when the column is of another type.
    #[inline]
    pub fn bool(&self, row: usize) -> bool {
        match self.values {
            Values::BoolBits { bits, offset } => {
                let bit = offset + row;
                bits[bit / 8] >> (bit % 8) & 1 == 1
            }
            Values::BoolBytes(bytes) => bytes[row] != 0,
            _ => false,
        }
    }

    /// A row of a string column as bytes; empty when the column is of another type or its offsets are out of bounds.
    #[inline]
    pub fn text(&self, row: usize) -> &'a [u8] {
        match self.values {
            Values::Text { offsets, bytes } => {
                bytes.get(offsets[row] as usize..offsets[row + 1] as usize).unwrap_or_default()
            }
            _ => &[],
        }
    }

    /// A row of a dense vector column as bytes; empty when the column is of another type.
    #[inline]
    pub fn vector(&self, row: usize) -> &'a [u8] {
        match self.values {
            Values::Vector { bytes, row_bytes } => &bytes[row * row_bytes..(row + 1) * row_bytes],
            _ => &[],
        }
    }

    /// An integer row of any width; `None` when the column holds no integers.
    #[inline]
    pub fn integer(&self, row: usize) -> Option<i64> {
        match self.values {
            Values::Int8(values) => Some(values[row].into()),
            Values::Int16(values) => Some(values[row].into()),
            Values::Int32(values) => Some(values[row].into()),
            Values::Int64(values) => Some(values[row]),
            _ => None,
        }
    }
}
