//! Where the columns of a table file are: Arrow's footer and record batch header, every field of them checked.
//!
//! Arrow's own decoder would read every string to check it (opening must not touch the rows) and stops the process on some
//! malformed schemas; so only its generated accessors are used, on buffers that flatbuffers has verified.

use arrow_ipc::{Block, FieldNode, Footer, KeyValue, MessageHeader, MetadataVersion, RecordBatch, Type};

use super::arrow_types::list_item_bytes;
use super::stats::FileStats;
use super::{DATA_TYPE_KEY, FIELD_ID_KEY, FORMAT_KEY, FORMAT_VERSION, PRIMARY_KEY, STATS_KEY, TIMESTAMP_COLUMN};
use crate::config::limits::FIELDS_MAX;
use crate::format::FormatError;
use crate::sys::map::SharedMap;
use crate::types::{DataType, FieldId, FieldSchema, Validity, Values};

const WHAT: &str = "table file";
const MAGIC: &[u8; 6] = b"ARROW1";
/// Length of the footer (4 bytes) and the magic number.
const TRAILER_BYTES: usize = 10;
/// Marker and length before a message.
const PREFIX_BYTES: usize = 8;
/// Values of vectors begin at multiples of this.
const ALIGNMENT_BYTES: usize = 64;
/// Most columns: fields were added and `$ts`, `$meta` and dropped fields come on top of the schema's own.
const COLUMNS_MAX: usize = FIELDS_MAX * 4;

/// Some bytes of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub offset: usize,
    pub bytes: usize,
}

/// Where one column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fixed(Span),
    Vector { values: Span, row_bytes: usize },
    Text { offsets: Span, text: Span },
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileColumn {
    pub field: FieldId,
    data_type: DataType,
    /// `None` when no row is null.
    validity: Option<Span>,
    place: Place,
}

impl FileColumn {
    /// Whether the column holds what the field holds.
    pub fn fits(&self, field: &FieldSchema) -> bool {
        self.data_type == field.data_type
            && match self.place {
                Place::Vector { row_bytes, .. } => field.row_bytes() == Some(row_bytes),
                _ => true,
            }
    }

    pub fn validity<'a>(&self, map: &'a SharedMap) -> Option<Validity<'a>> {
        match self.validity {
            None => Some(Validity::All),
            Some(span) => Some(Validity::Bits { bits: map.get(span.offset..span.offset + span.bytes)?, offset: 0 }),
        }
    }

    pub fn values<'a>(&self, map: &'a SharedMap, row_count: usize) -> Option<Values<'a>> {
        let bytes = |span: Span| map.get(span.offset..span.offset + span.bytes);
        Some(match (self.place, self.data_type) {
            (Place::Fixed(span), DataType::Bool) => Values::BoolBits { bits: bytes(span)?, offset: 0 },
            (Place::Fixed(span), DataType::Int8) => Values::Int8(map.slice(span.offset, row_count)?),
            (Place::Fixed(span), DataType::Int16) => Values::Int16(map.slice(span.offset, row_count)?),
            (Place::Fixed(span), DataType::Int32) => Values::Int32(map.slice(span.offset, row_count)?),
            (Place::Fixed(span), DataType::Int64 | DataType::Timestamptz) => {
                Values::Int64(map.slice(span.offset, row_count)?)
            }
            (Place::Fixed(span), DataType::Float) => Values::Float(map.slice(span.offset, row_count)?),
            (Place::Fixed(span), DataType::Double) => Values::Double(map.slice(span.offset, row_count)?),
            (Place::Fixed(_), _) => return None,
            (Place::Vector { values, row_bytes }, _) => Values::Vector { bytes: bytes(values)?, row_bytes },
            (Place::Text { offsets, text }, _) => {
                Values::Text { offsets: map.slice(offsets.offset, row_count + 1)?, bytes: bytes(text)? }
            }
        })
    }
}

/// Everything opening finds out.
pub(super) struct FilePlaces {
    pub row_count: usize,
    pub timestamps: Span,
    pub primary: FieldId,
    pub columns: Vec<FileColumn>,
    pub stats: FileStats,
}

impl FilePlaces {
    pub fn read(map: &SharedMap) -> Result<FilePlaces, FormatError> {
        let bytes = map.bytes();
        let (footer, footer_start) = footer_of(bytes)?;
        let schema = footer.schema().ok_or_else(|| damaged("no schema"))?;
        let metadata = |key| value_of(schema.custom_metadata(), key);
        match metadata(FORMAT_KEY) {
            Some(FORMAT_VERSION) => {}
            other => return Err(foreign(format!("{FORMAT_KEY} is {other:?}, this build reads {FORMAT_VERSION}"))),
        }
        let primary = metadata(PRIMARY_KEY)
            .and_then(|id| id.parse().ok())
            .map(FieldId)
            .ok_or_else(|| damaged("no primary field"))?;
        let stats = value_of(footer.custom_metadata(), STATS_KEY)
            .and_then(|stats| serde_json::from_str(stats).ok())
            .unwrap_or_default();
        let blocks = footer.recordBatches().ok_or_else(|| damaged("no record batch"))?;
        if blocks.len() != 1 || footer.dictionaries().is_some_and(|dictionaries| !dictionaries.is_empty()) {
            return Err(foreign(format!("{} record batches (or dictionaries)", blocks.len())));
        }
        let fields = schema.fields().ok_or_else(|| damaged("no fields"))?;
        if fields.len() > COLUMNS_MAX {
            return Err(damaged(format!("{} columns", fields.len())));
        }
        let (batch, body) = record_batch(bytes, blocks.get(0), footer_start)?;
        let mut buffers = Buffers::new(map, batch, body)?;
        let row_count = buffers.row_count;
        let mut fields = fields.iter();
        let first = fields.next().filter(|field| field.name() == Some(TIMESTAMP_COLUMN));
        let first = first.ok_or_else(|| foreign(format!("the first column is not {TIMESTAMP_COLUMN}")))?;
        if !is_integer(&first, 64, false) {
            return Err(foreign(format!("{TIMESTAMP_COLUMN} is not UInt64")));
        }
        let timestamps = buffers.take_fixed(TIMESTAMP_COLUMN, 8)?.1;
        let columns = fields.map(|field| buffers.take_column(&field)).collect::<Result<Vec<_>, _>>()?;
        Ok(FilePlaces { row_count, timestamps, primary, columns, stats })
    }
}

fn footer_of(bytes: &[u8]) -> Result<(Footer<'_>, usize), FormatError> {
    let end = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(|| foreign(format!("only {} bytes", bytes.len())))?;
    if &bytes[..MAGIC.len()] != MAGIC {
        return Err(foreign("no Arrow file".to_owned()));
    }
    if &bytes[end + 4..] != MAGIC {
        return Err(damaged("no Arrow magic number at the end: cut off?"));
    }
    let length = [bytes[end], bytes[end + 1], bytes[end + 2], bytes[end + 3]];
    let length = usize::try_from(i32::from_le_bytes(length)).map_err(|_| damaged("footer length"))?;
    let start = end.checked_sub(length).ok_or_else(|| damaged("footer length"))?;
    let footer = arrow_ipc::root_as_footer(&bytes[start..end]).map_err(|error| damaged(format!("footer: {error}")))?;
    Ok((footer, start))
}

/// The header of a record batch, and where its body is.
fn record_batch<'a>(
    bytes: &'a [u8],
    block: &Block,
    footer_start: usize,
) -> Result<(RecordBatch<'a>, Span), FormatError> {
    let wrong = || damaged("record batch outside the file");
    let offset = usize::try_from(block.offset()).map_err(|_| wrong())?;
    let header_bytes = usize::try_from(block.metaDataLength()).map_err(|_| wrong())?;
    let body_bytes = usize::try_from(block.bodyLength()).map_err(|_| wrong())?;
    let body_offset = offset.checked_add(header_bytes).ok_or_else(wrong)?;
    let body_end = body_offset.checked_add(body_bytes).filter(|end| *end <= footer_start).ok_or_else(wrong)?;
    if !body_offset.is_multiple_of(ALIGNMENT_BYTES) || header_bytes < PREFIX_BYTES {
        return Err(damaged(format!("record batch at {offset} with a header of {header_bytes} bytes")));
    }
    debug_assert!(body_end <= bytes.len());
    let message = arrow_ipc::root_as_message(&bytes[offset + PREFIX_BYTES..body_offset])
        .map_err(|error| damaged(format!("record batch header: {error}")))?;
    if message.version() != MetadataVersion::V5 || message.header_type() != MessageHeader::RecordBatch {
        return Err(foreign(format!("a {:?} of metadata {:?}", message.header_type(), message.version())));
    }
    let batch = message.header_as_record_batch().ok_or_else(|| damaged("no record batch header"))?;
    if batch.compression().is_some() {
        return Err(foreign("compressed: it cannot be searched in place".to_owned()));
    }
    Ok((batch, Span { offset: body_offset, bytes: body_bytes }))
}

/// The nodes and buffers of a record batch, taken in the order of its columns.
struct Buffers<'a> {
    map: &'a SharedMap,
    nodes: std::vec::IntoIter<FieldNode>,
    buffers: std::vec::IntoIter<arrow_ipc::Buffer>,
    body: Span,
    row_count: usize,
}

impl<'a> Buffers<'a> {
    fn new(map: &'a SharedMap, batch: RecordBatch<'_>, body: Span) -> Result<Buffers<'a>, FormatError> {
        let row_count = usize::try_from(batch.length()).ok().filter(|rows| *rows <= u32::MAX as usize);
        let row_count = row_count.ok_or_else(|| damaged(format!("{} rows", batch.length())))?;
        let nodes: Vec<FieldNode> = batch.nodes().map(|nodes| nodes.iter().copied().collect()).unwrap_or_default();
        let buffers: Vec<arrow_ipc::Buffer> =
            batch.buffers().map(|buffers| buffers.iter().copied().collect()).unwrap_or_default();
        Ok(Buffers { map, nodes: nodes.into_iter(), buffers: buffers.into_iter(), body, row_count })
    }

    /// The next column's node: validity, checked. `rows` is its length: a vector's child has more than the batch.
    fn take_validity(&mut self, name: &str, rows: usize) -> Result<Option<Span>, FormatError> {
        let node = self.nodes.next().ok_or_else(|| damaged(format!("column '{name}': no node")))?;
        if usize::try_from(node.length()).ok() != Some(rows) {
            return Err(damaged(format!("column '{name}': {} rows of {rows}", node.length())));
        }
        let bits = self.take(name, 0)?;
        match usize::try_from(node.null_count()) {
            Ok(0) => Ok(None),
            Ok(nulls) if nulls <= rows && bits.bytes >= rows.div_ceil(8) => Ok(Some(bits)),
            _ => Err(damaged(format!("column '{name}': {} nulls of {rows}", node.null_count()))),
        }
    }

    /// The next buffer, at least `bytes_min` long.
    fn take(&mut self, name: &str, bytes_min: usize) -> Result<Span, FormatError> {
        let buffer = self.buffers.next().ok_or_else(|| damaged(format!("column '{name}': no buffer")))?;
        let wrong = || {
            let (offset, length) = (buffer.offset(), buffer.length());
            damaged(format!("column '{name}': buffer at {offset}, {length} bytes, {bytes_min} needed"))
        };
        let offset = usize::try_from(buffer.offset()).map_err(|_| wrong())?;
        let bytes = usize::try_from(buffer.length()).map_err(|_| wrong())?;
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.body.bytes);
        if !fits || bytes < bytes_min || !offset.is_multiple_of(ALIGNMENT_BYTES) {
            return Err(wrong());
        }
        Ok(Span { offset: self.body.offset + offset, bytes })
    }

    fn take_fixed(&mut self, name: &str, row_bytes: usize) -> Result<(Option<Span>, Span), FormatError> {
        let validity = self.take_validity(name, self.row_count)?;
        let bytes = self.row_count.checked_mul(row_bytes).ok_or_else(|| damaged(format!("column '{name}'")))?;
        Ok((validity, Span { bytes, ..self.take(name, bytes)? }))
    }

    fn take_column(&mut self, field: &arrow_ipc::Field<'_>) -> Result<FileColumn, FormatError> {
        let name = field.name().unwrap_or_default();
        let number = |key| value_of(field.custom_metadata(), key).and_then(|text| text.parse::<i64>().ok());
        let id = number(FIELD_ID_KEY).ok_or_else(|| foreign(format!("column '{name}' has no {FIELD_ID_KEY}")))?;
        let data_type = number(DATA_TYPE_KEY)
            .and_then(|number| i32::try_from(number).ok())
            .and_then(DataType::from_number)
            .ok_or_else(|| foreign(format!("column '{name}' has no {DATA_TYPE_KEY} that this build knows")))?;
        let other_type =
            || damaged(format!("column '{name}' is {:?} and says {}", field.type_type(), data_type.name()));
        if field.dictionary().is_some() {
            return Err(other_type());
        }
        let width = width_of(field, data_type).ok_or_else(other_type)?;
        let (validity, place) = match width {
            Width::Bits => {
                let validity = self.take_validity(name, self.row_count)?;
                (validity, Place::Fixed(self.take(name, self.row_count.div_ceil(8))?))
            }
            Width::Bytes(row_bytes) => {
                let (validity, values) = self.take_fixed(name, row_bytes)?;
                (validity, Place::Fixed(values))
            }
            Width::Vector(row_bytes) => {
                let (validity, values) = self.take_fixed(name, row_bytes)?;
                (validity, Place::Vector { values, row_bytes })
            }
            Width::List { dim, item_bytes } => self.take_list(name, dim, item_bytes)?,
            Width::Text => self.take_text(name)?,
        };
        Ok(FileColumn { field: FieldId(id), data_type, validity, place })
    }

    fn take_list(&mut self, name: &str, dim: usize, item_bytes: usize) -> Result<(Option<Span>, Place), FormatError> {
        let validity = self.take_validity(name, self.row_count)?;
        let items = self.row_count.checked_mul(dim).ok_or_else(|| damaged(format!("column '{name}'")))?;
        if self.take_validity(name, items)?.is_some() {
            return Err(damaged(format!("column '{name}' has vectors with null elements")));
        }
        let bytes = items.checked_mul(item_bytes).ok_or_else(|| damaged(format!("column '{name}'")))?;
        let values = Span { bytes, ..self.take(name, bytes)? };
        Ok((validity, Place::Vector { values, row_bytes: dim * item_bytes }))
    }

    fn take_text(&mut self, name: &str) -> Result<(Option<Span>, Place), FormatError> {
        let validity = self.take_validity(name, self.row_count)?;
        let offsets = self.take(name, (self.row_count + 1) * 4)?;
        let text = self.take(name, 0)?;
        let ends: Option<&[i32]> = self.map.slice(offsets.offset, self.row_count + 1);
        let (first, last) = ends
            .and_then(|ends| Some((*ends.first()?, *ends.last()?)))
            .ok_or_else(|| damaged(format!("column '{name}': offsets")))?;
        if first != 0 || usize::try_from(last).ok().is_none_or(|last| last > text.bytes) {
            return Err(damaged(format!("column '{name}': text {first}..{last} of {} bytes", text.bytes)));
        }
        Ok((validity, Place::Text { offsets, text }))
    }
}

/// How a column's values are laid out.
enum Width {
    Bits,
    Bytes(usize),
    Vector(usize),
    List { dim: usize, item_bytes: usize },
    Text,
}

/// The layout of a column; `None` when its Arrow type is not the one we write for the field's type.
fn width_of(field: &arrow_ipc::Field<'_>, data_type: DataType) -> Option<Width> {
    let integer = |bits: i32| is_integer(field, bits, true).then_some(Width::Bytes(bits as usize / 8));
    match data_type {
        DataType::Bool => (field.type_type() == Type::Bool).then_some(Width::Bits),
        DataType::Int8 => integer(8),
        DataType::Int16 => integer(16),
        DataType::Int32 => integer(32),
        DataType::Int64 | DataType::Timestamptz => integer(64),
        DataType::Float => is_float(field, arrow_ipc::Precision::SINGLE).then_some(Width::Bytes(4)),
        DataType::Double => is_float(field, arrow_ipc::Precision::DOUBLE).then_some(Width::Bytes(8)),
        DataType::VarChar => (field.type_type() == Type::Utf8).then_some(Width::Text),
        DataType::Json | DataType::Array | DataType::SparseFloatVector => {
            (field.type_type() == Type::Binary).then_some(Width::Text)
        }
        DataType::FloatVector => list_of(field, data_type, |item| is_float(item, arrow_ipc::Precision::SINGLE)),
        DataType::Float16Vector => list_of(field, data_type, |item| is_float(item, arrow_ipc::Precision::HALF)),
        DataType::Int8Vector => list_of(field, data_type, |item| is_integer(item, 8, true)),
        DataType::BinaryVector | DataType::BFloat16Vector => {
            let width = field.type_as_fixed_size_binary()?.byteWidth();
            usize::try_from(width).ok().map(Width::Vector)
        }
    }
}

fn list_of(
    field: &arrow_ipc::Field<'_>,
    data_type: DataType,
    is_item: impl Fn(&arrow_ipc::Field<'_>) -> bool,
) -> Option<Width> {
    let (list, children) = (field.type_as_fixed_size_list()?, field.children()?);
    let dim = usize::try_from(list.listSize()).ok()?;
    let item_bytes = list_item_bytes(data_type)?;
    (children.len() == 1 && is_item(&children.get(0))).then_some(Width::List { dim, item_bytes })
}

fn is_integer(field: &arrow_ipc::Field<'_>, bits: i32, is_signed: bool) -> bool {
    field.type_as_int().is_some_and(|integer| integer.bitWidth() == bits && integer.is_signed() == is_signed)
}

fn is_float(field: &arrow_ipc::Field<'_>, precision: arrow_ipc::Precision) -> bool {
    field.type_as_floating_point().is_some_and(|float| float.precision() == precision)
}

/// A metadata value. Written over whatever iterates pairs: flatbuffers' own vector type cannot be named here.
fn value_of<'a>(pairs: Option<impl IntoIterator<Item = KeyValue<'a>>>, key: &str) -> Option<&'a str> {
    pairs?.into_iter().find(|pair| pair.key() == Some(key))?.value()
}

fn foreign(detail: String) -> FormatError {
    FormatError::Foreign { what: WHAT, detail }
}

fn damaged(detail: impl Into<String>) -> FormatError {
    FormatError::Damaged { what: WHAT, detail: detail.into() }
}
