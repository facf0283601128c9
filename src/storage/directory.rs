//! Directories and files whose names must survive a power cut.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::types::{Error, Result};

/// Makes a directory (and those above it), readable by its owner only; its name is durable when this returns.
pub(super) fn create(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io(format_args!("make directory {}", dir.display()), &error))?;
    // Without its name on the disk it is as if it were not there: the next call must not take it for made.
    sync_name(dir).inspect_err(|_| drop(std::fs::remove_dir(dir)))
}

/// Makes the name of a directory durable, and that of the one it is in. For a start, too: one that was killed, or whose power was
/// cut, may have made the directory and not come so far.
pub(super) fn sync_name(dir: &Path) -> Result<()> {
    dir.ancestors().skip(1).take(2).filter(|parent| !parent.as_os_str().is_empty()).try_for_each(sync)
}

/// Makes the names in a directory durable.
pub(super) fn sync(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io(format_args!("sync directory {}", dir.display()), &error))
}

/// Makes a file that does not exist yet, readable by its owner only.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
