//! Rows of several sources as one Arrow column: planned first (Arrow wants every length before the first byte), then written
//! straight from the sources, whole runs of neighbouring rows at once. No column is ever in memory.

use std::io::{self, Write};

use super::arrow_types::list_item_bytes;
use super::body::{BitPacker, BodyPlan, BodyWriter};
use super::stats::{Number, RangeBuilder, TextRangeBuilder};
use crate::format::{RowRef, RowSource};
use crate::types::{ColumnView, DataType, FieldSchema, Statistics, Validity, Value, ValueRange, Values};

/// Offsets are made and written this many at a time.
const OFFSETS_AT_ONCE: usize = 4096;
const TOO_MUCH_TEXT: &str = "more than 2 GiB of text in one file; merge fewer files";

/// Neighbouring rows of one source.
#[derive(Clone, Copy)]
struct Run {
    source: usize,
    start: usize,
    count: usize,
    /// Where they go.
    place: usize,
}

/// The text of a run: `offsets` (one more than rows) cut it; without offsets, every row holds all of it.
struct TextRun<'a> {
    run: Run,
    offsets: &'a [i32],
    text: &'a [u8],
}

/// The runs of an order.
fn runs(order: &[RowRef]) -> impl Iterator<Item = Run> + '_ {
    let mut place = 0;
    std::iter::from_fn(move || {
        let first = *order.get(place)?;
        let follows = |(index, row): (usize, &RowRef)| {
            row.source == first.source && row.row as usize == first.row as usize + index
        };
        let count = order[place..].iter().enumerate().take_while(|pair| follows(*pair)).count();
        let run = Run { source: first.source as usize, start: first.row as usize, count, place };
        place += count;
        Some(run)
    })
}

/// Writes the insert timestamps; returns the smallest and the largest.
pub(super) fn write_timestamps<W: Write>(
    sources: &[&dyn RowSource],
    order: &[RowRef],
    body: &mut BodyWriter<'_, W>,
) -> io::Result<(u64, u64)> {
    let slices: Vec<&[u64]> = sources.iter().map(|source| source.insert_timestamps()).collect();
    let mut range: Option<(u64, u64)> = None;
    for run in runs(order) {
        let timestamps = &slices[run.source][run.start..run.start + run.count];
        for timestamp in timestamps {
            let (min, max) = range.unwrap_or((*timestamp, *timestamp));
            range = Some((min.min(*timestamp), max.max(*timestamp)));
        }
        body.write(bytemuck::cast_slice(timestamps))?;
    }
    body.end_buffer()?;
    Ok(range.unwrap_or((0, 0)))
}

/// One field's column.
pub(super) struct ColumnWriter<'a> {
    field: &'a FieldSchema,
    order: &'a [RowRef],
    /// One per source; `None` where the source is older than the field.
    views: Vec<Option<ColumnView<'a>>>,
    /// Which rows hold a value; `None` when all do.
    validity: Option<BitPacker>,
    text_bytes: usize,
}

impl<'a> ColumnWriter<'a> {
    /// Looks at every run, not at every row; `plan` gets the column's buffers.
    ///
    /// # Errors
    /// When a source holds another type or damaged offsets, or there is more text than one column can hold: 2 GiB.
    pub fn plan(
        field: &'a FieldSchema,
        sources: &[&'a dyn RowSource],
        order: &'a [RowRef],
        plan: &mut BodyPlan,
    ) -> io::Result<ColumnWriter<'a>> {
        let views: Vec<_> = sources.iter().map(|source| source.column(field)).collect();
        let mut writer = ColumnWriter { field, order, views, validity: None, text_bytes: 0 };
        if field.is_primary && writer.views.iter().any(Option::is_none) {
            return Err(writer.invalid("is missing in a source, and is the primary key"));
        }
        writer.validity = writer.validity_bits();
        let rows = order.len();
        plan.column(rows, writer.validity.as_ref());
        match (field.data_type, field.row_bytes()) {
            (DataType::Bool, _) => plan.buffer(rows.div_ceil(8)),
            (data_type, Some(row_bytes)) if list_item_bytes(data_type).is_some() => {
                plan.column(rows * field.dim(), None);
                plan.buffer(rows * row_bytes);
            }
            (_, Some(row_bytes)) => plan.buffer(rows * row_bytes),
            (_, None) => {
                writer.text_bytes = writer.measure_text()?;
                plan.buffer((rows + 1) * 4);
                plan.buffer(writer.text_bytes);
            }
        }
        Ok(writer)
    }

    /// Writes the planned buffers; returns what is known of the values.
    ///
    /// # Errors
    /// Those of the disk; damaged text; keys that do not ascend.
    pub fn write<W: Write>(&self, body: &mut BodyWriter<'_, W>) -> io::Result<Statistics> {
        let null_count = self.validity.as_ref().map_or(0, BitPacker::zeros);
        if let Some(validity) = &self.validity {
            body.write(validity.bytes())?;
        }
        body.end_buffer()?;
        if list_item_bytes(self.field.data_type).is_some() {
            body.end_buffer()?; // The elements' validity: none is null.
        }
        let range = match self.field.data_type {
            DataType::Bool => self.write_bools(body),
            DataType::Int8 => self.write_numbers(body, Values::as_int8),
            DataType::Int16 => self.write_numbers(body, Values::as_int16),
            DataType::Int32 => self.write_numbers(body, Values::as_int32),
            DataType::Int64 | DataType::Timestamptz => self.write_numbers(body, Values::as_int64),
            DataType::Float => self.write_numbers(body, Values::as_float),
            DataType::Double => self.write_numbers(body, Values::as_double),
            DataType::VarChar | DataType::Json | DataType::Array | DataType::SparseFloatVector => {
                self.write_offsets(body)?;
                self.write_text(body)
            }
            DataType::FloatVector
            | DataType::BinaryVector
            | DataType::Float16Vector
            | DataType::BFloat16Vector
            | DataType::Int8Vector => self.write_vectors(body).map(|()| None),
        }?;
        body.end_buffer()?;
        Ok(Statistics { null_count: null_count as u64, range })
    }

    /// A row whose source is older than the field holds the default, else null.
    fn validity_bits(&self) -> Option<BitPacker> {
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
        let mut bits = BitPacker::new(self.order.len());
        for run in runs(self.order) {
            let validity = validities[run.source];
            (run.start..run.start + run.count).for_each(|row| bits.push(validity.is_valid(row)));
        }
        Some(bits).filter(|bits| bits.zeros() > 0)
    }

    /// The views' values as one kind; a view of another kind is an error.
    fn sources<S>(&self, slice_of: impl Fn(Values<'a>) -> Option<S>) -> io::Result<Vec<Option<S>>> {
        let take = |view: &Option<ColumnView<'a>>| match view {
            None => Ok(None),
            Some(view) => slice_of(view.values).map(Some).ok_or_else(|| self.invalid("has another type in a source")),
        };
        self.views.iter().map(take).collect()
    }

    fn write_numbers<W: Write, T: Number>(
        &self,
        body: &mut BodyWriter<'_, W>,
        slice_of: impl Fn(Values<'a>) -> Option<&'a [T]>,
    ) -> io::Result<Option<ValueRange>> {
        let fill = [T::from_default(self.field.default_value.as_ref())];
        let slices = self.sources(slice_of)?;
        let mut range = RangeBuilder::default();
        let mut last: Option<T> = None;
        for run in runs(self.order) {
            let Some(slice) = slices[run.source] else {
                (0..run.count).try_for_each(|_| body.write(bytemuck::cast_slice(&fill)))?;
                range.see(&fill, |_| self.is_valid(run.place));
                continue;
            };
            let values = &slice[run.start..run.start + run.count];
            body.write(bytemuck::cast_slice(values))?;
            match &self.validity {
                None => range.see(values, |_| true),
                Some(validity) => range.see(values, |index| validity.is_set(run.place + index)),
            }
            if self.field.is_primary {
                let follows = last.is_none_or(|last| last <= values[0]);
                if !follows || !values.is_sorted() {
                    return Err(self.invalid("is not in ascending order"));
                }
                last = values.last().copied();
            }
        }
        Ok(range.finish())
    }

    fn is_valid(&self, place: usize) -> bool {
        self.validity.as_ref().is_none_or(|validity| validity.is_set(place))
    }

    fn write_bools<W: Write>(&self, body: &mut BodyWriter<'_, W>) -> io::Result<Option<ValueRange>> {
        let is_bool = |values: Values<'a>| match values {
            Values::BoolBits { .. } | Values::BoolBytes(_) => Some(()),
            _ => None,
        };
        self.sources(is_bool)?;
        let fill = matches!(self.field.default_value, Some(Value::Bool(true)));
        let mut bits = BitPacker::new(self.order.len());
        let mut range = RangeBuilder::default();
        for run in runs(self.order) {
            let view = &self.views[run.source];
            let value = |row| view.as_ref().map_or(fill, |view| view.bool(row));
            for index in 0..run.count {
                let value = value(run.start + index);
                bits.push(value);
                if self.is_valid(run.place + index) {
                    range.see(&[i8::from(value)], |_| true);
                }
            }
        }
        body.write(bits.bytes())?;
        Ok(range.finish())
    }

    fn write_vectors<W: Write>(&self, body: &mut BodyWriter<'_, W>) -> io::Result<()> {
        let row_bytes = self.field.row_bytes().unwrap_or(0);
        let sources = self.sources(|values| match values {
            Values::Vector { bytes, row_bytes: width } => Some(bytes).filter(|_| width == row_bytes),
            _ => None,
        })?;
        let zero = vec![0; row_bytes];
        for run in runs(self.order) {
            match sources[run.source] {
                Some(bytes) => body.write(&bytes[run.start * row_bytes..(run.start + run.count) * row_bytes])?,
                None => (0..run.count).try_for_each(|_| body.write(&zero))?,
            }
        }
        Ok(())
    }

    /// The text of every run, its offsets checked; rows of sources older than the field hold the default.
    fn texts(&self) -> io::Result<impl Iterator<Item = io::Result<TextRun<'a>>> + '_> {
        let sources = self.sources(|values| match values {
            Values::Text { offsets, bytes } => Some((offsets, bytes)),
            _ => None,
        })?;
        Ok(runs(self.order).map(move |run| match sources[run.source] {
            None => Ok(TextRun { run, offsets: &[], text: self.default_text() }),
            Some((offsets, bytes)) => {
                let offsets = &offsets[run.start..=run.start + run.count];
                let start = usize::try_from(offsets[0]).unwrap_or(usize::MAX);
                let end = usize::try_from(offsets[run.count]).unwrap_or(0);
                let text = bytes.get(start..end).filter(|_| offsets.is_sorted());
                text.map(|text| TextRun { run, offsets, text })
                    .ok_or_else(|| self.invalid("has damaged offsets in a source"))
            }
        }))
    }

    fn default_text(&self) -> &'a [u8] {
        match &self.field.default_value {
            Some(Value::Text(text)) => text.as_bytes(),
            _ => &[],
        }
    }

    fn measure_text(&self) -> io::Result<usize> {
        let mut text_bytes = 0;
        for run in self.texts()? {
            let TextRun { run, offsets, text } = run?;
            text_bytes += if offsets.is_empty() { text.len() * run.count } else { text.len() };
        }
        if i32::try_from(text_bytes).is_ok() { Ok(text_bytes) } else { Err(self.invalid(TOO_MUCH_TEXT)) }
    }

    fn write_offsets<W: Write>(&self, body: &mut BodyWriter<'_, W>) -> io::Result<()> {
        body.write(&0i32.to_le_bytes())?;
        // No overflow below: `measure_text` saw that the last end is an i32.
        let mut end = 0i32;
        let mut scratch = Vec::with_capacity(OFFSETS_AT_ONCE);
        for run in self.texts()? {
            let TextRun { run, offsets, text } = run?;
            if offsets.is_empty() {
                for _ in 0..run.count {
                    end += text.len() as i32;
                    body.write(&end.to_le_bytes())?;
                }
                continue;
            }
            for piece in offsets[1..].chunks(OFFSETS_AT_ONCE) {
                scratch.clear();
                scratch.extend(piece.iter().map(|offset| end + (offset - offsets[0])));
                body.write(bytemuck::cast_slice(&scratch))?;
            }
            end += text.len() as i32;
        }
        body.end_buffer()
    }

    fn write_text<W: Write>(&self, body: &mut BodyWriter<'_, W>) -> io::Result<Option<ValueRange>> {
        let is_string = self.field.data_type == DataType::VarChar;
        let mut range = TextRangeBuilder::default();
        let mut last: Option<&[u8]> = None;
        for run in self.texts()? {
            let TextRun { run, offsets, text } = run?;
            if offsets.is_empty() {
                (0..run.count).try_for_each(|_| body.write(text))?;
                if is_string && (run.place..run.place + run.count).any(|place| self.is_valid(place)) {
                    range.see(text);
                }
                continue;
            }
            if is_string && !are_strings(offsets, text) {
                return Err(self.invalid("has text that is not UTF-8 in a source"));
            }
            for (index, row) in offsets.windows(2).enumerate().filter(|_| is_string) {
                let value = &text[(row[0] - offsets[0]) as usize..(row[1] - offsets[0]) as usize];
                if self.is_valid(run.place + index) {
                    range.see(value);
                }
                if self.field.is_primary {
                    if last.is_some_and(|last| last > value) {
                        return Err(self.invalid("is not in ascending order"));
                    }
                    last = Some(value);
                }
            }
            body.write(text)?;
        }
        Ok(range.finish())
    }

    fn invalid(&self, what: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("column '{}' {what}", self.field.name))
    }
}

/// Whether every row is UTF-8: the text as a whole, and no row ends within a character.
fn are_strings(offsets: &[i32], text: &[u8]) -> bool {
    let is_boundary = |text: &str, offset: i32| text.is_char_boundary((offset - offsets[0]) as usize);
    std::str::from_utf8(text).is_ok_and(|text| text.is_ascii() || offsets.iter().all(|end| is_boundary(text, *end)))
}

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
