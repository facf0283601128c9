//! The writer's side: makes and removes the files of the instance directory and publishes catalog and manifests.
//!
//! A publication is a file under the next epoch, then the epoch in the control root, then the unlink of the previous file.
//! What does not fit into shared memory goes to `<data>/run/live`; readers look in both places.

mod budget;
mod copy;
mod sweep;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::budget::Budget;
use super::control::Control;
use super::manifest::{Catalog, Manifest, Place, encode};
use super::paths;
use crate::config::limits::{COLLECTIONS_MAX, MANIFEST_BYTES_MAX};
use crate::config::{Instance, ServerConfig};
use crate::sys::allocate::allocate;
use crate::sys::failpoint;
use crate::sys::files::make_private_dir;
use crate::sys::map::SharedMap;
use crate::types::{CollectionId, DurableFile, Epoch, Error, ErrorKind, Result};

pub use self::copy::verify_file;

/// The only one that writes into the instance directory. Shared by the writer's threads.
#[derive(Debug)]
pub struct Publisher {
    instance: Instance,
    control: Control,
    budget: Budget,
    /// Held while an epoch moves on. One for all collections: a publication writes some kilobytes to memory.
    publishing: Mutex<()>,
}

impl Publisher {
    /// Opens the instance directory (the supervisor made it, 0700) and the control file. Files that an earlier writer left
    /// stay until the manifests of this one replace them; [`Publisher::sweep`] removes the rest.
    ///
    /// # Errors
    /// When the control file cannot be made: the message says how much room is missing and where.
    pub fn open(instance: &Instance, config: &ServerConfig) -> Result<Publisher> {
        make_private_dir(&instance.shm_dir)
            .map_err(|error| Error::io(format_args!("make directory {}", instance.shm_dir.display()), &error))?;
        let control = Control::open_for_writer(&paths::control(instance))?;
        let budget = Budget::new(&instance.shm_dir, config.shm_bytes_max);
        Ok(Publisher { instance: instance.clone(), control, budget, publishing: Mutex::new(()) })
    }

    /// The control root.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Writes the catalog under the next epoch, then stores the epoch, then unlinks the previous one.
    ///
    /// # Errors
    /// When there is no room: the old catalog stays in force.
    pub fn publish_catalog(&self, catalog: &Catalog) -> Result<()> {
        let _publishing = self.lock_publishing();
        let old = self.control.catalog_epoch();
        let new = Epoch(old.0 + 1);
        let path_in = |place| paths::catalog(&self.instance, new, place);
        self.write_in_either("catalog", &encode(catalog), path_in)?;
        pass(crate::fail_point!("publish.catalog_written"))?;
        self.control.set_catalog_epoch(new);
        failpoint::reach("publish.catalog_stored");
        for place in paths::PLACES {
            unlink_quietly(&paths::catalog(&self.instance, old, place));
        }
        Ok(())
    }

    /// Sets the manifest's epoch to the next one of the cell, writes it, stores the epoch, unlinks the previous manifest.
    ///
    /// # Errors
    /// When there is no room on either place: the old manifest stays in force.
    pub fn publish_manifest(&self, cell: u32, manifest: &mut Manifest) -> Result<()> {
        check_cell(cell)?;
        let _publishing = self.lock_publishing();
        let (collection, old) = (manifest.collection, self.control.manifest_epoch(cell));
        let new = Epoch(old.0 + 1);
        manifest.epoch = new;
        let path_in = |place| paths::manifest(&self.instance, collection, new, place);
        self.write_in_either("manifest", &encode(manifest), path_in)?;
        pass(crate::fail_point!("publish.manifest_written"))?;
        self.control.set_manifest_epoch(cell, new);
        failpoint::reach("publish.manifest_stored");
        for place in paths::PLACES {
            unlink_quietly(&paths::manifest(&self.instance, collection, old, place));
        }
        Ok(())
    }

    /// Forgets a dropped collection: epoch 0, directory removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_collection(&self, cell: u32, collection: CollectionId) -> Result<()> {
        check_cell(cell)?;
        let _publishing = self.lock_publishing();
        self.control.set_manifest_epoch(cell, Epoch(0));
        self.budget.forget_collection(collection);
        for dir in [self.instance.shm_collection_dir(collection), self.instance.live_dir(collection)] {
            paths::remove_dir(&dir).map_err(|error| Error::io(format_args!("remove {}", dir.display()), &error))?;
        }
        Ok(())
    }

    /// Makes a zeroed, fully allocated, writable live file (growing chunk or deletes) in shared memory, or on disk when
    /// shared memory is short.
    ///
    /// # Errors
    /// When there is room on neither.
    pub fn create_live(&self, collection: CollectionId, name: &str, bytes: usize) -> Result<(Arc<SharedMap>, Place)> {
        if !paths::is_plain_name(name) {
            return Err(Error::internal(format!("{name:?} is no name of a live file")));
        }
        let in_shm = paths::live(&self.instance, collection, name, Place::Shm);
        match create_mapped(&in_shm, bytes) {
            Ok(map) => {
                self.budget.add_live(collection, name, bytes as u64);
                return Ok((Arc::new(map), Place::Shm));
            }
            Err(error) if !is_no_room(&error) => return Err(Error::io(attempt("make", &in_shm, bytes), &error)),
            Err(_) => {}
        }
        let on_disk = paths::live(&self.instance, collection, name, Place::Disk);
        let map =
            create_mapped(&on_disk, bytes).map_err(|error| Error::io(attempt("make", &on_disk, bytes), &error))?;
        Ok((Arc::new(map), Place::Disk))
    }

    /// Unlinks a live file.
    pub fn remove_live(&self, collection: CollectionId, name: &str, place: Place) {
        unlink_quietly(&paths::live(&self.instance, collection, name, place));
        self.budget.remove_live(collection, name);
    }

    /// Copies a durable table or index file into shared memory, checking its crc64 on the way, when `shm_bytes_max` and the free
    /// room allow; when they do not, its checksum is checked all the same and it is published as `Disk`. A temporary name
    /// is renamed at the end. With `copy = false` nothing is read ([`verify_file`] does that): it is published from where
    /// it is, `Disk` unless a copy of an earlier writer is still there.
    ///
    /// # Errors
    /// Of kind `Corrupt` when the checksum does not match; those of reading the source.
    pub fn place(
        &self,
        collection: CollectionId,
        file: DurableFile,
        source: &Path,
        checksum: u64,
        copy: bool,
    ) -> Result<Place> {
        let read_error = |error: io::Error| Error::io(format_args!("read {}", source.display()), &error);
        let bytes = fs::metadata(source).map_err(read_error)?.len();
        let target = paths::durable(&self.instance, collection, file, Place::Shm);
        let is_there = fs::metadata(&target).is_ok_and(|found| found.len() == bytes);
        if !self.budget.reserve_file(collection, file, bytes, is_there) {
            if copy {
                verify_file(source, checksum)?;
            }
            return Ok(Place::Disk);
        }
        let placed = match (is_there, copy) {
            // It got its name only after its checksum was right.
            (true, false) => Ok(Place::Shm),
            (true, true) if verify_file(&target, checksum).is_ok() => Ok(Place::Shm),
            (_, true) => copy::copy_file(source, &target, bytes, checksum),
            (false, false) => Ok(Place::Disk),
        };
        if !matches!(placed, Ok(Place::Shm)) {
            self.budget.remove_file(collection, file);
        }
        placed
    }

    /// Moves the copy of a file into huge pages, piece by piece, until `go_on` (asked after each) says no. Holds no lock: what is
    /// unlinked meanwhile is left.
    ///
    /// # Errors
    /// When there is no copy, or the kernel refuses: the rest stays in small pages.
    pub fn use_huge_pages(
        &self,
        collection: CollectionId,
        file: DurableFile,
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        copy::use_huge_pages(&paths::durable(&self.instance, collection, file, Place::Shm), go_on)
    }

    /// Whether a table file of this size would be copied into shared memory now.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.budget.has_room(bytes)
    }

    /// Unlinks the shared-memory copy of a table or index file, if there is one, and gives its bytes back to the budget.
    pub fn remove_copy(&self, collection: CollectionId, file: DurableFile) {
        unlink_quietly(&paths::durable(&self.instance, collection, file, Place::Shm));
        self.budget.remove_file(collection, file);
    }

    /// Bytes of table files, and of live files, in shared memory.
    pub fn shm_bytes(&self) -> (u64, u64) {
        self.budget.bytes()
    }

    /// Removes every file of the instance directory that no current manifest names, except those that this writer made.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn sweep(&self, manifests: &[&Manifest]) -> Result<usize> {
        let _publishing = self.lock_publishing();
        sweep::sweep(&self.instance, self.control.catalog_epoch(), &self.budget, manifests)
    }

    fn lock_publishing(&self) -> MutexGuard<'_, ()> {
        // A panic between two steps of a publication leaves the old one in force: the next may go on.
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a file whole, into shared memory or else into the data directory.
    fn write_in_either(&self, what: &str, bytes: &[u8], path_in: impl Fn(Place) -> std::path::PathBuf) -> Result<()> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            let message =
                format!("cannot publish a {what} of {} bytes: at most {MANIFEST_BYTES_MAX} are read", bytes.len());
            return Err(Error::new(ErrorKind::RateLimited, message));
        }
        let in_shm = path_in(Place::Shm);
        match write_whole(&in_shm, bytes) {
            Ok(()) => return Ok(()),
            Err(error) if !is_no_room(&error) => {
                return Err(Error::io(attempt("write", &in_shm, bytes.len()), &error));
            }
            Err(_) => {}
        }
        let on_disk = path_in(Place::Disk);
        write_whole(&on_disk, bytes).map_err(|error| Error::io(attempt("write", &on_disk, bytes.len()), &error))
    }
}

/// The outcome of a fail point.
fn pass(hit: io::Result<()>) -> Result<()> {
    hit.map_err(|error| Error::io("publish", &error))
}

fn check_cell(cell: u32) -> Result<()> {
    if (cell as usize) < COLLECTIONS_MAX {
        return Ok(());
    }
    Err(Error::internal(format!("there is no cell {cell} in the control file: it has {COLLECTIONS_MAX}")))
}

fn attempt(verb: &str, path: &Path, bytes: usize) -> String {
    format!("{verb} {} ({bytes} bytes)", path.display())
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Unlinks a file that nobody needs; one that stays is removed by the next sweep.
fn unlink_quietly(path: &Path) {
    if let Err(error) = paths::unlink(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// A fresh file, for reading and writing, in a directory that is made when it is missing. A file of this name that a dead
/// writer left is unlinked, never opened: somebody may map it.
fn create_fresh(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    paths::unlink(path)?;
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

fn create_mapped(path: &Path, bytes: usize) -> io::Result<SharedMap> {
    let made = create_fresh(path).and_then(|file| SharedMap::create(&file, bytes));
    made.inspect_err(|_| drop(paths::unlink(path)))
}

/// Writes a file under a temporary name and renames it: it is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = paths::temporary(path);
    let write = || {
        let mut file = create_fresh(&temporary)?;
        allocate(&file, bytes.len() as u64)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| drop(paths::unlink(&temporary)))
}

#[cfg(test)]
mod tests;
