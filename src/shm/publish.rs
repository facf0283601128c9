//! The writer's side: makes and removes the files of the instance directory and publishes catalog and manifests.

use std::path::Path;
use std::sync::Arc;

use super::control::Control;
use super::manifest::{Catalog, Manifest, Place};
use crate::config::{Instance, ServerConfig};
use crate::sys::map::SharedMap;
use crate::types::{CollectionId, FileId, Result};

/// The only one that writes into the instance directory. Shared by the writer's threads.
#[derive(Debug)]
pub struct Publisher {}

impl Publisher {
    /// Opens the instance directory (the supervisor made it, 0700) and the control file. Files that an earlier writer left
    /// stay until the manifests of this one replace them; [`Publisher::sweep`] removes the rest.
    ///
    /// # Errors
    /// When the control file cannot be made: the message says how much room is missing and where.
    pub fn open(instance: &Instance, config: &ServerConfig) -> Result<Publisher> {
        let _ = (instance, config);
        todo!()
    }

    /// The control root.
    pub fn control(&self) -> &Control {
        todo!()
    }

    /// Writes the catalog under the next epoch, then stores the epoch, then unlinks the previous one.
    ///
    /// # Errors
    /// When there is no room: the old catalog stays in force.
    pub fn publish_catalog(&self, catalog: &Catalog) -> Result<()> {
        let _ = catalog;
        todo!()
    }

    /// Sets the manifest's epoch to the next one of the cell, writes it, stores the epoch, unlinks the previous manifest.
    ///
    /// # Errors
    /// When there is no room on either place: the old manifest stays in force.
    pub fn publish_manifest(&self, cell: u32, manifest: &mut Manifest) -> Result<()> {
        let _ = (cell, manifest);
        todo!()
    }

    /// Forgets a dropped collection: epoch 0, directory removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_collection(&self, cell: u32, collection: CollectionId) -> Result<()> {
        let _ = (cell, collection);
        todo!()
    }

    /// Makes a zeroed, fully allocated, writable live file (growing chunk or deletes) in shared memory, or on disk when
    /// shared memory is short.
    ///
    /// # Errors
    /// When there is room on neither.
    pub fn create_live(&self, collection: CollectionId, name: &str, bytes: usize) -> Result<(Arc<SharedMap>, Place)> {
        let _ = (collection, name, bytes);
        todo!()
    }

    /// Unlinks a live file.
    pub fn remove_live(&self, collection: CollectionId, name: &str, place: Place) {
        let _ = (collection, name, place);
        todo!()
    }

    /// Copies a durable table file into shared memory, checking its crc64 on the way, when `shm_bytes_max` and the free
    /// room allow; otherwise (or with `copy = false`) it is published as `Disk`. A temporary name is renamed at the end.
    ///
    /// # Errors
    /// Of kind `Corrupt` when the checksum does not match; those of reading the source.
    pub fn place_table(
        &self,
        collection: CollectionId,
        file: FileId,
        source: &Path,
        checksum: u64,
        copy: bool,
    ) -> Result<Place> {
        let _ = (collection, file, source, checksum, copy);
        todo!()
    }

    /// Unlinks the shared-memory copy of a table file, if there is one, and gives its bytes back to the budget.
    pub fn remove_table(&self, collection: CollectionId, file: FileId) {
        let _ = (collection, file);
        todo!()
    }

    /// Bytes of table files, and of live files, in shared memory.
    pub fn shm_bytes(&self) -> (u64, u64) {
        todo!()
    }

    /// Removes every file of the instance directory that no current manifest names.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sweep(&self, manifests: &[&Manifest]) -> Result<usize> {
        let _ = manifests;
        todo!()
    }
}
