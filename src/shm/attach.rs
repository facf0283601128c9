//! The readers' side: maps what is published, read-only, and keeps the maps while manifests name them.

use std::sync::Arc;

use super::control::Control;
use super::manifest::{Catalog, Manifest, ManifestChunk, ManifestFile};
use crate::config::Instance;
use crate::format::deletes::DeletedAt;
use crate::format::growing::GrowingFile;
use crate::format::table::TableFile;
use crate::types::{CollectionId, PartitionId, Result};

/// A mapped sealed file.
#[derive(Debug)]
pub struct SealedFile {
    /// Its line in the manifest (of the epoch it was opened in).
    pub entry: ManifestFile,
    /// Rows.
    pub table: Arc<TableFile>,
    /// Deletes, when there are any.
    pub deletes: Option<DeletedAt>,
}

/// A mapped growing chunk.
#[derive(Debug)]
pub struct GrowingChunk {
    /// Its line in the manifest.
    pub entry: ManifestChunk,
    /// Rows and deletes.
    pub file: GrowingFile,
}

/// One epoch of one collection, mapped. Cheap to share; files stay mapped as long as a view holds them.
#[derive(Debug)]
pub struct CollectionView {
    /// What was published.
    pub manifest: Manifest,
    /// Sealed files, in the manifest's order.
    pub sealed: Vec<Arc<SealedFile>>,
    /// Growing chunks, in the manifest's order.
    pub growing: Vec<Arc<GrowingChunk>>,
}

impl CollectionView {
    /// The partition with this name.
    pub fn partition(&self, name: &str) -> Option<PartitionId> {
        self.manifest.partitions.iter().find(|partition| partition.name == name).map(|partition| partition.id)
    }
}

/// A process's attachment to one instance: the control root and a cache of mapped views.
#[derive(Debug)]
pub struct Attachment {}

impl Attachment {
    /// Maps the control root.
    ///
    /// # Errors
    /// When no server has published there.
    pub fn open(instance: &Instance) -> Result<Attachment> {
        let _ = instance;
        todo!()
    }

    /// The control root.
    pub fn control(&self) -> &Control {
        todo!()
    }

    /// The present catalog; parsed again only when its epoch changed.
    ///
    /// # Errors
    /// When it cannot be read after bounded retries (it raced with replacements) or is damaged.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        todo!()
    }

    /// The present view of a collection; maps only what changed since the last call. Load the visible timestamp BEFORE
    /// calling this: a view taken after it contains everything visible at it.
    ///
    /// # Errors
    /// Of kind `Corrupt` when a file contradicts the manifest.
    pub fn view(&self, collection: CollectionId, cell: u32) -> Result<Arc<CollectionView>> {
        let _ = (collection, cell);
        todo!()
    }

    /// Drops cached views of collections the catalog no longer names.
    pub fn forget_dropped(&self, catalog: &Catalog) {
        let _ = catalog;
        todo!()
    }
}
