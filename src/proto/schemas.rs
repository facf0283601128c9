//! Schemas of the protocol and ours, with every check of CreateCollection.

use super::schema;
use crate::types::{CollectionSchema, Result};

/// A checked schema with field ids from 100 on, `$meta` appended when dynamic fields are on.
///
/// # Errors
/// With Milvus' texts: names, types, dimensions, lengths, keys, defaults, counts. A type this server does not store yet is
/// refused by name.
pub fn schema_from_wire(collection_name: &str, wire: schema::CollectionSchema) -> Result<CollectionSchema> {
    let _ = (collection_name, wire);
    todo!()
}

/// The schema as DescribeCollection answers it: `$meta` is left out.
pub fn schema_to_wire(collection_name: &str, schema: &CollectionSchema) -> schema::CollectionSchema {
    let _ = (collection_name, schema);
    todo!()
}

/// Checks a collection, alias, partition, database or field name.
///
/// # Errors
/// With Milvus' texts.
pub fn check_name(what: NameOf, name: &str) -> Result<()> {
    let _ = (what, name);
    todo!()
}

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum NameOf {
    Collection,
    Alias,
    Partition,
    Database,
    Field,
}
