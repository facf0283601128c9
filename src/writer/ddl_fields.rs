//! Changes of a collection's fields: add one, alter the parameters of one, turn dynamic fields on.
//!
//! Files written before a field was added lack its column: readers and merges take its default, or null. Rows that come
//! afterwards go to fresh files (`update` sees to it), so a growing file holds either all or nothing of a field.

use super::ddl::{decode, update};
use super::engine::Engine;
use super::operation::database_of;
use crate::config::limits::{ARRAY_CAPACITY_MAX, VARCHAR_BYTES_MAX};
use crate::proto::milvus::alter_collection_schema_request::action::Op;
use crate::proto::milvus::alter_collection_schema_request::{AddRequest, FieldInfo};
use crate::proto::schemas::{added_field_from_wire, dynamic_field};
use crate::proto::{milvus, schema, status};
use crate::types::{CollectionRecord, DataType, Error, ErrorKind, FieldId, FieldSchema, Result, Value};

/// Adds a field.
///
/// # Errors
/// With Milvus' texts.
pub fn add(engine: &Engine, database: &str, request: &milvus::AddCollectionFieldRequest) -> Result<()> {
    let wire: schema::FieldSchema = decode(&request.schema)?;
    let database = database_of(&request.db_name, database);
    update(engine, database, &request.collection_name, |_, record| {
        let id = FieldId(record.field_id_next);
        let field = added_field_from_wire(&record.name, &record.schema, wire, id, &record.zone())?;
        insert_field(record, field);
        record.updated = engine.clock.next();
        Ok(())
    })?;
    Ok(())
}

/// Answers AlterCollectionSchema: adds one field, as [`add`] does.
///
/// # Errors
/// With Milvus' texts; dropping fields, functions and bound indexes are refused by name.
pub fn alter_schema(engine: &Engine, database: &str, request: milvus::AlterCollectionSchemaRequest) -> Result<()> {
    let field = match request.action.and_then(|action| action.op) {
        Some(Op::AddRequest(add)) => added_field(add)?,
        Some(Op::DropRequest(_)) => {
            return Err(Error::unimplemented("dropping a field or function of a collection"));
        }
        None => return Err(Error::invalid("AlterCollectionSchema names no action")),
    };
    let request = milvus::AddCollectionFieldRequest {
        db_name: request.db_name,
        collection_name: request.collection_name,
        schema: prost::Message::encode_to_vec(&field),
        ..Default::default()
    };
    add(engine, database, &request)
}

fn added_field(add: AddRequest) -> Result<schema::FieldSchema> {
    if let Some(function) = add.func_schema.first() {
        return Err(Error::unimplemented(format_args!("adding function {} to a collection", function.name)));
    }
    let mut infos = add.field_infos.into_iter();
    match (infos.next(), infos.next()) {
        (Some(FieldInfo { field_schema: Some(field), index_name, extra_params }), None) => {
            if !index_name.is_empty() || !extra_params.is_empty() {
                return Err(Error::unimplemented(format_args!(
                    "adding field {} together with its index (create the index afterwards)",
                    field.name
                )));
            }
            Ok(field)
        }
        _ => Err(Error::invalid("AlterCollectionSchema adds exactly one field at a time")),
    }
}

/// `$meta` stays the last field.
fn insert_field(record: &mut CollectionRecord, field: FieldSchema) {
    let fields = &mut record.schema.fields;
    let end = fields.iter().position(|known| known.is_dynamic).unwrap_or(fields.len());
    fields.insert(end, field);
    record.field_id_next += 1;
    record.schema.version += 1;
}

/// Turns dynamic fields on: older rows hold an empty document.
pub fn enable_dynamic_field(record: &mut CollectionRecord) {
    let mut field = dynamic_field(FieldId(record.field_id_next));
    field.default_value = Some(Value::Text("{}".to_owned()));
    record.schema.enable_dynamic_field = true;
    insert_field(record, field);
}

/// Sets and deletes parameters of a field: `max_length`, `max_capacity`, `mmap.enabled`, `warmup`, the description.
///
/// # Errors
/// With Milvus' texts.
pub fn alter(engine: &Engine, database: &str, request: milvus::AlterCollectionFieldRequest) -> Result<()> {
    let database = database_of(&request.db_name, database).to_owned();
    let set = status::pairs_from_wire(request.properties);
    if set.is_empty() && request.delete_keys.is_empty() {
        return Err(Error::invalid("no properties or delete keys provided"));
    }
    update(engine, &database, &request.collection_name, |_, record| {
        let is_loaded = record.is_loaded;
        let name = record.name.clone();
        let field = record.schema.fields.iter_mut().find(|field| field.name == request.field_name && !field.is_dynamic);
        let field = field.ok_or_else(|| {
            let message = format!("field not found[field={}]", request.field_name);
            Error::new(ErrorKind::FieldNotFound, message)
        })?;
        let before = field.clone();
        let target = Target { collection: &name, is_loaded };
        set.into_iter().try_for_each(|(key, value)| target.set(field, key, value))?;
        request.delete_keys.iter().try_for_each(|key| target.delete(field, key))?;
        if *field != before {
            record.updated = engine.clock.next();
        }
        Ok(())
    })?;
    Ok(())
}

/// The collection of an altered field.
struct Target<'a> {
    collection: &'a str,
    is_loaded: bool,
}

impl Target<'_> {
    fn set(&self, field: &mut FieldSchema, key: String, value: String) -> Result<()> {
        let name = &field.name;
        match canonical(&key) {
            "max_length" => {
                let holds_text = [Some(field.data_type), field.element_type].contains(&Some(DataType::VarChar));
                if !holds_text {
                    return Err(Error::invalid(format_args!(
                        "{name} can not modify the maxlength for non-string types"
                    )));
                }
                check_size(&key, &value, VARCHAR_BYTES_MAX)?;
            }
            "max_capacity" => {
                if field.data_type != DataType::Array {
                    return Err(Error::invalid(format_args!(
                        "{name} can not modify the maxcapacity for non-array types"
                    )));
                }
                check_size(&key, &value, ARRAY_CAPACITY_MAX)?;
            }
            "mmap.enabled" => {
                self.check_released("can not alter collection field properties if collection loaded")?;
                check_bool(&key, &value)?;
            }
            "warmup" => {
                self.check_released("can not alter warmup if collection loaded")?;
                check_warmup(&value)?;
            }
            "field.description" => {
                field.description = value;
                return Ok(());
            }
            _ => return Err(refused_key(&key)),
        }
        set_param(&mut field.type_params, canonical(&key), value);
        Ok(())
    }

    fn delete(&self, field: &mut FieldSchema, key: &str) -> Result<()> {
        match canonical(key) {
            "mmap.enabled" => self.check_released("can not delete mmap properties if collection loaded")?,
            "warmup" => self.check_released("can not delete warmup properties if collection loaded")?,
            _ => return Err(Error::invalid(format_args!("{key} does not allow delete in collection field param"))),
        }
        field.type_params.retain(|(known, _)| known != canonical(key));
        Ok(())
    }

    fn check_released(&self, why: &str) -> Result<()> {
        match self.is_loaded {
            false => Ok(()),
            true => {
                let message = format!("{why}: collection already loaded[collection={}]", self.collection);
                Err(Error::new(ErrorKind::CollectionLoaded, message))
            }
        }
    }
}

/// Clients write `mmap_enabled` for `mmap.enabled`.
fn canonical(key: &str) -> &str {
    match key {
        "mmap_enabled" => "mmap.enabled",
        "field_description" => "field.description",
        key => key,
    }
}

fn refused_key(key: &str) -> Error {
    Error::invalid(format_args!("{key} does not allow update in collection field param"))
}

fn set_param(params: &mut Vec<(String, String)>, key: &str, value: String) {
    match params.iter_mut().find(|(known, _)| known == key) {
        Some(entry) => entry.1 = value.trim().to_owned(),
        None => params.push((key.to_owned(), value)),
    }
}

fn check_size(key: &str, value: &str, max: usize) -> Result<()> {
    let size: i64 = value
        .trim()
        .parse()
        .map_err(|_| Error::invalid(format_args!("{key} should be an integer, but got {value}")))?;
    match size {
        size if size > max as i64 => {
            Err(Error::invalid(format_args!("{value} exceeds the maximum allowed value {max}")))
        }
        size if size < 1 => Err(Error::invalid(format_args!("{key} should be in (0, {max}], but got {value}"))),
        _ => Ok(()),
    }
}

/// Checks the value of a property that is `true` or `false`.
///
/// # Errors
/// When it is neither.
pub fn check_bool(key: &str, value: &str) -> Result<()> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "false" => Ok(()),
        _ => Err(Error::invalid(format_args!("invalid {key} value: {value}, it is neither true nor false"))),
    }
}

/// Checks a warm-up policy; here every loaded file is mapped and none is read ahead, whatever it says.
///
/// # Errors
/// When there is no such policy.
pub fn check_warmup(value: &str) -> Result<()> {
    match value {
        "sync" | "async" | "disable" => Ok(()),
        _ => Err(Error::invalid(format_args!("invalid warmup policy: {value}, must be one of sync, async, disable"))),
    }
}
