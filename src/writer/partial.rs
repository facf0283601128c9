//! Upserts of some fields: the fields that are not given come from the row of the same key, or are defaults; array operators
//! make new arrays of the given and the stored elements.
//!
//! The commit thread completes the rows and logs them whole: a replay needs no look at other rows.

use std::collections::HashSet;
use std::sync::Arc;

use prost::Message;

use super::array_operators;
use super::engine::Engine;
use super::resolve;
use super::rows_operation::{DecodedRows, Destination, RowsOperation, given_keys};
use crate::filter::{Plan, Templates};
use crate::proto::instants::InstantStyle;
use crate::proto::rows::{column_into_wire, missing_field};
use crate::proto::schemas::DYNAMIC_FIELD;
use crate::proto::{milvus, schema};
use crate::query::{OutputRows, RowAddress, Selection, newest_rows};
use crate::types::{
    CollectionId, CollectionSchema, Column, ColumnData, Error, ErrorKind, FieldSchema, Result, TextColumn,
};

/// Rows of which some fields are given.
#[derive(Debug)]
pub struct PartialOperation {
    /// Where to.
    pub collection: CollectionId,
    /// Where to.
    pub destination: Destination,
    /// The schema when the request came.
    pub schema: Arc<CollectionSchema>,
    /// The request.
    pub request: milvus::UpsertRequest,
    /// The first automatic id; 0 when keys are the client's.
    pub first_id: i64,
}

impl PartialOperation {
    /// Completes the rows from the newest rows of their keys.
    ///
    /// # Errors
    /// With Milvus' texts: when the collection is not loaded, or a row is new and lacks a field; those of an upsert.
    pub fn complete(&self, engine: &Engine) -> Result<RowsOperation> {
        let snapshot = resolve::snapshot(engine, self.collection)?;
        let schema = &self.schema;
        if snapshot.view.manifest.schema.version != schema.version {
            let message = format!("collection schema mismatch[collection={}]", self.request.collection_name);
            return Err(Error::new(ErrorKind::SchemaMismatch, message));
        }
        let keys = given_keys(schema, &self.request.fields_data)
            .filter(|keys| keys.len() == self.request.num_rows as usize)
            .ok_or_else(|| {
                let name = &schema.primary().name;
                Error::invalid(format_args!("must assign pk when upsert, primary field: {name}"))
            })?;
        let plan = Plan::new("", schema, &Templates::default()).map_err(|error| error.to_error(""))?;
        let partitions = self.destination.partition().into_iter().collect();
        let selection = Selection { plan, partitions, ignore_growing: false };
        let found = newest_rows(&snapshot, &keys, &selection)?;
        let has_new_rows = found.contains(&None);
        let addresses: Vec<RowAddress> = found.into_iter().map(|row| row.unwrap_or(RowAddress::NOWHERE)).collect();
        let rows = OutputRows { snapshot: &snapshot, rows: &addresses };

        let style = InstantStyle::default();
        let mut request = self.request.clone();
        request.partial_update = false;
        request.field_ops.clear();
        for field in schema.fields.iter().filter(|field| !field.is_function_output) {
            let is_field = |data: &schema::FieldData| match field.is_dynamic {
                true => data.is_dynamic,
                false => !data.is_dynamic && data.field_name == field.name,
            };
            let given = request.fields_data.iter().position(is_field);
            match given {
                _ if field.is_dynamic => {
                    let given = given.map(|index| request.fields_data.remove(index));
                    request.fields_data.push(merged_documents(field, rows.column(field), given)?);
                }
                Some(index) => {
                    if let Some(operator) = array_operators::operator_of(&self.request, field) {
                        let stored = rows.columns(&[field])?.remove(0);
                        let given = std::mem::take(&mut request.fields_data[index]);
                        request.fields_data[index] = operator.applied(field, stored, given)?;
                    }
                }
                None if has_new_rows && is_required(field) => return Err(missing_field(&field.name)),
                None => request.fields_data.push(column_into_wire(field, rows.columns(&[field])?.remove(0), &style)),
            }
        }
        let payload = request.encode_to_vec();
        let decoded = DecodedRows::of_upsert(schema, request, self.first_id)?;
        let rows = decoded.into_operation(self.collection, self.destination.clone(), schema, self.first_id)?;
        Ok(RowsOperation { payload: Some(payload), ..rows })
    }
}

fn is_required(field: &FieldSchema) -> bool {
    !(field.is_nullable || field.default_value.is_some())
}

/// The keys of the stored and of the given `$meta` documents together; a given key wins.
fn merged_documents(
    field: &FieldSchema,
    stored: Column,
    given: Option<schema::FieldData>,
) -> Result<schema::FieldData> {
    let ColumnData::Text(stored) = stored.data else {
        return Err(Error::internal("the dynamic field holds something else than documents"));
    };
    let given = match given {
        Some(data) => Some(documents(data)?),
        None => None,
    };
    if given.as_ref().is_some_and(|given| given.len() != stored.row_count()) {
        return Err(Error::invalid(format_args!("the rows of {DYNAMIC_FIELD} are not as many as the keys")));
    }
    let mut merged = TextColumn::default();
    for (row, ends) in stored.offsets.windows(2).enumerate() {
        let stored = &stored.bytes[ends[0] as usize..ends[1] as usize];
        let given = given.as_ref().map_or(b"{}".as_slice(), |given| &given[row]);
        merged.push(&merge(stored, given)?);
    }
    let column = Column { field: field.id, data: ColumnData::Text(merged), validity: None };
    Ok(column_into_wire(field, column, &InstantStyle::default()))
}

fn documents(data: schema::FieldData) -> Result<Vec<Vec<u8>>> {
    use schema::field_data::Field;
    use schema::scalar_field::Data;
    match data.field {
        Some(Field::Scalars(schema::ScalarField { data: Some(Data::JsonData(documents)) })) => Ok(documents.data),
        _ => Err(Error::invalid(format_args!("{DYNAMIC_FIELD} holds something else than JSON documents"))),
    }
}

fn merge(stored: &[u8], given: &[u8]) -> Result<Vec<u8>> {
    if given == b"{}" && !stored.is_empty() {
        return Ok(stored.to_vec());
    }
    if matches!(stored, b"" | b"{}") {
        return Ok(given.to_vec());
    }
    let no_object = || Error::invalid(format_args!("{DYNAMIC_FIELD} holds something else than a JSON object"));
    let (stored, given) = (members(stored).ok_or_else(no_object)?, members(given).ok_or_else(no_object)?);
    // Documents have thousands of keys, and the commit thread waits for each row.
    let replaced: HashSet<&str> = given.iter().map(|(key, _)| key.as_str()).collect();
    let kept = stored.iter().filter(|(key, _)| !replaced.contains(key.as_str()));
    let mut merged = Vec::new();
    for (key, value) in kept.chain(&given) {
        merged.extend_from_slice(if merged.is_empty() { b"{" } else { b"," });
        merged.extend_from_slice(&serde_json::to_vec(key).map_err(|_| no_object())?);
        merged.push(b':');
        merged.extend_from_slice(value);
    }
    merged.push(b'}');
    Ok(merged)
}

/// Keys and values of an object, the values as they were written; `None` when the text is no object. Whether the values are
/// JSON is checked with the whole rows.
fn members(object: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let text = object.trim_ascii().strip_prefix(b"{")?.strip_suffix(b"}")?;
    let mut members = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let key_end = 1 + end_of_string(rest.strip_prefix(b"\"")?)?;
        let key = serde_json::from_slice(rest.get(..=key_end)?).ok()?;
        rest = rest.get(key_end + 1..)?.trim_ascii_start().strip_prefix(b":")?;
        let value_end = end_of_value(rest);
        members.push((key, rest[..value_end].trim_ascii()));
        rest = rest.get(value_end + 1..).unwrap_or_default().trim_ascii_start();
    }
    Some(members)
}

/// Where the quote is that ends a string.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    })
}

/// Where the comma is that ends a value, or the end of the text.
fn end_of_value(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b',' if depth == 0 => break,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at += 1 + end_of_string(&text[at + 1..]).unwrap_or(text.len()),
            _ => {}
        }
        at += 1;
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_keys_win_and_values_stay_as_they_were_written() {
        let merged = |stored: &str, given: &str| {
            String::from_utf8(merge(stored.as_bytes(), given.as_bytes()).expect("objects")).expect("UTF-8")
        };
        assert_eq!(
            merged(
                r#"{"a": 1, "b,\"": 12345678901234567890123 ,"c":"x,}\"y"}"#,
                r#"{"a":{"x":[2.50,"]"]} , "d": null}"#
            ),
            r#"{"b,\"":12345678901234567890123,"c":"x,}\"y","a":{"x":[2.50,"]"]},"d":null}"#
        );
        assert_eq!(merged(r#"{"\u0061": 1}"#, r#" { "a" : [] } "#), r#"{"a":[]}"#);
        assert_eq!(merged("{\"a\": 1}", "{}"), "{\"a\": 1}");
        assert_eq!(merged("", "{}"), "{}");
        assert_eq!(merged("{}", "{\"a\":1}"), "{\"a\":1}");
        for wrong in ["[1]", "{a:1}", "{\"a\"}", "{\"a", "{\"a\" 1}", "", "{"] {
            assert!(merge(b"{\"a\":1}", wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
