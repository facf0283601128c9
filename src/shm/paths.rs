//! Names and places of published files.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::Place;
use crate::config::Instance;
use crate::types::{CollectionId, DurableFile, Epoch};

/// Both places, the first choice first.
pub(super) const PLACES: [Place; 2] = [Place::Shm, Place::Disk];

/// The control root.
pub(super) fn control(instance: &Instance) -> PathBuf {
    instance.shm_dir.join("control")
}

/// A catalog.
pub(super) fn catalog(instance: &Instance, epoch: Epoch, place: Place) -> PathBuf {
    let dir = match place {
        Place::Shm => instance.shm_dir.clone(),
        Place::Disk => live_root(instance),
    };
    dir.join(catalog_name(epoch))
}

/// The name of a catalog.
pub(super) fn catalog_name(epoch: Epoch) -> String {
    format!("catalog-{epoch}")
}

/// A manifest.
pub(super) fn manifest(instance: &Instance, collection: CollectionId, epoch: Epoch, place: Place) -> PathBuf {
    live(instance, collection, &manifest_name(epoch), place)
}

/// The name of a manifest.
pub(super) fn manifest_name(epoch: Epoch) -> String {
    format!("manifest-{epoch}")
}

/// A growing or `deleted_at` file.
pub(super) fn live(instance: &Instance, collection: CollectionId, name: &str, place: Place) -> PathBuf {
    match place {
        Place::Shm => instance.shm_collection_dir(collection).join(name),
        Place::Disk => instance.live_dir(collection).join(name),
    }
}

/// A table or index file.
pub(super) fn durable(instance: &Instance, collection: CollectionId, file: DurableFile, place: Place) -> PathBuf {
    match place {
        Place::Shm => instance.shm_collection_dir(collection).join(file.to_string()),
        Place::Disk => instance.tables_dir(collection).join(file.to_string()),
    }
}

/// Where live files, manifests and catalogs go that do not fit into shared memory.
pub(super) fn live_root(instance: &Instance) -> PathBuf {
    instance.run_dir().join("live")
}

/// The name a file has until it is whole: `.<name>.tmp`.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    path.with_file_name(name)
}

/// Whether a name that another process wrote is a file's own name and leads nowhere else.
pub(super) fn is_plain_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.chars().all(is_allowed)
}

/// Removes a file; that it is not there is fine.
pub(super) fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a directory with everything in it; that it is not there is fine.
pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_not_plain() {
        assert!(is_plain_name("17-0-3.grow"));
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a\0", "ä"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }
}
