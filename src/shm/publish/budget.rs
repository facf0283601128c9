//! How much of shared memory table and index files may take, and what is there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::space;
use crate::types::{CollectionId, DurableFile};

/// Table files leave this part of the file system free for growing files, `deleted_at` files and manifests, without which
/// nothing can be written at all ...
const RESERVE_DIVISOR: u64 = 16;
/// ... and at least this: some manifests and the first chunks of some collections.
const RESERVE_BYTES_MIN: u64 = 1 << 20;

/// What this writer has in shared memory.
#[derive(Debug)]
pub(super) struct Budget {
    shm_dir: PathBuf,
    table_bytes_max: Option<u64>,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    tables: HashMap<(CollectionId, DurableFile), u64>,
    live: HashMap<(CollectionId, String), u64>,
    table_bytes: u64,
    live_bytes: u64,
}

impl Budget {
    pub(super) fn new(shm_dir: &Path, table_bytes_max: Option<u64>) -> Budget {
        Budget { shm_dir: shm_dir.to_owned(), table_bytes_max, used: Mutex::default() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Each change is one map operation and one addition: nothing is half done after a panic.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for a table or index file, when there is. `is_there`: its bytes are in shared memory already.
    pub(super) fn reserve_file(&self, collection: CollectionId, file: DurableFile, bytes: u64, is_there: bool) -> bool {
        let mut used = self.used();
        if used.tables.contains_key(&(collection, file)) {
            return true;
        }
        let total = used.table_bytes.saturating_add(bytes);
        if self.table_bytes_max.is_some_and(|max| total > max) || !(is_there || self.has_free_room(bytes)) {
            return false;
        }
        used.tables.insert((collection, file), bytes);
        used.table_bytes = total;
        true
    }

    /// Whether [`Budget::reserve_file`] would take a file of this size that is not there yet.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let total = self.used().table_bytes.saturating_add(bytes);
        self.table_bytes_max.is_none_or(|max| total <= max) && self.has_free_room(bytes)
    }

    /// Whether the file system has room for `bytes` beside the reserve. One that says it has no size (a directory of a
    /// test, a file system of a container) is asked by the allocation itself.
    fn has_free_room(&self, bytes: u64) -> bool {
        let Ok(space) = space::of(&self.shm_dir) else { return false };
        let reserve = (space.total_bytes / RESERVE_DIVISOR).max(RESERVE_BYTES_MIN);
        space.total_bytes == 0 || space.free_bytes >= bytes.saturating_add(reserve)
    }

    pub(super) fn remove_file(&self, collection: CollectionId, file: DurableFile) {
        let mut used = self.used();
        let bytes = used.tables.remove(&(collection, file)).unwrap_or(0);
        used.table_bytes -= bytes;
    }

    pub(super) fn add_live(&self, collection: CollectionId, name: &str, bytes: u64) {
        let mut used = self.used();
        let replaced = used.live.insert((collection, name.to_owned()), bytes).unwrap_or(0);
        used.live_bytes = used.live_bytes - replaced + bytes;
    }

    pub(super) fn remove_live(&self, collection: CollectionId, name: &str) {
        let mut used = self.used();
        let bytes = used.live.remove(&(collection, name.to_owned())).unwrap_or(0);
        used.live_bytes -= bytes;
    }

    pub(super) fn forget_collection(&self, dropped: CollectionId) {
        let mut used = self.used();
        used.tables.retain(|(collection, _), _| *collection != dropped);
        used.live.retain(|(collection, _), _| *collection != dropped);
        used.table_bytes = used.tables.values().sum();
        used.live_bytes = used.live.values().sum();
    }

    /// Bytes of table files, and of live files.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let used = self.used();
        (used.table_bytes, used.live_bytes)
    }

    /// Files of a collection that this writer has there or is about to have: tables, and names of live files.
    pub(super) fn files_of(&self, wanted: CollectionId) -> (Vec<DurableFile>, Vec<String>) {
        let used = self.used();
        let tables = used.tables.keys().filter(|(collection, _)| *collection == wanted).map(|(_, file)| *file);
        let live = used.live.keys().filter(|(collection, _)| *collection == wanted).map(|(_, name)| name.clone());
        (tables.collect(), live.collect())
    }
}
