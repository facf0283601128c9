//! Manual compactions: which were asked for, and how far they are.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::lock;
use crate::types::CollectionId;

/// Finished compactions that are remembered.
const REMEMBERED_MAX: usize = 1_000;

/// The compactions asked for since the start.
#[derive(Debug, Default)]
pub struct Compactions {
    by_id: Mutex<BTreeMap<i64, Compaction>>,
}

#[derive(Clone, Copy, Debug)]
struct Compaction {
    collection: CollectionId,
    is_done: bool,
}

impl Compactions {
    /// Notes a request.
    pub fn request(&self, id: i64, collection: CollectionId) {
        let mut by_id = lock(&self.by_id);
        by_id.insert(id, Compaction { collection, is_done: false });
        while by_id.len() > REMEMBERED_MAX {
            by_id.pop_first();
        }
    }

    /// The collections to compact, with the ids that ask for it.
    pub fn pending(&self) -> Vec<(CollectionId, i64)> {
        let by_id = lock(&self.by_id);
        by_id.iter().filter(|(_, entry)| !entry.is_done).map(|(id, entry)| (entry.collection, *id)).collect()
    }

    /// A compaction is over.
    pub fn complete(&self, id: i64) {
        if let Some(entry) = lock(&self.by_id).get_mut(&id) {
            entry.is_done = true;
        }
    }

    /// Whether it is over; `None` when it is unknown.
    pub fn is_done(&self, id: i64) -> Option<bool> {
        lock(&self.by_id).get(&id).map(|entry| entry.is_done)
    }
}
