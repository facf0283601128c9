//! `Timestamptz` of the protocol and ours: text in some time zone, microseconds since the Unix epoch.
//!
//! Clients send text; what has no offset is of the collection's zone. That zone may be another one when the log is replayed, so
//! such text is replaced by numbers before it goes there ([`resolve`]): text in the log is always of UTC.

use super::schema::{self, field_data, scalar_field};
use crate::types::{CollectionSchema, DataType, Error, Result, Zone, parse_instant};

/// Names of the parts of a timestamp, in the order of [`Zone::parts`].
const PARTS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "microsecond"];

/// The zone with an IANA name.
///
/// # Errors
/// With Milvus' text.
pub fn zone(name: &str) -> Result<Zone> {
    Zone::from_name(name).ok_or_else(|| Error::invalid(format_args!("unknown or invalid IANA Time Zone ID: {name}")))
}

/// Microseconds of texts.
pub(super) fn read(texts: &[String], zone: &Zone) -> Result<Vec<i64>> {
    let read = |text: &String| {
        parse_instant(text, zone).ok_or_else(|| {
            Error::invalid(format_args!(
                "got invalid timestamptz string '{text}': invalid timezone name; must be a valid IANA Time Zone ID (e.g., \
                 'Asia/Shanghai' or 'UTC')"
            ))
        })
    };
    texts.iter().map(read).collect()
}

/// Replaces the timestamps' text in a request by numbers. Returns whether there was any to replace.
///
/// # Errors
/// With Milvus' text.
pub fn resolve(schema: &CollectionSchema, fields: &mut [schema::FieldData], zone: &Zone) -> Result<bool> {
    let mut is_changed = false;
    for data in fields {
        let is_instant = schema.field(&data.field_name).is_some_and(|field| field.data_type == DataType::Timestamptz);
        let Some(field_data::Field::Scalars(scalars)) = data.field.as_mut().filter(|_| is_instant) else { continue };
        if let Some(scalar_field::Data::StringData(texts)) = &scalars.data {
            let data = read(&texts.data, zone)?;
            scalars.data = Some(scalar_field::Data::TimestamptzData(schema::TimestamptzArray { data }));
            is_changed = true;
        }
    }
    Ok(is_changed)
}

/// How timestamps are answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InstantStyle {
    zone: Zone,
    /// Instead of text these parts of it, as places in [`PARTS`].
    parts: Option<Vec<usize>>,
}

impl InstantStyle {
    /// Text in a zone or, with names such as `year, month`, a list of numbers.
    ///
    /// # Errors
    /// With Milvus' text, when there is no such part.
    pub fn new(zone: Zone, parts: Option<&str>) -> Result<InstantStyle> {
        let place = |name: &str| {
            PARTS.iter().position(|part| part.eq_ignore_ascii_case(name)).ok_or_else(|| {
                Error::invalid(format_args!(
                    "unsupported field for extraction: {name}, fields should be seprated by ',' or ' '"
                ))
            })
        };
        let names = |text: &str| {
            text.split([',', ' ']).filter(|name| !name.is_empty()).take(PARTS.len() * 2).map(place).collect()
        };
        let parts: Option<Vec<usize>> = parts.map(names).transpose()?;
        Ok(InstantStyle { zone, parts: parts.filter(|parts| !parts.is_empty()) })
    }

    /// The answered type and values; null rows get a placeholder.
    pub(super) fn to_wire(&self, instants: &[i64], validity: Option<&[bool]>) -> (DataType, scalar_field::Data) {
        let rows = instants.iter().enumerate();
        let is_valid = |row: usize| validity.is_none_or(|validity| validity[row]);
        let Some(parts) = &self.parts else {
            let text = |(row, instant): (usize, &i64)| match is_valid(row) {
                true => self.zone.show(*instant),
                false => String::new(),
            };
            let data = rows.map(text).collect();
            return (DataType::Timestamptz, scalar_field::Data::StringData(schema::StringArray { data }));
        };
        let numbers = |(_, instant): (usize, &i64)| {
            let all = self.zone.parts(*instant);
            let data = parts.iter().map(|part| all[*part]).collect();
            schema::ScalarField { data: Some(scalar_field::Data::LongData(schema::LongArray { data })) }
        };
        let array = schema::ArrayArray { data: rows.map(numbers).collect(), element_type: DataType::Int64 as i32 };
        (DataType::Array, scalar_field::Data::ArrayData(array))
    }
}
