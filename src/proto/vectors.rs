//! Vectors of the protocol and ours: every type with the checks of its values, compact rows spread.

use half::{bf16, f16};

use super::columns::{GivenRows, finite_f32, type_mismatch};
use super::rows::{invalid_expected, not_a_number};
use super::schema::{VectorField, vector_field};
use crate::types::{ColumnData, DataType, Error, ErrorKind, Result};

/// Values, and which rows hold one.
type Checked = (ColumnData, Option<Vec<bool>>);

impl GivenRows<'_> {
    /// One vector per row, or one per row that holds one; null rows become zeros.
    pub(super) fn vectors(&self, wire: VectorField) -> Result<Checked> {
        use vector_field::Data;
        let (dim, given_dim) = (self.field.dim(), wire.dim);
        let data = match wire.data {
            // A client that appended no vector at all (every row null) never touched the oneof.
            None if self.is_all_null() => return Ok(self.no_vectors()),
            None => return Err(type_mismatch(self.field)),
            Some(data) => data,
        };
        match (self.field.data_type, data) {
            (DataType::FloatVector, Data::FloatVector(values)) => {
                let rows = self.count_of(values.data.len(), dim, given_dim)?;
                let (values, validity) = self.spread_rows(finite_f32(values.data)?, dim, rows);
                Ok((ColumnData::FloatVector(values), validity))
            }
            (DataType::Float16Vector | DataType::BFloat16Vector, Data::FloatVector(values)) => {
                let rows = self.count_of(values.data.len(), dim, given_dim)?;
                self.half_vectors(self.rounded(&finite_f32(values.data)?), rows)
            }
            (DataType::Float16Vector, Data::Float16Vector(bytes))
            | (DataType::BFloat16Vector, Data::Bfloat16Vector(bytes)) => {
                let rows = self.count_of(bytes.len(), dim * 2, given_dim)?;
                self.half_vectors(bytes, rows)
            }
            (DataType::Int8Vector, Data::Int8Vector(bytes)) => self.byte_vectors(bytes, dim, given_dim),
            (DataType::BinaryVector, Data::BinaryVector(bytes)) => self.byte_vectors(bytes, dim / 8, given_dim),
            _ => Err(type_mismatch(self.field)),
        }
    }

    /// Zeros, every row null.
    pub(super) fn no_vectors(&self) -> Checked {
        let data = match self.field.data_type {
            DataType::FloatVector => ColumnData::FloatVector(vec![0.0; self.row_count * self.field.dim()]),
            _ => ColumnData::BytesVector(vec![0; self.row_count * self.field.row_bytes().unwrap_or(0)]),
        };
        (data, Some(vec![false; self.row_count]))
    }

    /// Whether the request says of every row that it is null.
    pub(super) fn is_all_null(&self) -> bool {
        self.valid.len() == self.row_count && !self.valid.contains(&true)
    }

    /// `f32` for a field of 16-bit floats.
    fn rounded(&self, values: &[f32]) -> Vec<u8> {
        match self.field.data_type {
            DataType::Float16Vector => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        }
    }

    fn half_vectors(&self, bytes: Vec<u8>, rows: usize) -> Result<Checked> {
        let is_f16 = self.field.data_type == DataType::Float16Vector;
        // Infinity and NaN have every exponent bit set.
        let exponent: u16 = if is_f16 { 0x7c00 } else { 0x7f80 };
        let wrong =
            bytes.as_chunks().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).find(|bits| bits & exponent == exponent);
        if let Some(bits) = wrong {
            return Err(not_a_number(if is_f16 { f16::from_bits(bits).into() } else { bf16::from_bits(bits).into() }));
        }
        let (bytes, validity) = self.spread_rows(bytes, self.field.dim() * 2, rows);
        Ok((ColumnData::BytesVector(bytes), validity))
    }

    fn byte_vectors(&self, bytes: Vec<u8>, row_bytes: usize, given_dim: i64) -> Result<Checked> {
        let rows = self.count_of(bytes.len(), row_bytes, given_dim)?;
        let (bytes, validity) = self.spread_rows(bytes, row_bytes, rows);
        Ok((ColumnData::BytesVector(bytes), validity))
    }

    /// How many vectors `length` values or bytes are, `width` each.
    fn count_of(&self, length: usize, width: usize, given_dim: i64) -> Result<usize> {
        let (name, dim) = (&self.field.name, self.field.dim());
        if width == 0 || !length.is_multiple_of(width) {
            let message = match self.field.data_type {
                DataType::BinaryVector => format!("the num({}) of all bits should divide the dim({dim})", length * 8),
                DataType::Float16Vector => format!("the length({length}) of float16 data should divide the dim({dim})"),
                DataType::BFloat16Vector => format!("the length({length}) of bfloat data should divide the dim({dim})"),
                DataType::Int8Vector => format!("the length({length}) of int8 data should divide the dim({dim})"),
                _ => format!("the length({length}) of float data should divide the dim({dim})"),
            };
            return Err(Error::new(ErrorKind::Unexpected, message));
        }
        if given_dim != 0 && given_dim != dim as i64 {
            return Err(invalid_expected(
                format_args!("the dim ({given_dim}) of field data({name}) is not equal to schema dim ({dim})"),
                dim,
                given_dim,
            ));
        }
        self.check_count(length / width)?;
        Ok(length / width)
    }

    /// Full-width rows and which hold a vector; `None` when all do.
    fn spread_rows<T: Copy + Default>(&self, values: Vec<T>, width: usize, rows: usize) -> (Vec<T>, Option<Vec<bool>>) {
        if !self.valid.contains(&false) {
            return (values, None);
        }
        let is_compact = rows < self.row_count;
        let mut full = vec![T::default(); self.row_count * width];
        let mut next = 0;
        for (row, is_valid) in self.valid.iter().enumerate() {
            if *is_valid {
                let from = if is_compact { next } else { row };
                full[row * width..(row + 1) * width].copy_from_slice(&values[from * width..(from + 1) * width]);
                next += 1;
            }
        }
        (full, Some(self.valid.clone()))
    }
}
