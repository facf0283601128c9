//! The control root `<shm>/control`: a fixed layout of atomic words that readers map read-only.
//!
//! Words: magic, version, length, writer heartbeat (unix ms), visible timestamp, catalog epoch, then one
//! manifest epoch per collection cell. Only the writer stores; every store that publishes is a release, every load an acquire.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::paths;
use crate::config::limits::COLLECTIONS_MAX;
use crate::sys::map::SharedMap;
use crate::types::{Epoch, Error, ErrorKind, Result, Timestamp};

const MAGIC: u64 = u64::from_le_bytes(*b"SHOALCTL");
const VERSION: u64 = 1;
/// Magic, version, length.
const HEADER_WORDS: usize = 3;
// Words that are stored often have a cache line of their own: a heartbeat must not take `visible` from the readers' caches.
const HEARTBEAT_OFFSET: usize = 64;
const VISIBLE_OFFSET: usize = 128;
const CATALOG_EPOCH_OFFSET: usize = 192;
const CELLS_OFFSET: usize = 4096;
const FILE_BYTES: usize = CELLS_OFFSET + COLLECTIONS_MAX * 8;
const HEADER: [u64; HEADER_WORDS] = [MAGIC, VERSION, FILE_BYTES as u64];

/// The writer's or a reader's map of the control file.
#[derive(Debug)]
pub struct Control {
    map: SharedMap,
}

impl Control {
    /// Opens the control file for writing; makes it when it is missing. A new writer goes on with the words it finds:
    /// epochs and the visible timestamp never go back while readers are attached.
    ///
    /// # Errors
    /// When there is no room or the file is foreign.
    pub fn open_for_writer(path: &Path) -> Result<Control> {
        let attempt = || format!("open the control file {} for writing", path.display());
        let file = match File::options().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path).map_err(|error| no_room(path, &error))?
            }
            Err(error) => return Err(Error::io(attempt(), &error)),
        };
        let map = SharedMap::read_write(&file).map_err(|error| Error::io(attempt(), &error))?;
        Control::checked(map, path)
    }

    /// Maps it read-only.
    ///
    /// # Errors
    /// When it is missing or foreign.
    pub fn open_for_reader(path: &Path) -> Result<Control> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                ErrorKind::Unavailable,
                format!(
                    "cannot attach to {}: no server has published there; start one with `shoal serve`",
                    path.display()
                ),
            ),
            _ => Error::io(format_args!("open the control file {}", path.display()), &error),
        })?;
        let map = SharedMap::read(&file)
            .map_err(|error| Error::io(format_args!("map the control file {}", path.display()), &error))?;
        Control::checked(map, path)
    }

    fn checked(map: SharedMap, path: &Path) -> Result<Control> {
        if map.len() != FILE_BYTES || map.slice::<u64>(0, HEADER_WORDS) != Some(&HEADER[..]) {
            let message = format!(
                "cannot use the control file {}: another version of ShoalDB made it; stop that server, or use its version",
                path.display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(Control { map })
    }

    /// Every operation up to here is durable and in place.
    pub fn visible(&self) -> Timestamp {
        Timestamp(self.map.atomic_u64(VISIBLE_OFFSET).load(Ordering::Acquire))
    }

    /// Stores the visible timestamp (release); never goes back.
    pub fn set_visible(&self, timestamp: Timestamp) {
        self.map.atomic_u64(VISIBLE_OFFSET).fetch_max(timestamp.0, Ordering::AcqRel);
    }

    /// The catalog's epoch.
    pub fn catalog_epoch(&self) -> Epoch {
        Epoch(self.map.atomic_u64(CATALOG_EPOCH_OFFSET).load(Ordering::Acquire))
    }

    /// Stores the catalog's epoch (release).
    pub fn set_catalog_epoch(&self, epoch: Epoch) {
        self.map.atomic_u64(CATALOG_EPOCH_OFFSET).store(epoch.0, Ordering::Release);
    }

    /// The manifest epoch of a collection's cell; 0 = nothing published (also for a cell that does not exist).
    pub fn manifest_epoch(&self, cell: u32) -> Epoch {
        cell_offset(cell).map_or(Epoch(0), |offset| Epoch(self.map.atomic_u64(offset).load(Ordering::Acquire)))
    }

    /// Stores a manifest epoch (release).
    ///
    /// # Panics
    /// When there is no such cell: the writer gives cells out.
    pub fn set_manifest_epoch(&self, cell: u32, epoch: Epoch) {
        let offset = cell_offset(cell).expect("the writer gives out cells below COLLECTIONS_MAX");
        self.map.atomic_u64(offset).store(epoch.0, Ordering::Release);
    }

    /// Milliseconds since the Unix epoch of the writer's last sign of life.
    pub fn heartbeat_unix_ms(&self) -> u64 {
        self.map.atomic_u64(HEARTBEAT_OFFSET).load(Ordering::Acquire)
    }

    /// Stores a sign of life.
    pub fn beat(&self, unix_ms: u64) {
        self.map.atomic_u64(HEARTBEAT_OFFSET).store(unix_ms, Ordering::Release);
    }
}

fn cell_offset(cell: u32) -> Option<usize> {
    ((cell as usize) < COLLECTIONS_MAX).then(|| CELLS_OFFSET + cell as usize * 8)
}

/// Makes the file under a temporary name: nobody sees it before its header and its room are there.
fn create(path: &Path) -> io::Result<File> {
    let temporary = paths::temporary(path);
    paths::unlink(&temporary)?;
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
    let made = SharedMap::create(&file, FILE_BYTES).and_then(|map| {
        map.write(0, bytemuck::bytes_of(&HEADER));
        fs::rename(&temporary, path)
    });
    made.inspect_err(|_| drop(paths::unlink(&temporary)))?;
    Ok(file)
}

fn no_room(path: &Path, error: &io::Error) -> Error {
    let attempt = format!("make the control file {} ({} KiB)", path.display(), FILE_BYTES >> 10);
    let mut error = Error::io(attempt, error);
    if error.kind == ErrorKind::DiskFull {
        error.message += "; free some room there or pass another --shm-dir";
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_writer_goes_on_with_the_words_it_finds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let first = Control::open_for_writer(&path).unwrap();
        first.set_visible(Timestamp(9));
        first.set_visible(Timestamp(7));
        first.set_manifest_epoch(65_535, Epoch(3));
        let reader = Control::open_for_reader(&path).unwrap();
        drop(first);
        let second = Control::open_for_writer(&path).unwrap();
        assert_eq!((second.visible(), second.manifest_epoch(65_535)), (Timestamp(9), Epoch(3)));
        second.set_catalog_epoch(Epoch(5));
        second.beat(11);
        assert_eq!((reader.catalog_epoch(), reader.heartbeat_unix_ms()), (Epoch(5), 11));
        assert_eq!(reader.manifest_epoch(u32::MAX), Epoch(0));
    }

    #[test]
    fn a_missing_or_foreign_file_is_refused_with_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let missing = Control::open_for_reader(&path).unwrap_err();
        assert!(missing.kind == ErrorKind::Unavailable && missing.message.contains("shoal serve"), "{missing}");
        fs::write(&path, vec![1; FILE_BYTES]).unwrap();
        assert_eq!(Control::open_for_reader(&path).unwrap_err().kind, ErrorKind::Corrupt);
        fs::write(&path, &bytemuck::bytes_of(&HEADER)[..16]).unwrap();
        assert_eq!(Control::open_for_writer(&path).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
