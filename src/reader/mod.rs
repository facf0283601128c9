//! `Reader`: attach to a running database from any process and search it there: no copy, no IPC, read-only.
//! Start at `Reader::attach`. Uses `query`, `shm`; cannot write. Invariant: a handle used after fork re-attaches in the child.

use std::path::Path;
use std::sync::Arc;

use crate::query::Snapshot;
use crate::shm::manifest::Catalog;
use crate::types::Result;

/// A process's attachment to a database. Cheap calls; `Send + Sync`.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// Attaches to the database that `shoal serve <data_dir>` serves.
    ///
    /// # Errors
    /// When no server runs there (the message says how to start one), or its files are of another version.
    pub fn attach(data_dir: impl AsRef<Path>) -> Result<Reader> {
        let _ = data_dir;
        todo!()
    }

    /// The present catalog.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        todo!()
    }

    /// A snapshot of a collection (or of what an alias names), as of now.
    ///
    /// # Errors
    /// When there is no such collection; it may be released: look at `view.manifest.is_loaded`.
    pub fn snapshot(&self, database: &str, collection: &str) -> Result<Snapshot> {
        let _ = (database, collection);
        todo!()
    }
}
