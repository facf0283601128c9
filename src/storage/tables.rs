//! The directory of durable table files and their delete checkpoints.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::config::Instance;
use crate::types::{CollectionId, FileId, Result};

/// Durable files of all collections.
#[derive(Clone, Debug)]
pub struct TableStore {
    instance: Instance,
}

impl TableStore {
    /// The store of an instance.
    pub fn new(instance: Instance) -> TableStore {
        TableStore { instance }
    }

    /// `<data>/tables/<collection>/<file>.arrow`.
    pub fn table_path(&self, collection: CollectionId, file: FileId) -> PathBuf {
        self.instance.tables_dir(collection).join(format!("{file}.arrow"))
    }

    /// `<data>/tables/<collection>/<file>.del`.
    pub fn deletes_path(&self, collection: CollectionId, file: FileId) -> PathBuf {
        self.instance.tables_dir(collection).join(format!("{file}.del"))
    }

    /// Writes a file durably: temporary name, `fill`, fsync, rename, fsync of the directory (made if missing).
    ///
    /// # Errors
    /// Those of the disk and of `fill`; the temporary file is removed then.
    pub fn write_durably(&self, path: &Path, fill: &mut dyn FnMut(&mut File) -> std::io::Result<()>) -> Result<()> {
        let _ = (path, fill, &self.instance);
        todo!()
    }

    /// Unlinks a table file and its delete checkpoint; missing ones are fine.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, collection: CollectionId, file: FileId) -> Result<()> {
        let _ = (collection, file);
        todo!()
    }

    /// Removes temporary files, and files and directories that meta does not name (`is_known`): what a kill left half-made.
    /// Returns how many were removed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sweep(&self, is_known: &dyn Fn(CollectionId, Option<FileId>) -> bool) -> Result<usize> {
        let _ = is_known;
        todo!()
    }
}
