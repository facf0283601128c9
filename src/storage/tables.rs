//! The directory of durable table files and their delete checkpoints.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::directory;
use crate::config::Instance;
use crate::sys::failpoint::Steps;
use crate::types::{CollectionId, Error, FileId, Result};

/// What a file is called until it is whole.
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Files of ours in a collection's directory: `<file id><suffix>`.
const SUFFIXES: [&str; 3] = [".arrow", ".del", ".idx"];

/// Durable files of all collections.
#[derive(Clone, Debug)]
pub struct TableStore {
    instance: Instance,
}

impl TableStore {
    /// The store of an instance.
    pub fn new(instance: Instance) -> TableStore {
        TableStore { instance }
    }

    /// `<data>/tables/<collection>/<file>.arrow`.
    pub fn table_path(&self, collection: CollectionId, file: FileId) -> PathBuf {
        self.instance.tables_dir(collection).join(format!("{file}.arrow"))
    }

    /// `<data>/tables/<collection>/<file>.del`.
    pub fn deletes_path(&self, collection: CollectionId, file: FileId) -> PathBuf {
        self.instance.tables_dir(collection).join(format!("{file}.del"))
    }

    /// Writes a file durably: temporary name, `fill`, fsync, rename, fsync of the directory (made if missing). `steps`
    /// names the fail points.
    ///
    /// # Errors
    /// Those of the disk and of `fill`; the temporary file is removed then.
    pub fn write_durably(
        &self,
        path: &Path,
        steps: Steps,
        fill: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let dir = path.parent().ok_or_else(|| Error::internal(format!("{} has no directory", path.display())))?;
        directory::create(dir)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        // What a kill left under this name was never named by meta.
        remove_if_there(&temporary)?;
        let mut write = || {
            let mut file = directory::create_file(&temporary)?;
            fill(&mut file)?;
            steps.pass("filled")?;
            file.sync_all()?;
            steps.pass("synced")?;
            std::fs::rename(&temporary, path)?;
            steps.pass("renamed")
        };
        if let Err(error) = write() {
            // The first error is the one to report; the sweep of the next start removes what this cannot.
            let _ = std::fs::remove_file(&temporary);
            return Err(Error::io(format_args!("write {}", path.display()), &error));
        }
        directory::sync(dir)?;
        steps.pass("durable").map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
    }

    /// Unlinks a table file and its delete checkpoint; missing ones are fine.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, collection: CollectionId, file: FileId) -> Result<()> {
        remove_if_there(&self.deletes_path(collection, file))?;
        remove_if_there(&self.table_path(collection, file))?;
        Ok(())
    }

    /// Removes temporary files, and files and directories that meta does not name (`is_known`): what a kill left half-made.
    /// Names that cannot be ours are left alone. Returns how many were removed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sweep(&self, is_known: &dyn Fn(CollectionId, Option<FileId>) -> bool) -> Result<usize> {
        let root = self.instance.data_dir.join("tables");
        let mut removed = 0;
        for (dir, name) in entries(&root)? {
            let Ok(collection) = name.parse().map(CollectionId) else { continue };
            if !dir.is_dir() {
                continue;
            }
            for (file, name) in entries(&dir)? {
                let is_kept = match our_file(&name) {
                    Some(OurFile::Temporary) => false,
                    Some(OurFile::Whole(id)) => is_known(collection, Some(id)),
                    None => true,
                };
                removed += usize::from(!is_kept && remove_if_there(&file)?);
            }
            if !is_known(collection, None) && entries(&dir)?.is_empty() {
                std::fs::remove_dir(&dir)
                    .map_err(|error| Error::io(format_args!("remove directory {}", dir.display()), &error))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

enum OurFile {
    Temporary,
    Whole(FileId),
}

/// What a file name says; `None` when it is none of ours.
fn our_file(name: &str) -> Option<OurFile> {
    let whole = name.strip_suffix(TEMPORARY_SUFFIX);
    let stem = SUFFIXES.iter().find_map(|suffix| whole.unwrap_or(name).strip_suffix(suffix))?;
    let id = FileId(stem.parse().ok()?);
    Some(if whole.is_some() { OurFile::Temporary } else { OurFile::Whole(id) })
}

/// Paths and names in a directory; none when it does not exist.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let list = |error: io::Error| Error::io(format_args!("list directory {}", dir.display()), &error);
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(list(error)),
        Ok(found) => found
            .map(|entry| entry.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned())))
            .collect::<io::Result<Vec<_>>>()
            .map_err(list),
    }
}

/// Returns whether it was there.
fn remove_if_there(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format_args!("remove {}", path.display()), &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const STEPS: Steps = Steps("serialise.table");

    fn store() -> (tempfile::TempDir, TableStore) {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(dir.path(), dir.path()).unwrap();
        (dir, TableStore::new(instance))
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let (_dir, store) = store();
        let path = store.table_path(CollectionId(1), FileId(2));
        let result = store.write_durably(&path, STEPS, &mut |file| {
            file.write_all(b"half")?;
            Err(io::Error::from_raw_os_error(28))
        });
        assert_eq!(result.unwrap_err().kind, crate::types::ErrorKind::DiskFull);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_write_replaces_a_file_and_what_a_kill_left() {
        let (_dir, store) = store();
        let path = store.deletes_path(CollectionId(1), FileId(2));
        for text in ["one", "two"] {
            store.write_durably(&path, STEPS, &mut |file| file.write_all(text.as_bytes())).unwrap();
            std::fs::write(path.with_extension("del.tmp"), "left by a kill").unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn the_sweep_removes_what_meta_does_not_name_and_nothing_else() {
        let (_dir, store) = store();
        let write = |collection, file| {
            let path = store.table_path(CollectionId(collection), FileId(file));
            store.write_durably(&path, STEPS, &mut |file| file.write_all(b"x")).unwrap();
            path
        };
        let (known, unknown, dropped) = (write(1, 10), write(1, 11), write(2, 20));
        let foreign = known.with_file_name("notes.txt");
        std::fs::write(&foreign, "the user's").unwrap();
        let temporary = known.with_extension("arrow.tmp");
        std::fs::write(&temporary, "half").unwrap();
        let is_known = |collection, file| collection == CollectionId(1) && file != Some(FileId(11));
        assert_eq!(store.sweep(&is_known).unwrap(), 4);
        assert!(known.exists() && foreign.exists());
        assert!(!unknown.exists() && !temporary.exists() && !dropped.parent().unwrap().exists());
        store.remove(CollectionId(1), FileId(10)).unwrap();
        store.remove(CollectionId(1), FileId(10)).unwrap();
        assert!(!known.exists());
    }
}
