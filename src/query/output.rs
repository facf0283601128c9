//! Fields of found rows, gathered from their files.

use super::columns::FileColumns;
use super::keys_of_column;
use super::snapshot::{RowAddress, Snapshot};
use crate::config::limits::REPLY_BYTES_MAX;
use crate::types::{
    Column, ColumnData, ColumnView, DataType, Error, ErrorKind, FieldSchema, Keys, Result, TextColumn, Value, Values,
};

/// A gathered column: full width, `validity` where rows are null.
pub type OutputColumn = Column;

/// Rows to gather fields of.
#[derive(Clone, Copy, Debug)]
pub struct OutputRows<'a> {
    /// The snapshot the addresses are of.
    pub snapshot: &'a Snapshot,
    /// In the order of the reply.
    pub rows: &'a [RowAddress],
}

impl OutputRows<'_> {
    /// One field of every row; files older than the field give its default or null.
    pub fn column(&self, field: &FieldSchema) -> OutputColumn {
        let gather = self.gather(field);
        Column { field: field.id, data: gather.data(), validity: gather.validity() }
    }

    /// The primary key of every row.
    ///
    /// # Errors
    /// As [`OutputRows::columns`]; and when the collection is damaged.
    pub fn keys(&self) -> Result<Keys> {
        let primary = self.snapshot.view.manifest.schema.primary();
        self.check_bytes(&[primary])?;
        if primary.data_type != DataType::Int64 {
            return keys_of_column(self.column(primary));
        }
        // No key is null: there is nothing else to look at.
        let gather = self.gather(primary);
        let mut keys = Vec::with_capacity(self.rows.len());
        for address in self.rows {
            let column = gather.column(*address).map(|column| column.values);
            let Some(Values::Int64(values)) = column else { return keys_of_column(self.column(primary)) };
            keys.push(values.get(address.row as usize).copied().unwrap_or_default());
        }
        Ok(Keys::Int(keys))
    }

    /// Several fields of every row, in the order asked.
    ///
    /// # Errors
    /// When they are more than a reply may hold ([`REPLY_BYTES_MAX`]); nothing is built then.
    pub fn columns(&self, fields: &[&FieldSchema]) -> Result<Vec<OutputColumn>> {
        self.check_bytes(fields)?;
        Ok(fields.iter().map(|field| self.column(field)).collect())
    }

    fn check_bytes(&self, fields: &[&FieldSchema]) -> Result<()> {
        let bytes = fields.iter().map(|field| self.column_bytes(field)).fold(0usize, usize::saturating_add);
        if bytes > REPLY_BYTES_MAX {
            let message = format!(
                "the fields of {} rows have {bytes} bytes, a reply holds at most {REPLY_BYTES_MAX}; ask for fewer rows or \
                 fewer output fields",
                self.rows.len()
            );
            return Err(Error::new(ErrorKind::InvalidParameter, message));
        }
        Ok(())
    }

    /// Bytes the column will have, without building it: replies are bounded before they are built.
    pub fn column_bytes(&self, field: &FieldSchema) -> usize {
        match field.row_bytes() {
            Some(row_bytes) => row_bytes * self.rows.len(),
            None => {
                let gather = self.gather(field);
                gather.rows.iter().map(|address| gather.text(*address).len()).sum()
            }
        }
    }

    /// Looks the field up in every file that one of the rows is in.
    fn gather<'g>(&'g self, field: &'g FieldSchema) -> Gather<'g> {
        let mut columns = FileColumns::new(self.snapshot, field);
        columns.look_up(self.rows.iter().map(|address| address.file));
        Gather { rows: self.rows, columns, field }
    }
}

struct Gather<'a> {
    rows: &'a [RowAddress],
    columns: FileColumns<'a>,
    field: &'a FieldSchema,
}

impl<'a> Gather<'a> {
    fn data(&self) -> ColumnData {
        match self.field.data_type {
            DataType::Bool => ColumnData::Bool(self.fixed(self.default_int() != 0, |c, row| Some(c.bool(row)))),
            DataType::Int8 => {
                ColumnData::Int8(self.fixed(self.default_int() as i8, |column, row| match column.values {
                    Values::Int8(values) => values.get(row).copied(),
                    _ => None,
                }))
            }
            DataType::Int16 => {
                ColumnData::Int16(self.fixed(self.default_int() as i16, |column, row| match column.values {
                    Values::Int16(values) => values.get(row).copied(),
                    _ => None,
                }))
            }
            DataType::Int32 => {
                ColumnData::Int32(self.fixed(self.default_int() as i32, |column, row| match column.values {
                    Values::Int32(values) => values.get(row).copied(),
                    _ => None,
                }))
            }
            DataType::Int64 | DataType::Timestamptz => {
                ColumnData::Int64(self.fixed(self.default_int(), |column, row| column.integer(row)))
            }
            DataType::Float => {
                ColumnData::Float(self.fixed(self.default_float() as f32, |column, row| match column.values {
                    Values::Float(values) => values.get(row).copied(),
                    _ => None,
                }))
            }
            DataType::Double => {
                ColumnData::Double(self.fixed(self.default_float(), |column, row| match column.values {
                    Values::Double(values) => values.get(row).copied(),
                    _ => None,
                }))
            }
            DataType::VarChar | DataType::Json | DataType::Array | DataType::SparseFloatVector => self.texts(),
            DataType::FloatVector => {
                let mut values = vec![0f32; self.rows.len() * self.field.dim()];
                self.vectors(bytemuck::cast_slice_mut(&mut values));
                ColumnData::FloatVector(values)
            }
            DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
                let mut bytes = vec![0; self.rows.len() * self.field.row_bytes().unwrap_or(0)];
                self.vectors(&mut bytes);
                ColumnData::BytesVector(bytes)
            }
        }
    }

    fn column(&self, address: RowAddress) -> Option<&ColumnView<'a>> {
        self.columns.get(address.file)
    }

    /// `None` in a row of a file older than the field, or of a column of another type: the default takes its place.
    fn fixed<T: Copy>(&self, default: T, value: impl Fn(&ColumnView<'a>, usize) -> Option<T>) -> Vec<T> {
        let read = |address: &RowAddress| self.column(*address).and_then(|column| value(column, address.row as usize));
        self.rows.iter().map(|address| read(address).unwrap_or(default)).collect()
    }

    fn text(&self, address: RowAddress) -> &[u8] {
        match self.column(address) {
            Some(column) => column.text(address.row as usize),
            None => match &self.field.default_value {
                Some(Value::Text(text)) => text.as_bytes(),
                _ => &[],
            },
        }
    }

    fn texts(&self) -> ColumnData {
        let mut texts = TextColumn::default();
        texts.offsets.reserve(self.rows.len());
        for address in self.rows {
            texts.push(self.text(*address));
        }
        ColumnData::Text(texts)
    }

    /// Copies vectors; rows without one stay zero.
    fn vectors(&self, out: &mut [u8]) {
        let Some(row_bytes) = self.field.row_bytes().filter(|row_bytes| *row_bytes > 0) else { return };
        for (address, out) in self.rows.iter().zip(out.chunks_exact_mut(row_bytes)) {
            let vector = self.column(*address).map(|column| column.vector(address.row as usize)).unwrap_or_default();
            if vector.len() == row_bytes {
                out.copy_from_slice(vector);
            }
        }
    }

    /// `None` when no row is null.
    fn validity(&self) -> Option<Vec<bool>> {
        let is_valid = |address: &RowAddress| match self.column(*address) {
            Some(column) => column.validity.is_valid(address.row as usize),
            None => !matches!(self.field.default_value, None | Some(Value::Null)),
        };
        let has_nulls = !self.rows.iter().all(is_valid);
        has_nulls.then(|| self.rows.iter().map(is_valid).collect())
    }

    fn default_int(&self) -> i64 {
        match self.field.default_value {
            Some(Value::Int(value)) => value,
            Some(Value::Bool(value)) => value.into(),
            _ => 0,
        }
    }

    fn default_float(&self) -> f64 {
        match self.field.default_value {
            Some(Value::Float(value)) => value,
            Some(Value::Int(value)) => value as f64,
            _ => 0.0,
        }
    }
}
