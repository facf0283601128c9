//! The control root `<shm>/control`: a fixed layout of atomic words that readers map read-only.
//!
//! Words: magic, version, length, writer heartbeat (unix ms), writer pid, visible timestamp, catalog epoch, then one
//! manifest epoch per collection cell. Only the writer stores; every store that publishes is a release, every load an acquire.

use std::path::Path;

use crate::types::{Epoch, Result, Timestamp};

/// The writer's or a reader's map of the control file.
#[derive(Debug)]
pub struct Control {}

impl Control {
    /// Opens the control file for writing; makes it when it is missing. A new writer goes on with the words it finds:
    /// epochs and the visible timestamp never go back while readers are attached.
    ///
    /// # Errors
    /// When there is no room or the file is foreign.
    pub fn open_for_writer(path: &Path) -> Result<Control> {
        let _ = path;
        todo!()
    }

    /// Maps it read-only.
    ///
    /// # Errors
    /// When it is missing or foreign.
    pub fn open_for_reader(path: &Path) -> Result<Control> {
        let _ = path;
        todo!()
    }

    /// Every operation up to here is durable and in place.
    pub fn visible(&self) -> Timestamp {
        todo!()
    }

    /// Stores the visible timestamp (release); never goes back.
    pub fn set_visible(&self, timestamp: Timestamp) {
        let _ = timestamp;
        todo!()
    }

    /// The catalog's epoch.
    pub fn catalog_epoch(&self) -> Epoch {
        todo!()
    }

    /// Stores the catalog's epoch (release).
    pub fn set_catalog_epoch(&self, epoch: Epoch) {
        let _ = epoch;
        todo!()
    }

    /// The manifest epoch of a collection's cell; 0 = nothing published.
    pub fn manifest_epoch(&self, cell: u32) -> Epoch {
        let _ = cell;
        todo!()
    }

    /// Stores a manifest epoch (release).
    pub fn set_manifest_epoch(&self, cell: u32, epoch: Epoch) {
        let _ = (cell, epoch);
        todo!()
    }

    /// Milliseconds since the Unix epoch of the writer's last sign of life.
    pub fn heartbeat_unix_ms(&self) -> u64 {
        todo!()
    }

    /// Stores a sign of life.
    pub fn beat(&self, unix_ms: u64) {
        let _ = unix_ms;
        todo!()
    }
}
