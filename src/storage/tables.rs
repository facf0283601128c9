//! The directory of durable table files and their delete checkpoints.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::directory;
use crate::config::Instance;
use crate::sys::failpoint::Steps;
use crate::types::{CollectionId, DurableFile, Error, FileId, Result};

/// What a file is called until it is whole.
const TEMPORARY_SUFFIX: &str = ".tmp";
/// The end of a delete checkpoint's name, `<file id>.del`.
const DELETES_SUFFIX: &str = ".del";

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

    /// `<data>/tables/<collection>/<name>`.
    pub fn path(&self, collection: CollectionId, file: DurableFile) -> PathBuf {
        self.instance.tables_dir(collection).join(file.to_string())
    }

    /// `<data>/tables/<collection>/<file>.arrow`.
    pub fn table_path(&self, collection: CollectionId, file: FileId) -> PathBuf {
        self.path(collection, DurableFile::Table(file))
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

    /// Gives a finished file its name: fsync, rename, fsync of the directory. `made` is on the same file system.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn adopt(&self, made: &Path, collection: CollectionId, file: DurableFile, steps: Steps) -> Result<()> {
        let path = self.path(collection, file);
        let dir = self.instance.tables_dir(collection);
        let adopt = || {
            File::open(made)?.sync_all()?;
            steps.pass("synced")?;
            std::fs::rename(made, &path)?;
            steps.pass("renamed")
        };
        let attempt = || format!("move {} to {}", made.display(), path.display());
        adopt().map_err(|error| Error::io(attempt(), &error))?;
        directory::sync(&dir)?;
        steps.pass("durable").map_err(|error| Error::io(attempt(), &error))
    }

    /// Unlinks a file, of a table file its delete checkpoint too; missing ones are fine.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove(&self, collection: CollectionId, file: DurableFile) -> Result<()> {
        if let DurableFile::Table(table) = file {
            remove_if_there(&self.deletes_path(collection, table))?;
        }
        remove_if_there(&self.path(collection, file))?;
        Ok(())
    }

    /// Removes temporary files, and files and directories that meta does not name (`is_known`): what a kill left half-made.
    /// Names that cannot be ours are left alone. The names of the directories are durable then, whoever made them. Returns how many
    /// were removed.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sweep(&self, is_known: &dyn Fn(CollectionId, Option<DurableFile>) -> bool) -> Result<usize> {
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
        if root.is_dir() {
            directory::sync(&root)?;
        }
        Ok(removed)
    }
}

enum OurFile {
    Temporary,
    /// A delete checkpoint counts as its table file.
    Whole(DurableFile),
}

/// What a file name says; `None` when it is none of ours.
fn our_file(name: &str) -> Option<OurFile> {
    let whole = name.strip_suffix(TEMPORARY_SUFFIX);
    let checkpoint = |name: &str| name.strip_suffix(DELETES_SUFFIX)?.parse().ok().map(FileId).map(DurableFile::Table);
    let file = DurableFile::from_name(whole.unwrap_or(name)).or_else(|| checkpoint(whole.unwrap_or(name)))?;
    Some(if whole.is_some() { OurFile::Temporary } else { OurFile::Whole(file) })
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
        let index = |index: i64| {
            let file = DurableFile::Index(FileId(10), crate::types::IndexId(index));
            std::fs::write(known.with_extension("made"), "an index").unwrap();
            store.adopt(&known.with_extension("made"), CollectionId(1), file, STEPS).unwrap();
            store.path(CollectionId(1), file)
        };
        let (known_index, unknown_index) = (index(5), index(6));
        let foreign = known.with_file_name("notes.txt");
        std::fs::write(&foreign, "the user's").unwrap();
        let temporary = known.with_extension("arrow.tmp");
        std::fs::write(&temporary, "half").unwrap();
        let is_known = |collection, file: Option<DurableFile>| {
            let is_gone = |file: DurableFile| ["11.arrow", "10-6.idx"].contains(&file.to_string().as_str());
            collection == CollectionId(1) && !file.is_some_and(is_gone)
        };
        assert_eq!(store.sweep(&is_known).unwrap(), 5);
        assert!(known.exists() && known_index.exists() && foreign.exists());
        assert!(
            !unknown.exists() && !unknown_index.exists() && !temporary.exists() && !dropped.parent().unwrap().exists()
        );
        store.remove(CollectionId(1), DurableFile::Table(FileId(10))).unwrap();
        store.remove(CollectionId(1), DurableFile::Table(FileId(10))).unwrap();
        assert!(!known.exists());
    }
}
