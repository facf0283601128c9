//! Create, drop, alter aliases.

use super::ddl::change_meta;
use super::engine::Engine;
use super::lock;
use super::operation::database_of;
use super::state::{State, collection_not_found};
use crate::proto::milvus;
use crate::proto::schemas::{NameOf, check_name};
use crate::storage::meta::MetaEdit;
use crate::types::{CollectionId, Error, ErrorKind, Result};

/// Creates an alias; again for the same collection is fine.
///
/// # Errors
/// When the alias is a collection's name or another collection's alias.
pub fn create(engine: &Engine, database: &str, request: &milvus::CreateAliasRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let alias = &request.alias;
    check_name(NameOf::Alias, alias)?;
    put(engine, database, alias, &request.collection_name, |state, key, target| match state.aliases.get(key) {
        Some(other) if *other != target => {
            let other = state.collections.get(other).map_or("", |collection| collection.record.name.as_str());
            let message = format!(
                "{alias} is alias to another collection: {other}: alias already exist[database={database}][alias={alias}]"
            );
            Err(Error::new(ErrorKind::AliasExists, message))
        }
        _ => Ok(()),
    })
}

/// Makes an alias name another collection.
///
/// # Errors
/// When there is no such alias or collection.
pub fn alter(engine: &Engine, database: &str, request: &milvus::AlterAliasRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let alias = &request.alias;
    check_name(NameOf::Alias, alias)?;
    put(engine, database, alias, &request.collection_name, |state, key, _| match state.aliases.contains_key(key) {
        true => Ok(()),
        false => {
            let message = format!("alias not found[database={database}][alias={alias}]");
            Err(Error::new(ErrorKind::AliasNotFound, message))
        }
    })
}

/// Drops an alias; one that does not exist is fine.
///
/// # Errors
/// When there is no such database.
pub fn drop(engine: &Engine, database: &str, request: &milvus::DropAliasRequest) -> Result<()> {
    let database = database_of(&request.db_name, database);
    let key = (database.to_owned(), request.alias.clone());
    let mut meta = lock(&engine.meta);
    {
        let state = lock(&engine.state);
        state.database(database)?;
        if !state.aliases.contains_key(&key) {
            return Ok(());
        }
    }
    change_meta(&mut meta, &[MetaEdit::DropAlias { database: key.0.clone(), alias: key.1.clone() }])?;
    let mut state = lock(&engine.state);
    state.aliases.remove(&key);
    engine.publish_catalog(&state)
}

fn put(
    engine: &Engine,
    database: &str,
    alias: &str,
    collection: &str,
    check: impl FnOnce(&State, &(String, String), CollectionId) -> Result<()>,
) -> Result<()> {
    let key = (database.to_owned(), alias.to_owned());
    let mut meta = lock(&engine.meta);
    let target = {
        let state = lock(&engine.state);
        state.database(database)?;
        if state.names.contains_key(&key) {
            let message = format!("alias and collection name conflict[database={database}][alias={alias}]");
            return Err(Error::new(ErrorKind::AliasCollectionConflict, message));
        }
        // An alias names a collection, never another alias.
        let named = state.names.get(&(database.to_owned(), collection.to_owned())).copied();
        let target = named.ok_or_else(|| collection_not_found(database, collection))?;
        check(&state, &key, target)?;
        target
    };
    change_meta(
        &mut meta,
        &[MetaEdit::PutAlias { database: key.0.clone(), alias: key.1.clone(), collection: target }],
    )?;
    let mut state = lock(&engine.state);
    state.aliases.insert(key, target);
    engine.publish_catalog(&state)
}
