//! Create, drop, alter indexes. FLAT and AUTOINDEX scan the table files: nothing is built for them.

use super::ddl::{merge_properties, update};
use super::engine::Engine;
use super::operation::database_of;
use crate::index::spec::{AUTOINDEX, HINTS, IndexSpec};
use crate::proto::schemas::{NameOf, check_name};
use crate::proto::{common, milvus, status};
use crate::types::{CollectionRecord, Error, ErrorKind, FieldSchema, IndexId, IndexRecord, Result};

/// Creates an index; again with the same parameters is fine.
///
/// # Errors
/// With Milvus' texts; index types that are not there yet are refused by name.
pub fn create(engine: &Engine, database: &str, request: milvus::CreateIndexRequest) -> Result<()> {
    let database = database_of(&request.db_name, database).to_owned();
    let given = flatten(request.extra_params)?;
    update(engine, &database, &request.collection_name, |_, record| {
        let Some(field) = record.schema.field(&request.field_name) else {
            let message = format!("cannot create index on non-exist field: {}", request.field_name);
            return Err(Error::invalid(message));
        };
        let params = checked_params(field, &given)?;
        let name = match request.index_name.as_str() {
            "" => field.name.clone(),
            name => {
                check_name(NameOf::Index, name)?;
                name.to_owned()
            }
        };
        let field = field.id;
        match record.indexes.iter().find(|index| index.field == field || index.name == name) {
            Some(same) if same.field == field && same.name == name && same.params == params => Ok(()),
            Some(_) => Err(Error::invalid("at most one distinct index is allowed per field")),
            None => {
                let id = IndexId(engine.ids.take(1)?);
                record.indexes.push(IndexRecord { id, name, field, params });
                Ok(())
            }
        }
    })?;
    engine.index.raise();
    Ok(())
}

/// Parameters as pairs; the entries of `params` (a JSON object) are pairs of their own.
fn flatten(extra_params: Vec<common::KeyValuePair>) -> Result<Vec<(String, String)>> {
    let mut given = Vec::new();
    for (key, value) in status::pairs_from_wire(extra_params) {
        if key != "params" {
            given.push((key, value));
            continue;
        }
        if value.trim().is_empty() {
            continue;
        }
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&value)
            .map_err(|error| Error::invalid(format_args!("index params are no JSON object: {error}")))?;
        // A parameter without a value is one that is not given.
        let parsed = parsed.into_iter().filter(|(_, value)| !value.is_null());
        given.extend(parsed.map(|(key, value)| match value {
            serde_json::Value::String(text) => (key, text),
            other => (key, other.to_string()),
        }));
    }
    Ok(given)
}

fn value_of<'a>(given: &'a [(String, String)], name: &str) -> Option<&'a str> {
    given.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
}

fn checked_params(field: &FieldSchema, given: &[(String, String)]) -> Result<Vec<(String, String)>> {
    let index_type = value_of(given, "index_type").unwrap_or(AUTOINDEX).to_ascii_uppercase();
    if !field.data_type.is_vector() {
        return Err(scalar_index_error(field, given, &index_type));
    }
    let spec = IndexSpec::parse(field, given)?;
    let rest = given.iter().filter(|(key, _)| !["index_type", "metric_type", "index_name"].contains(&key.as_str()));
    // Described as the user wrote it: AUTOINDEX stays AUTOINDEX, whatever it stands for.
    let mut params =
        vec![("index_type".to_owned(), index_type), ("metric_type".to_owned(), spec.metric.name().to_owned())];
    params.extend(rest.cloned());
    Ok(params)
}

fn scalar_index_error(field: &FieldSchema, given: &[(String, String)], index_type: &str) -> Error {
    let named = value_of(given, "index_type").map_or("a scalar index", |_| index_type);
    Error::unimplemented(format_args!(
        "index type {named} on field {} of type {} (filters on it work without an index)",
        field.name,
        field.data_type.name()
    ))
}

fn named_index(record: &CollectionRecord, index_name: &str, field_name: &str) -> Option<usize> {
    let field = record.schema.field(field_name).map(|field| field.id);
    record.indexes.iter().position(|index| match index_name {
        "" => Some(index.field) == field,
        name => index.name == name,
    })
}

/// Drops an index; one that does not exist is fine.
///
/// # Errors
/// When the collection is loaded.
pub fn drop(engine: &Engine, database: &str, request: &milvus::DropIndexRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    update(engine, database, &request.collection_name, |_, record| {
        let Some(index) = named_index(record, &request.index_name, &request.field_name) else { return Ok(()) };
        let field = record.schema.field_by_id(record.indexes[index].field);
        if record.is_loaded && field.is_some_and(|field| field.data_type.is_vector()) {
            let message = format!("vector index cannot be dropped on loaded collection: {}", record.id);
            return Err(Error::invalid(message));
        }
        record.indexes.remove(index);
        Ok(())
    })?;
    // Its files go at once; should that fail, the index thread tries again.
    super::indexing::reconcile(engine)
}

/// Sets and deletes the alterable properties of an index.
///
/// # Errors
/// When the collection is loaded, there is no such index, or the property cannot be altered.
pub fn alter(engine: &Engine, database: &str, request: milvus::AlterIndexRequest) -> Result<()> {
    let database = database_of(&request.db_name, database).to_owned();
    let keys = request.extra_params.iter().map(|pair| &pair.key).chain(&request.delete_keys);
    if let Some(key) = keys.into_iter().find(|key| !HINTS.contains(&key.as_str())) {
        return Err(Error::invalid(format_args!("{key} is not a configable index property")));
    }
    update(engine, &database, &request.collection_name, |_, record| {
        let name = &record.name;
        if record.is_loaded {
            let message = format!(
                "can't alter index on loaded collection, please release the collection first: collection already \
                 loaded[collection={name}]"
            );
            return Err(Error::new(ErrorKind::CollectionLoaded, message));
        }
        let Some(index) = named_index(record, &request.index_name, "") else {
            let message = format!("index not found[indexName={}]", request.index_name);
            return Err(Error::new(ErrorKind::IndexNotFound, message));
        };
        merge_properties(&mut record.indexes[index].params, request.extra_params, &request.delete_keys);
        Ok(())
    })?;
    Ok(())
}
