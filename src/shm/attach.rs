//! The readers' side: maps what is published, read-only, and keeps the maps while manifests name them.

mod files;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::files::OpenError;
use super::control::Control;
use super::manifest::{Catalog, Manifest, ManifestChunk, ManifestFile, Place, decode};
use super::paths;
use crate::config::Instance;
use crate::config::limits::MANIFEST_BYTES_MAX;
use crate::format::deletes::DeletedAt;
use crate::format::growing::GrowingFile;
use crate::format::table::TableFile;
use crate::index::IndexFile;
use crate::types::{CollectionId, Epoch, Error, ErrorKind, IndexId, PartitionId, Result, Timestamp};

/// How long a reader tries to read something that is replaced again and again, or that is named but missing.
const RETRY_TIME_MAX: Duration = Duration::from_secs(1);
/// So often it tries at least: a process that stood still for that time has not tried.
const TRIES_MIN: usize = 20;
/// So many names of collections are remembered with what they stand for.
const NAMES_MAX: usize = 32;
/// Pause between two tries at the same epoch: the writer is between two steps.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// A mapped sealed file.
#[derive(Debug)]
pub struct SealedFile {
    /// Its line in the manifest (of the epoch it was opened in).
    pub entry: ManifestFile,
    /// Rows.
    pub table: Arc<TableFile>,
    /// Deletes, when there are any.
    pub deletes: Option<DeletedAt>,
    /// Indexes, in the order of the entry's.
    pub indexes: Vec<Arc<IndexFile>>,
}

impl SealedFile {
    /// An index over this file.
    pub fn index(&self, index: IndexId) -> Option<&IndexFile> {
        let position = self.entry.indexes.iter().position(|entry| entry.index == index)?;
        self.indexes.get(position).map(|index| &**index)
    }
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

/// What a list of collections says of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionSummary {
    /// When it was made.
    pub created: Timestamp,
    /// It answers searches.
    pub is_loaded: bool,
    /// Echoed.
    pub shards: i32,
}

impl CollectionSummary {
    fn new(manifest: &Manifest) -> CollectionSummary {
        CollectionSummary { created: manifest.created, is_loaded: manifest.is_loaded, shards: manifest.shards }
    }
}

/// A process's attachment to one instance: the control root and a cache of mapped views.
#[derive(Debug)]
pub struct Attachment {
    instance: Instance,
    control: Control,
    control_path: PathBuf,
    /// Device and inode of the control file, to notice that a new server made a new one.
    control_inode: (u64, u64),
    /// Held for a look and a clone only.
    cache: Mutex<Cache>,
    /// Held while a catalog or view is read and mapped, so that the threads of a process do it once.
    refreshing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Cache {
    catalog: Option<(Epoch, Arc<Catalog>)>,
    views: HashMap<CollectionId, Arc<CollectionView>>,
    /// Of collections that were listed: a list must neither map files nor read every manifest again.
    summaries: HashMap<CollectionId, (Epoch, CollectionSummary)>,
    /// By the names that requests use: while nothing changes, a search takes one lock and looks nothing else up.
    named: Vec<NamedView>,
}

/// What a name, or an alias, stood for.
#[derive(Debug)]
struct NamedView {
    database: String,
    name: String,
    /// Of the catalog: at another one the name may stand for something else.
    epoch: Epoch,
    cell: u32,
    /// It keeps no replaced file mapped.
    view: Weak<CollectionView>,
}

impl Attachment {
    /// Maps the control root.
    ///
    /// # Errors
    /// When no server has published there.
    pub fn open(instance: &Instance) -> Result<Attachment> {
        let path = paths::control(instance);
        let control = Control::open_for_reader(&path)?;
        let control_inode = inode(&path)
            .map_err(|error| Error::io(format_args!("attach to the control file {}", path.display()), &error))?;
        Ok(Attachment {
            instance: instance.clone(),
            control,
            control_path: path,
            control_inode,
            cache: Mutex::default(),
            refreshing: Mutex::default(),
        })
    }

    /// The control root.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Whether the control file is still the one that was mapped. After a stop of the server, or a new start, nothing is
    /// published to this attachment any more: open another one.
    pub fn is_current(&self) -> bool {
        inode(&self.control_path).is_ok_and(|found| found == self.control_inode)
    }

    /// The present catalog; parsed again only when its epoch changed.
    ///
    /// # Errors
    /// When it cannot be read after bounded retries (it raced with replacements) or is damaged.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        let cached = |epoch| self.cache().catalog.as_ref().filter(|(at, _)| *at == epoch).map(|(_, it)| Arc::clone(it));
        if let Some(catalog) = cached(self.control.catalog_epoch()) {
            return Ok(catalog);
        }
        let _refreshing = self.lock_refreshing();
        let catalog = retry(&|| self.control.catalog_epoch(), |epoch| {
            if epoch == Epoch(0) {
                return Err(self.nothing_published("the catalog").into());
            }
            if let Some(catalog) = cached(epoch) {
                return Ok((epoch, catalog));
            }
            read_published(|place| paths::catalog(&self.instance, epoch, place)).map(|it| (epoch, Arc::new(it)))
        })?;
        self.cache().catalog = Some(catalog.clone());
        Ok(catalog.1)
    }

    /// The present view of what a name stands for, when [`Attachment::remember`] was told and nothing has changed since. Load
    /// the visible timestamp BEFORE calling this, as for [`Attachment::view`].
    pub fn remembered(&self, database: &str, name: &str) -> Option<Arc<CollectionView>> {
        let epoch = self.control.catalog_epoch();
        let cache = self.cache();
        let named = cache.named.iter().find(|named| named.name == name && named.database == database)?;
        let view = named.view.upgrade().filter(|_| named.epoch == epoch)?;
        (view.manifest.epoch == self.control.manifest_epoch(named.cell)).then_some(view)
    }

    /// Remembers what a name stands for. `epoch` is the catalog's, loaded before the catalog that says so was taken: then it is
    /// not newer than that one, and a catalog that says otherwise has another.
    pub fn remember(&self, (database, name): (&str, &str), epoch: Epoch, cell: u32, view: &Arc<CollectionView>) {
        let mut cache = self.cache();
        cache.named.retain(|named| (named.database.as_str(), named.name.as_str()) != (database, name));
        if cache.named.len() >= NAMES_MAX {
            cache.named.clear();
        }
        let (database, name) = (database.to_owned(), name.to_owned());
        cache.named.push(NamedView { database, name, epoch, cell, view: Arc::downgrade(view) });
    }

    /// The present view of a collection; maps only what changed since the last call. Load the visible timestamp BEFORE
    /// calling this: a view taken after it contains everything visible at it.
    ///
    /// # Errors
    /// Of kind `Corrupt` when a file contradicts the manifest.
    pub fn view(&self, collection: CollectionId, cell: u32) -> Result<Arc<CollectionView>> {
        let cached = |epoch| self.cache().views.get(&collection).filter(|it| it.manifest.epoch == epoch).cloned();
        if let Some(view) = cached(self.control.manifest_epoch(cell)) {
            return Ok(view);
        }
        let _refreshing = self.lock_refreshing();
        let view = retry(&|| self.control.manifest_epoch(cell), |epoch| match cached(epoch) {
            Some(view) => Ok(view),
            None => self.map_view(collection, epoch).map(Arc::new),
        })?;
        self.cache().views.insert(collection, Arc::clone(&view));
        Ok(view)
    }

    /// What a list of collections says of one. Maps nothing.
    ///
    /// # Errors
    /// When the manifest cannot be read after bounded retries, or is damaged.
    pub fn summary(&self, collection: CollectionId, cell: u32) -> Result<CollectionSummary> {
        let epoch = self.control.manifest_epoch(cell);
        if let Some((_, summary)) = self.cache().summaries.get(&collection).filter(|(at, _)| *at == epoch) {
            return Ok(*summary);
        }
        let (epoch, summary) = retry(&|| self.control.manifest_epoch(cell), |epoch| {
            let manifest = self.read_manifest(collection, epoch)?;
            Ok((epoch, CollectionSummary::new(&manifest)))
        })?;
        self.cache().summaries.insert(collection, (epoch, summary));
        Ok(summary)
    }

    /// Brings the cached views up to date, and drops those of dropped collections: a reader that nobody asks must not keep
    /// the memory of replaced files. Cheap when nothing changed. What cannot be read is left for the next request to say.
    pub fn follow(&self) {
        let Ok(catalog) = self.catalog() else { return };
        self.forget_dropped(&catalog);
        let cached: HashMap<CollectionId, Epoch> =
            self.cache().views.iter().map(|(collection, view)| (*collection, view.manifest.epoch)).collect();
        for entry in catalog.collections.iter().filter(|entry| cached.contains_key(&entry.id)) {
            if cached.get(&entry.id) != Some(&self.control.manifest_epoch(entry.cell)) {
                // An error leaves the old view, as it was.
                let _ = self.view(entry.id, entry.cell);
            }
        }
    }

    /// Drops cached views of collections the catalog no longer names.
    pub fn forget_dropped(&self, catalog: &Catalog) {
        let named: HashSet<CollectionId> = catalog.collections.iter().map(|collection| collection.id).collect();
        let mut cache = self.cache();
        cache.views.retain(|collection, _| named.contains(collection));
        cache.summaries.retain(|collection, _| named.contains(collection));
    }

    fn read_manifest(&self, collection: CollectionId, epoch: Epoch) -> Result<Manifest, OpenError> {
        if epoch == Epoch(0) {
            let message = format!("collection not found[collection={collection}]");
            return Err(Error::new(ErrorKind::CollectionNotFound, message).into());
        }
        let manifest: Manifest = read_published(|place| paths::manifest(&self.instance, collection, epoch, place))?;
        if (manifest.collection, manifest.epoch) != (collection, epoch) {
            let message = format!(
                "the manifest {epoch} of collection {collection} is that of {}, {}",
                manifest.collection, manifest.epoch
            );
            return Err(Error::new(ErrorKind::Corrupt, message).into());
        }
        Ok(manifest)
    }

    /// Reads a manifest and maps its files, taking from the cached view what it has already.
    fn map_view(&self, collection: CollectionId, epoch: Epoch) -> Result<CollectionView, OpenError> {
        let manifest = self.read_manifest(collection, epoch)?;
        let old = self.cache().views.get(&collection).cloned();
        let files = files::Files::new(&self.instance, collection, old.as_deref());
        let sealed = manifest.files.iter().map(|entry| files.sealed(entry)).collect::<Result<_, _>>()?;
        let growing = manifest.chunks.iter().map(|entry| files.growing(entry)).collect::<Result<_, _>>()?;
        Ok(CollectionView { manifest, sealed, growing })
    }

    fn nothing_published(&self, what: &str) -> Error {
        let message = format!(
            "cannot read {what} in {}: the server has not published it yet; try again",
            self.instance.shm_dir.display()
        );
        Error::new(ErrorKind::Unavailable, message)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A cache is replaced whole, entry by entry: nothing in it is half done after a panic.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_refreshing(&self) -> MutexGuard<'_, ()> {
        self.refreshing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries `read` at the present epoch until nothing it needs is missing: what is missing was replaced between the load of the
/// epoch and the opening.
fn retry<T>(epoch_now: &dyn Fn() -> Epoch, read: impl Fn(Epoch) -> Result<T, OpenError>) -> Result<T> {
    let deadline = Instant::now() + RETRY_TIME_MAX;
    let first = epoch_now();
    let mut epoch = first;
    let mut tries = 0;
    loop {
        tries += 1;
        let missing = match read(epoch) {
            Ok(value) => return Ok(value),
            Err(OpenError::Failed(error)) => return Err(error),
            Err(OpenError::Missing(path)) => path,
        };
        let now = epoch_now();
        if tries >= TRIES_MIN && Instant::now() >= deadline {
            let (kind, why) = if now == first {
                (ErrorKind::Corrupt, "it is named but not there")
            } else {
                (ErrorKind::Unavailable, "it was replaced at every try; try again")
            };
            return Err(Error::new(kind, format!("cannot open {}: {why}", missing.display())));
        }
        if now == epoch {
            std::thread::sleep(RETRY_PAUSE);
        }
        epoch = now;
    }
}

/// Reads a catalog or manifest from wherever it is.
fn read_published<T: for<'de> Deserialize<'de>>(path_in: impl Fn(Place) -> PathBuf) -> Result<T, OpenError> {
    for place in paths::PLACES {
        let path = path_in(place);
        let bytes = match read_whole(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(format_args!("read {}", path.display()), &error).into()),
        };
        let corrupt = |error| Error::new(ErrorKind::Corrupt, format!("cannot read {}: {error}", path.display())).into();
        return decode(&bytes).map_err(corrupt);
    }
    Err(OpenError::Missing(path_in(Place::Shm)))
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    // The header takes some bytes more; `decode` refuses a body beyond the limit.
    File::open(path)?.take(MANIFEST_BYTES_MAX as u64 + 4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests;
