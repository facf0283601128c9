//! Rows of several sources into one Arrow column: whole runs of neighbouring rows are copied at once.

use std::io;
use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, PrimitiveArray,
    StringArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::arrow_types::{vector_item, width};
use super::stats::ColumnStats;
use crate::format::{RowRef, RowSource};
use crate::types::{ColumnView, DataType, FieldSchema, Validity, Value, Values};

/// Neighbouring rows of one source.
#[derive(Clone, Copy)]
struct Run {
    source: usize,
    start: usize,
    count: usize,
}

/// The runs of an order.
fn runs(order: &[RowRef]) -> impl Iterator<Item = Run> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = *order.get(at)?;
        let follows = |(index, row): (usize, &RowRef)| {
            row.source == first.source && row.row as usize == first.row as usize + index
        };
        let count = order[at..].iter().enumerate().take_while(|pair| follows(*pair)).count();
        at += count;
        Some(Run { source: first.source as usize, start: first.row as usize, count })
    })
}

/// The insert timestamps in the given order.
pub(super) fn gather_timestamps(sources: &[&dyn RowSource], order: &[RowRef]) -> Vec<u64> {
    let slices: Vec<&[u64]> = sources.iter().map(|source| source.insert_timestamps()).collect();
    let mut out = Vec::with_capacity(order.len());
    for run in runs(order) {
        out.extend_from_slice(&slices[run.source][run.start..run.start + run.count]);
    }
    out
}

/// A column of plain numbers without nulls.
pub(super) fn numbers_array(values: Vec<u64>) -> ArrayRef {
    Arc::new(PrimitiveArray::<UInt64Type>::new(values.into(), None))
}

/// One field's column of all sources, in order.
pub(super) struct Gather<'a> {
    field: &'a FieldSchema,
    order: &'a [RowRef],
    /// One per source; `None` where the source is older than the field.
    views: Vec<Option<ColumnView<'a>>>,
}

impl<'a> Gather<'a> {
    pub fn new(field: &'a FieldSchema, sources: &[&'a dyn RowSource], order: &'a [RowRef]) -> Gather<'a> {
        Gather { field, order, views: sources.iter().map(|source| source.column(field)).collect() }
    }

    /// The column as an Arrow array, with what is known of its values.
    ///
    /// # Errors
    /// When a source holds another type, damaged text, or more text than one column can: 2 GiB.
    pub fn array(&self) -> io::Result<(ArrayRef, ColumnStats)> {
        if self.field.is_primary && self.views.iter().any(Option::is_none) {
            return Err(invalid(format!("a source has no primary column '{}'", self.field.name)));
        }
        match self.field.data_type {
            DataType::Bool => self.bools(),
            DataType::Int8 => self.numbers::<Int8Type>(Values::as_int8, ColumnStats::of_integers),
            DataType::Int16 => self.numbers::<Int16Type>(Values::as_int16, ColumnStats::of_integers),
            DataType::Int32 => self.numbers::<Int32Type>(Values::as_int32, ColumnStats::of_integers),
            DataType::Int64 | DataType::Timestamptz => {
                self.numbers::<Int64Type>(Values::as_int64, ColumnStats::of_integers)
            }
            DataType::Float => self.numbers::<Float32Type>(Values::as_float, ColumnStats::of_floats),
            DataType::Double => self.numbers::<Float64Type>(Values::as_double, ColumnStats::of_floats),
            DataType::VarChar | DataType::Json | DataType::Array | DataType::SparseFloatVector => self.texts(),
            DataType::FloatVector => self.float_vectors(),
            DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
                self.bytes_vectors()
            }
        }
    }

    /// Nulls, for a nullable field that has some. A row whose source is older than the field holds the default, else null.
    fn nulls(&self) -> Option<NullBuffer> {
        if !self.field.is_nullable {
            return None;
        }
        let is_filled = !matches!(self.field.default_value, None | Some(Value::Null));
        let validity = |view: &Option<ColumnView<'a>>| match view {
            Some(view) => view.validity,
            None if is_filled => Validity::All,
            None => Validity::None,
        };
        let validities: Vec<Validity<'a>> = self.views.iter().map(validity).collect();
        if validities.iter().all(|validity| matches!(validity, Validity::All)) {
            return None;
        }
        let mut bits = BooleanBufferBuilder::new(self.order.len());
        for run in runs(self.order) {
            match validities[run.source] {
                Validity::All => bits.append_n(run.count, true),
                Validity::None => bits.append_n(run.count, false),
                some => (run.start..run.start + run.count).for_each(|row| bits.append(some.is_valid(row))),
            }
        }
        Some(NullBuffer::new(bits.finish())).filter(|nulls| nulls.null_count() > 0)
    }

    fn numbers<T: ArrowPrimitiveType>(
        &self,
        slice_of: impl Fn(Values<'a>) -> Option<&'a [T::Native]>,
        stats_of: impl Fn(&[T::Native], Option<&NullBuffer>) -> ColumnStats,
    ) -> io::Result<(ArrayRef, ColumnStats)>
    where
        T::Native: FromDefault,
    {
        let fill = T::Native::from_default(self.field.default_value.as_ref());
        let slices = self.sources(slice_of)?;
        let mut values: Vec<T::Native> = Vec::with_capacity(self.order.len());
        for run in runs(self.order) {
            match slices[run.source] {
                Some(slice) if run.count == 1 => values.push(slice[run.start]),
                Some(slice) => values.extend_from_slice(&slice[run.start..run.start + run.count]),
                None => values.resize(values.len() + run.count, fill),
            }
        }
        let nulls = self.nulls();
        let stats = stats_of(&values, nulls.as_ref());
        Ok((Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls)), stats))
    }

    /// The views' values as one kind; a view of another kind is an error.
    fn sources<S>(&self, slice_of: impl Fn(Values<'a>) -> Option<S>) -> io::Result<Vec<Option<S>>> {
        let other_type = || invalid(format!("column '{}' of a source has another type", self.field.name));
        let take = |view: &Option<ColumnView<'a>>| match view {
            None => Ok(None),
            Some(view) => slice_of(view.values).map(Some).ok_or_else(other_type),
        };
        self.views.iter().map(take).collect()
    }

    fn bools(&self) -> io::Result<(ArrayRef, ColumnStats)> {
        let is_bool =
            |values: Values<'a>| matches!(values, Values::BoolBits { .. } | Values::BoolBytes(_)).then_some(());
        self.sources(is_bool)?;
        let fill = matches!(self.field.default_value, Some(Value::Bool(true)));
        let mut bits = BooleanBufferBuilder::new(self.order.len());
        for run in runs(self.order) {
            match &self.views[run.source] {
                Some(view) => (run.start..run.start + run.count).for_each(|row| bits.append(view.bool(row))),
                None => bits.append_n(run.count, fill),
            }
        }
        let nulls = self.nulls();
        let stats = ColumnStats::of_nulls(nulls.as_ref());
        Ok((Arc::new(BooleanArray::new(bits.finish(), nulls)), stats))
    }

    fn texts(&self) -> io::Result<(ArrayRef, ColumnStats)> {
        let fill = match &self.field.default_value {
            Some(Value::Text(text)) => text.as_bytes(),
            _ => &[],
        };
        let sources = self.sources(|values| match values {
            Values::Text { offsets, bytes } => Some((offsets, bytes)),
            _ => None,
        })?;
        let mut column = TextBuilder::new(self.order.len());
        for run in runs(self.order) {
            match sources[run.source] {
                Some((offsets, bytes)) => column.push_run(&offsets[run.start..=run.start + run.count], bytes),
                None => (0..run.count).try_for_each(|_| column.push(fill)),
            }
            .map_err(|what| invalid(format!("column '{}': {what}", self.field.name)))?;
        }
        let nulls = self.nulls();
        let stats = ColumnStats::of_nulls(nulls.as_ref());
        let TextBuilder { offsets, bytes } = column;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let bytes = Buffer::from_vec(bytes);
        let array: ArrayRef = if self.field.data_type == DataType::VarChar {
            Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|error| self.refused(&error))?)
        } else {
            Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|error| self.refused(&error))?)
        };
        Ok((array, stats))
    }

    /// All vectors, end to end; rows without one are zero.
    fn vector_bytes<T: bytemuck::Pod>(&self) -> io::Result<Vec<T>> {
        let row_bytes = self.field.row_bytes().unwrap_or(0);
        let row_items = row_bytes / size_of::<T>();
        let sources = self.sources(|values| match values {
            Values::Vector { bytes, row_bytes: width } if width == row_bytes => bytemuck::try_cast_slice(bytes).ok(),
            _ => None,
        })?;
        let mut items: Vec<T> = Vec::with_capacity(self.order.len() * row_items);
        for run in runs(self.order) {
            match sources[run.source] {
                Some(slice) => {
                    items.extend_from_slice(&slice[run.start * row_items..(run.start + run.count) * row_items]);
                }
                None => items.resize(items.len() + run.count * row_items, T::zeroed()),
            }
        }
        Ok(items)
    }

    fn float_vectors(&self) -> io::Result<(ArrayRef, ColumnStats)> {
        let nulls = self.nulls();
        let stats = ColumnStats::of_nulls(nulls.as_ref());
        let items = Float32Array::new(ScalarBuffer::from(self.vector_bytes::<f32>()?), None);
        let dim = width(self.field.dim());
        let array = FixedSizeListArray::try_new(vector_item(), dim, Arc::new(items), nulls);
        Ok((Arc::new(array.map_err(|error| self.refused(&error))?), stats))
    }

    fn bytes_vectors(&self) -> io::Result<(ArrayRef, ColumnStats)> {
        let nulls = self.nulls();
        let stats = ColumnStats::of_nulls(nulls.as_ref());
        let row_bytes = width(self.field.row_bytes().unwrap_or(0));
        let bytes = Buffer::from_vec(self.vector_bytes::<u8>()?);
        let array = FixedSizeBinaryArray::try_new(row_bytes, bytes, nulls);
        Ok((Arc::new(array.map_err(|error| self.refused(&error))?), stats))
    }

    fn refused(&self, error: &arrow_schema::ArrowError) -> io::Error {
        invalid(format!("column '{}': {error}", self.field.name))
    }
}

pub(super) fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Text end to end, with every offset checked: sources may be damaged files.
struct TextBuilder {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl TextBuilder {
    fn new(row_count: usize) -> TextBuilder {
        let mut offsets = Vec::with_capacity(row_count + 1);
        offsets.push(0);
        TextBuilder { offsets, bytes: Vec::new() }
    }

    fn push(&mut self, row: &[u8]) -> Result<(), &'static str> {
        self.bytes.extend_from_slice(row);
        self.offsets.push(i32::try_from(self.bytes.len()).map_err(|_| TOO_MUCH_TEXT)?);
        Ok(())
    }

    /// The rows that `offsets` (one more than rows) cut out of `bytes`.
    fn push_run(&mut self, offsets: &[i32], bytes: &[u8]) -> Result<(), &'static str> {
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        let range = usize::try_from(first).unwrap_or(usize::MAX)..usize::try_from(last).unwrap_or(0);
        let text = bytes.get(range).ok_or("offsets outside the text")?;
        if !offsets.is_sorted() {
            return Err("offsets that do not ascend");
        }
        let base = i32::try_from(self.bytes.len()).map_err(|_| TOO_MUCH_TEXT)?;
        base.checked_add(last - first).ok_or(TOO_MUCH_TEXT)?;
        self.bytes.extend_from_slice(text);
        self.offsets.extend(offsets[1..].iter().map(|offset| base + (offset - first)));
        Ok(())
    }
}

const TOO_MUCH_TEXT: &str = "more than 2 GiB of text in one file; merge fewer files";

/// A number made of a field's default value; 0 when there is none.
pub(super) trait FromDefault: Copy {
    fn from_default(value: Option<&Value>) -> Self;
}

macro_rules! from_default {
    ($($native:ty),*) => {$(
        impl FromDefault for $native {
            fn from_default(value: Option<&Value>) -> $native {
                match value {
                    Some(Value::Int(value)) => *value as $native,
                    Some(Value::Float(value)) => *value as $native,
                    _ => 0 as $native,
                }
            }
        }
    )*};
}
from_default!(i8, i16, i32, i64, f32, f64);

macro_rules! slice_of {
    ($($name:ident, $variant:ident, $native:ty);*) => {
        impl<'a> Values<'a> {
            $(fn $name(self) -> Option<&'a [$native]> {
                match self {
                    Values::$variant(values) => Some(values),
                    _ => None,
                }
            })*
        }
    };
}
slice_of!(as_int8, Int8, i8; as_int16, Int16, i16; as_int32, Int32, i32; as_int64, Int64, i64; as_float, Float, f32;
    as_double, Double, f64);
