//! Copies of table and index files, and their checksums.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crc_fast::{CrcAlgorithm, Digest};

use super::{create_fresh, is_no_room};
use crate::shm::manifest::Place;
use crate::shm::paths;
use crate::sys::allocate::allocate;
use crate::sys::map::SharedMap;
use crate::types::{Error, ErrorKind, Result};

/// Bytes are read in blocks of this size: they are hashed and written while the processor's cache still has them.
const BLOCK_BYTES: usize = 1 << 20;
/// So much is moved into huge pages at once: whoever wants to stop that waits for some milliseconds.
const COLLAPSED_BYTES: usize = 8 << 20;

/// Reads a table or index file and checks its crc64-nvme.
///
/// # Errors
/// Of kind `Corrupt` when it does not match; those of reading.
pub fn verify_file(path: &Path, checksum: u64) -> Result<()> {
    let read = || hash_blocks(&mut File::open(path)?, |_| Ok(()));
    let found = read().map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    check(path, checksum, found)
}

/// Has searches of a copy miss the processor's address caches less often. Rows of an index are read in no order.
pub(super) fn use_huge_pages(path: &Path, go_on: &mut dyn FnMut() -> bool) -> io::Result<()> {
    let file = File::open(path)?;
    let map = SharedMap::read(&file)?;
    for start in (0..map.len()).step_by(COLLAPSED_BYTES) {
        map.collapse(start, COLLAPSED_BYTES)?;
        if file.metadata()?.nlink() == 0 || !go_on() {
            break;
        }
    }
    Ok(())
}

/// Copies a file under a temporary name, which is renamed when its checksum is right. Without room it stays on disk.
pub(super) fn copy_file(source: &Path, target: &Path, bytes: u64, checksum: u64) -> Result<Place> {
    let temporary = paths::temporary(target);
    crate::sys::failpoint::reach("publish.table_copying");
    let copied = copy_checked(source, &temporary, bytes, checksum).and_then(|place| {
        if place == Place::Shm {
            crate::fail_point!("publish.table_copied").and_then(|()| fs::rename(&temporary, target)).map_err(
                |error| Error::io(format_args!("rename {} to {}", temporary.display(), target.display()), &error),
            )?;
            crate::sys::failpoint::reach("publish.table_renamed");
        }
        Ok(place)
    });
    if !matches!(copied, Ok(Place::Shm)) {
        super::unlink_quietly(&temporary);
    }
    copied
}

fn copy_checked(source: &Path, temporary: &Path, bytes: u64, checksum: u64) -> Result<Place> {
    let made = create_fresh(temporary).and_then(|file| allocate(&file, bytes).map(|()| file));
    let mut file = match made {
        Ok(file) => file,
        Err(error) if is_no_room(&error) => {
            verify_file(source, checksum)?;
            return Ok(Place::Disk);
        }
        Err(error) => return Err(Error::io(format_args!("make {} ({bytes} bytes)", temporary.display()), &error)),
    };
    let mut copy = || hash_blocks(&mut File::open(source)?, |block| file.write_all(block));
    let found = copy()
        .map_err(|error| Error::io(format_args!("copy {} to {}", source.display(), temporary.display()), &error))?;
    check(source, checksum, found)?;
    Ok(Place::Shm)
}

/// Reads to the end; each block is hashed and given to `use_block`.
fn hash_blocks(file: &mut File, mut use_block: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(digest.finalize()),
            Ok(len) => {
                digest.update(&block[..len]);
                use_block(&block[..len])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn check(path: &Path, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let path = path.display();
    let message = format!("the checksum of {path} is {found:016x}, it was written with {expected:016x}");
    Err(Error::new(ErrorKind::Corrupt, message))
}
