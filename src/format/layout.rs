//! Where things are in a growing file: the header, and the directory of sections that makes the file self-describing.
//!
//! Fixed-width little-endian fields; offsets count from the start of the file. See FORMAT.md for the table.

use super::FormatError;
use crate::sys::map::SharedMap;
use crate::types::{CollectionSchema, DataType, FieldId, FieldSchema};

const WHAT: &str = "growing file";
const MAGIC: [u8; 8] = *b"SHOALGRW";
const VERSION: u32 = 1;
/// Bytes of the header before the directory: three cache lines (fixed part, published rows, one that is free).
const HEADER_BYTES: usize = 192;
/// Bytes of one directory record.
const RECORD_BYTES: usize = 32;
/// The fixed part of the header that the checksum covers.
const FIXED_BYTES: usize = 32;
/// Where the checksum of header and directory is.
const CHECKSUM_OFFSET: usize = 32;
/// The published row count has a cache line of its own: readers poll it while the writer stores it.
pub(super) const PUBLISHED_OFFSET: usize = 64;
/// Sections begin at multiples of this: a cache line, and the widest vector register.
pub(super) const ALIGNMENT: usize = 64;
/// Most sections of a file: two of its own and four of each field, far above what a schema can hold.
const SECTIONS_MAX: usize = 4096;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum SectionKind {
    InsertTimestamps = 1,
    DeletedAt = 2,
    Validity = 3,
    Values = 4,
    Offsets = 5,
    Text = 6,
}

impl SectionKind {
    fn from_number(number: u32) -> Option<SectionKind> {
        use SectionKind::{DeletedAt, InsertTimestamps, Offsets, Text, Validity, Values};
        [InsertTimestamps, DeletedAt, Validity, Values, Offsets, Text].into_iter().find(|kind| *kind as u32 == number)
    }
}

/// One record of the directory.
#[derive(Clone, Copy, Debug)]
struct Section {
    field: i64,
    data_type: i32,
    kind: SectionKind,
    offset: usize,
    bytes: usize,
}

impl Section {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[0..8].copy_from_slice(&self.field.to_le_bytes());
        record[8..12].copy_from_slice(&self.data_type.to_le_bytes());
        record[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        record[16..24].copy_from_slice(&(self.offset as u64).to_le_bytes());
        record[24..32].copy_from_slice(&(self.bytes as u64).to_le_bytes());
        record
    }

    fn decode(record: &[u8], total_bytes: usize) -> Result<Section, FormatError> {
        let field = read_u64(record, 0)? as i64;
        let data_type = read_u32(record, 8)? as i32;
        let kind_number = read_u32(record, 12)?;
        let kind = SectionKind::from_number(kind_number)
            .ok_or_else(|| damaged(format!("section kind {kind_number} of field {field}")))?;
        let (offset, bytes) = (read_usize(record, 16)?, read_usize(record, 24)?);
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= total_bytes);
        if !fits || !offset.is_multiple_of(ALIGNMENT) {
            return Err(damaged(format!("section {kind:?} of field {field} at {offset}, {bytes} bytes")));
        }
        Ok(Section { field, data_type, kind, offset, bytes })
    }
}

/// Where a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnPlace {
    /// `row_bytes` bytes per row from `offset` on.
    Fixed { offset: usize, row_bytes: usize },
    /// Offsets (i32, capacity + 1) and the text they point into.
    Text { offsets: usize, text: usize, text_bytes: usize },
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ColumnLayout {
    pub field: FieldId,
    pub data_type: DataType,
    /// Where its validity bytes are; `None` when it cannot be null.
    pub validity: Option<usize>,
    pub place: ColumnPlace,
}

/// A whole growing file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub row_capacity: usize,
    pub insert_timestamps: usize,
    pub deleted_at: usize,
    pub columns: Vec<ColumnLayout>,
    pub total_bytes: usize,
}

/// Hands out aligned ranges one after the other.
struct Cursor {
    end: usize,
}

impl Cursor {
    fn take(&mut self, bytes: usize) -> usize {
        let offset = self.end.next_multiple_of(ALIGNMENT);
        self.end = offset + bytes;
        offset
    }
}

impl Layout {
    /// Lays out `row_capacity` rows of a schema; `text_bytes` has one capacity per text column, in schema order.
    pub fn new(schema: &CollectionSchema, row_capacity: usize, text_bytes: &[usize]) -> Layout {
        let sections = 2 + schema.fields.iter().map(section_count).sum::<usize>();
        let mut cursor = Cursor { end: HEADER_BYTES + sections * RECORD_BYTES };
        let insert_timestamps = cursor.take(row_capacity * 8);
        let deleted_at = cursor.take(row_capacity * 8);
        let mut text_bytes = text_bytes.iter().copied();
        let mut columns = Vec::with_capacity(schema.fields.len());
        for field in &schema.fields {
            let validity = field.is_nullable.then(|| cursor.take(row_capacity));
            let place = match field.row_bytes() {
                Some(row_bytes) => ColumnPlace::Fixed { offset: cursor.take(row_capacity * row_bytes), row_bytes },
                None => {
                    let text_bytes = text_bytes.next().unwrap_or(0);
                    let offsets = cursor.take((row_capacity + 1) * 4);
                    ColumnPlace::Text { offsets, text: cursor.take(text_bytes), text_bytes }
                }
            };
            columns.push(ColumnLayout { field: field.id, data_type: field.data_type, validity, place });
        }
        let total_bytes = cursor.end.next_multiple_of(ALIGNMENT);
        Layout { row_capacity, insert_timestamps, deleted_at, columns, total_bytes }
    }

    fn sections(&self) -> Vec<Section> {
        let rows = self.row_capacity;
        let own = |kind, offset| Section { field: 0, data_type: 0, kind, offset, bytes: rows * 8 };
        let mut sections = vec![
            own(SectionKind::InsertTimestamps, self.insert_timestamps),
            own(SectionKind::DeletedAt, self.deleted_at),
        ];
        for column in &self.columns {
            let section = |kind, offset, bytes| Section {
                field: column.field.0,
                data_type: column.data_type as i32,
                kind,
                offset,
                bytes,
            };
            sections.extend(column.validity.map(|offset| section(SectionKind::Validity, offset, rows)));
            match column.place {
                ColumnPlace::Fixed { offset, row_bytes } => {
                    sections.push(section(SectionKind::Values, offset, rows * row_bytes));
                }
                ColumnPlace::Text { offsets, text, text_bytes } => {
                    sections.push(section(SectionKind::Offsets, offsets, (rows + 1) * 4));
                    sections.push(section(SectionKind::Text, text, text_bytes));
                }
            }
        }
        sections
    }

    /// Writes header and directory into a fresh map.
    pub fn write(&self, map: &SharedMap) {
        let sections = self.sections();
        let mut header = [0; FIXED_BYTES];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(sections.len() as u32).to_le_bytes());
        header[16..24].copy_from_slice(&(self.total_bytes as u64).to_le_bytes());
        header[24..32].copy_from_slice(&(self.row_capacity as u64).to_le_bytes());
        let directory: Vec<u8> = sections.iter().flat_map(Section::encode).collect();
        map.write(HEADER_BYTES, &directory);
        map.write(CHECKSUM_OFFSET, &header_checksum(&header, &directory).to_le_bytes());
        map.write(0, &header);
    }

    /// Reads and checks header and directory against each other and against the map's length.
    pub fn read(map: &SharedMap) -> Result<Layout, FormatError> {
        let bytes = map.bytes();
        let header = bytes.get(..FIXED_BYTES).ok_or_else(|| foreign(format!("only {} bytes", bytes.len())))?;
        if header[0..8] != MAGIC {
            return Err(foreign("another magic number".to_owned()));
        }
        let version = read_u32(header, 8)?;
        if version != VERSION {
            return Err(foreign(format!("version {version}, this build reads {VERSION}")));
        }
        let section_count = read_u32(header, 12)? as usize;
        let (total_bytes, row_capacity) = (read_usize(header, 16)?, read_usize(header, 24)?);
        if section_count > SECTIONS_MAX || total_bytes > bytes.len() {
            return Err(damaged(format!("{section_count} sections, {total_bytes} of {} bytes", bytes.len())));
        }
        let directory = bytes
            .get(HEADER_BYTES..HEADER_BYTES + section_count * RECORD_BYTES)
            .ok_or_else(|| damaged("the directory passes the end".to_owned()))?;
        if read_u32(bytes, CHECKSUM_OFFSET)? != header_checksum(header, directory) {
            return Err(damaged("checksum of header and directory".to_owned()));
        }
        let sections = directory
            .chunks_exact(RECORD_BYTES)
            .map(|record| Section::decode(record, total_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Layout::from_sections(row_capacity, total_bytes, &sections)
    }

    fn from_sections(row_capacity: usize, total_bytes: usize, sections: &[Section]) -> Result<Layout, FormatError> {
        let own = |kind: SectionKind| {
            let section = sections.iter().find(|section| section.kind == kind && section.field == 0);
            section
                .filter(|section| Some(section.bytes) == row_capacity.checked_mul(8))
                .map(|section| section.offset)
                .ok_or_else(|| damaged(format!("no {kind:?} of {row_capacity} rows")))
        };
        let mut layout = Layout {
            row_capacity,
            insert_timestamps: own(SectionKind::InsertTimestamps)?,
            deleted_at: own(SectionKind::DeletedAt)?,
            columns: Vec::new(),
            total_bytes,
        };
        for columns in sections[2..].chunk_by(|left, right| left.field == right.field) {
            layout.columns.push(column_of(columns, row_capacity)?);
        }
        Ok(layout)
    }
}

/// The column that the sections of one field make.
fn column_of(sections: &[Section], row_capacity: usize) -> Result<ColumnLayout, FormatError> {
    let field = sections[0].field;
    let wrong = |what: &str| damaged(format!("field {field}: {what}"));
    let data_type = DataType::from_number(sections[0].data_type).ok_or_else(|| wrong("unknown type"))?;
    let find = |kind| sections.iter().find(|section| section.kind == kind);
    let validity = find(SectionKind::Validity);
    if validity.is_some_and(|section| section.bytes != row_capacity) {
        return Err(wrong("validity of another length"));
    }
    let place = match (find(SectionKind::Values), find(SectionKind::Offsets), find(SectionKind::Text)) {
        (Some(values), None, None) => {
            let row_bytes = values.bytes.checked_div(row_capacity).unwrap_or(0);
            if row_bytes * row_capacity != values.bytes {
                return Err(wrong("values of another length"));
            }
            ColumnPlace::Fixed { offset: values.offset, row_bytes }
        }
        (None, Some(offsets), Some(text)) => {
            if row_capacity.checked_add(1).and_then(|count| count.checked_mul(4)) != Some(offsets.bytes) {
                return Err(wrong("offsets of another length"));
            }
            ColumnPlace::Text { offsets: offsets.offset, text: text.offset, text_bytes: text.bytes }
        }
        _ => return Err(wrong("neither values nor text")),
    };
    Ok(ColumnLayout { field: FieldId(field), data_type, validity: validity.map(|section| section.offset), place })
}

fn section_count(field: &FieldSchema) -> usize {
    usize::from(field.is_nullable) + if field.row_bytes().is_some() { 1 } else { 2 }
}

/// Fields shorter than they must be: the caller gave too few bytes.
fn read_u32(bytes: &[u8], at: usize) -> Result<u32, FormatError> {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map(u32::from_le_bytes).ok_or_else(|| damaged(format!("cut off at {at}")))
}

fn read_u64(bytes: &[u8], at: usize) -> Result<u64, FormatError> {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    field.map(u64::from_le_bytes).ok_or_else(|| damaged(format!("cut off at {at}")))
}

fn read_usize(bytes: &[u8], at: usize) -> Result<usize, FormatError> {
    let value = read_u64(bytes, at)?;
    usize::try_from(value).map_err(|_| damaged(format!("{value} at {at} passes the address space")))
}

fn header_checksum(header: &[u8], directory: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header);
    digest.update(directory);
    digest.finalize() as u32
}

fn foreign(detail: String) -> FormatError {
    FormatError::Foreign { what: WHAT, detail }
}

fn damaged(detail: String) -> FormatError {
    FormatError::Damaged { what: WHAT, detail }
}
