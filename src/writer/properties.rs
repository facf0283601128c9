//! Properties of collections that mean something to this server, checked with Milvus' texts.

use crate::config::limits::TTL_SECONDS_MAX;
use crate::proto::instants::zone;
use crate::types::resource_groups::DEFAULT_RESOURCE_GROUP;
use crate::types::{
    CollectionRecord, CollectionSchema, Error, ErrorKind, ISOLATION_PROPERTY, Result, TTL_PROPERTY, ZONE_PROPERTY,
};

/// Properties that ask for something this server does not do, with the values that ask for nothing.
const UNSUPPORTED: [(&str, &[&str]); 4] = [
    ("ttl_field", &[]),
    ("collection.replica.number", &["0", "1"]),
    ("collection.resource_groups", &["", DEFAULT_RESOURCE_GROUP]),
    ("namespace.enabled", &["false"]),
];

/// Checks properties that are set on a collection with this schema.
///
/// # Errors
/// With Milvus' texts.
pub fn check(properties: &[(String, String)], schema: &CollectionSchema) -> Result<()> {
    for (key, value) in properties {
        match key.as_str() {
            ZONE_PROPERTY => zone(value).map(|_| ())?,
            TTL_PROPERTY => check_ttl(value)?,
            ISOLATION_PROPERTY => check_isolation(value, schema)?,
            _ => check_supported(key, value)?,
        }
    }
    Ok(())
}

fn check_supported(key: &str, value: &str) -> Result<()> {
    let value_asks_nothing = |nothing: &[&str]| nothing.contains(&value.trim().to_ascii_lowercase().as_str());
    match UNSUPPORTED.iter().find(|(unsupported, _)| *unsupported == key) {
        Some((_, nothing)) if !value_asks_nothing(nothing) => {
            Err(Error::unimplemented(format_args!("collection property {key}={value}")))
        }
        _ => Ok(()),
    }
}

/// Checks properties that are set on, and keys that are deleted from, an existing collection.
///
/// # Errors
/// With Milvus' texts.
pub fn check_altered(record: &CollectionRecord, set: &[(String, String)], delete_keys: &[String]) -> Result<()> {
    check(set, &record.schema)?;
    let is_true = |value: &str| value.trim().eq_ignore_ascii_case("true");
    let before = record.property(ISOLATION_PROPERTY).is_some_and(is_true);
    let wanted = set.iter().find(|(key, _)| key == ISOLATION_PROPERTY).map(|(_, value)| is_true(value));
    let is_deleted = delete_keys.iter().any(|key| key == ISOLATION_PROPERTY);
    let after = wanted.unwrap_or(before && !is_deleted);
    let has_vector_index = record
        .indexes
        .iter()
        .any(|index| record.schema.field_by_id(index.field).is_some_and(|field| field.data_type.is_vector()));
    if before != after && has_vector_index {
        let message = "can not alter partition key isolation mode if the collection already has a vector index. Please \
                       drop the index first: index duplicates[indexName=]";
        return Err(Error::new(ErrorKind::IndexDuplicate, message));
    }
    Ok(())
}

fn check_ttl(value: &str) -> Result<()> {
    let seconds: i64 =
        value.trim().parse().map_err(|_| Error::invalid("collection TTL is not a valid positive integer"))?;
    if (-1..=TTL_SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(Error::invalid(format_args!("collection TTL is out of range, expect [-1, {TTL_SECONDS_MAX}], got {seconds}")))
}

fn check_isolation(value: &str, schema: &CollectionSchema) -> Result<()> {
    let is_isolated: bool = value.trim().to_ascii_lowercase().parse().map_err(|_| {
        Error::invalid(format_args!("the value of {ISOLATION_PROPERTY} must be true or false, got {value}"))
    })?;
    if is_isolated && schema.partition_key().is_none() {
        let message = "partition key isolation mode is enabled but no partition key field is set. Please set the \
                       partition key first";
        return Err(Error::new(ErrorKind::CollectionIllegalSchema, message));
    }
    Ok(())
}
