//! Output fields: what a client asks for by name, and what the reply must carry and say for it.

use crate::config::limits::OUTPUT_FIELDS_MAX;
use crate::proto::instants::InstantStyle;
use crate::proto::rows::column_into_wire;
use crate::proto::schema::FieldData;
use crate::query::{OutputRows, RowAddress, Snapshot};
use crate::types::{CollectionSchema, Error, ErrorKind, FieldSchema, Result};

/// Every field.
const ALL_FIELDS: &str = "*";

/// Checked output fields of one request.
#[derive(Clone, Debug)]
pub(super) struct OutputFields<'a> {
    /// Fields to gather, each once.
    fields: Vec<&'a FieldSchema>,
    /// Names as the reply repeats them. A name that is no field is a key of the dynamic field: the client keeps only
    /// those keys of `$meta`; without such a name it spreads all of them.
    pub names: Vec<String>,
    /// How timestamps are written.
    pub style: InstantStyle,
}

impl<'a> OutputFields<'a> {
    /// Checks the names a client asks for.
    ///
    /// # Errors
    /// When a name is no field and the collection has no dynamic field.
    pub fn new(schema: &'a CollectionSchema, requested: &[String]) -> Result<OutputFields<'a>> {
        if requested.len() > OUTPUT_FIELDS_MAX {
            let message =
                format!("{} output fields are asked for, at most {OUTPUT_FIELDS_MAX} are given", requested.len());
            return Err(Error::invalid(message));
        }
        let mut output = OutputFields { fields: Vec::new(), names: Vec::new(), style: InstantStyle::default() };
        for name in requested {
            output.add(schema, name.trim())?;
        }
        Ok(output)
    }

    fn add(&mut self, schema: &'a CollectionSchema, name: &str) -> Result<()> {
        if name == ALL_FIELDS {
            for field in schema.fields.iter().filter(|field| !field.is_function_output) {
                self.add_field(field);
            }
            return Ok(());
        }
        if let Some(field) = schema.field(name) {
            if field.is_function_output {
                let message = format!("not allowed to retrieve raw data of field {name}");
                return Err(Error::new(ErrorKind::InvalidParameter, message));
            }
            self.add_field(field);
            return Ok(());
        }
        let dynamic = schema
            .dynamic_field()
            .ok_or_else(|| Error::new(ErrorKind::Unexpected, format!("field {name} not exist")))?;
        let key = dynamic_key(dynamic, name)
            .ok_or_else(|| Error::new(ErrorKind::Unexpected, format!("parse output field name failed: {name}")))?;
        if !self.fields.iter().any(|field| field.id == dynamic.id) {
            self.fields.push(dynamic);
        }
        self.add_name(key);
        Ok(())
    }

    /// Adds a field, once.
    pub fn add_field(&mut self, field: &'a FieldSchema) {
        if !self.fields.iter().any(|other| other.id == field.id) {
            self.fields.push(field);
        }
        self.add_name(&field.name);
    }

    fn add_name(&mut self, name: &str) {
        if !self.names.iter().any(|other| other == name) {
            self.names.push(name.to_owned());
        }
    }

    /// The fields of some rows; typed columns of no rows when there are none.
    ///
    /// # Errors
    /// When they are more than a reply may hold.
    pub fn gather(&self, snapshot: &Snapshot, rows: &[RowAddress]) -> Result<Vec<FieldData>> {
        let columns = OutputRows { snapshot, rows }.columns(&self.fields)?;
        let wire = |(field, column)| column_into_wire(field, column, &self.style);
        Ok(self.fields.iter().copied().zip(columns).map(wire).collect())
    }
}

/// The key of a dynamic field that a name means: `key` or `$meta["key"]`.
fn dynamic_key<'n>(dynamic: &FieldSchema, name: &'n str) -> Option<&'n str> {
    if let Some(quoted) = name.strip_prefix(dynamic.name.as_str()) {
        let quoted = quoted.strip_prefix('[')?.strip_suffix(']')?;
        let key = ['"', '\''].into_iter().find_map(|quote| quoted.strip_prefix(quote)?.strip_suffix(quote))?;
        return (!key.is_empty() && !key.contains(['"', '\'', '\\'])).then_some(key);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_word)).then_some(name)
}
