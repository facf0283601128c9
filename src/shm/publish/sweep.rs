//! Removes what earlier writers left in the instance directory and in `<data>/run/live`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use crate::config::Instance;
use crate::shm::manifest::{Manifest, Place};
use crate::shm::paths;
use crate::types::{CollectionId, DurableFile, Epoch, Error, Result};

/// Removes collections without a manifest, files that manifests do not name and catalogs of other epochs. Of names that are
/// none of these it knows nothing and leaves them.
pub(super) fn sweep(
    instance: &Instance,
    catalog_epoch: Epoch,
    budget: &Budget,
    manifests: &[&Manifest],
) -> Result<usize> {
    let by_id: HashMap<CollectionId, &Manifest> =
        manifests.iter().map(|manifest| (manifest.collection, *manifest)).collect();
    let mut removed = 0;
    for (root, place) in [(instance.shm_dir.clone(), Place::Shm), (paths::live_root(instance), Place::Disk)] {
        for (name, path) in entries(&root)? {
            if let Some(collection) = name.parse().ok().map(CollectionId) {
                let keep = by_id.get(&collection).map(|manifest| names_to_keep(manifest, budget, place));
                removed += sweep_collection(&path, keep.as_ref())?;
            } else if is_old_catalog(&name, catalog_epoch) {
                remove(&path, paths::unlink(&path))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn is_old_catalog(name: &str, epoch: Epoch) -> bool {
    (name.starts_with("catalog-") || name.starts_with(".catalog-")) && name != paths::catalog_name(epoch)
}

/// What a manifest names in one place, and what this writer made since.
fn names_to_keep(manifest: &Manifest, budget: &Budget, place: Place) -> HashSet<String> {
    let mut names = HashSet::from([paths::manifest_name(manifest.epoch)]);
    for file in &manifest.files {
        if place == Place::Shm {
            let indexes = file.indexes.iter().map(|index| (index.place, DurableFile::Index(file.id, index.index)));
            let placed = indexes.chain([(file.place, DurableFile::Table(file.id))]);
            names.extend(placed.filter(|(at, _)| *at == Place::Shm).map(|(_, file)| file.to_string()));
        }
        names.extend(file.deletes.iter().filter(|deletes| deletes.place == place).map(|deletes| deletes.name.clone()));
    }
    names.extend(manifest.chunks.iter().filter(|chunk| chunk.place == place).map(|chunk| chunk.name.clone()));
    let (tables, live) = budget.files_of(manifest.collection);
    names.extend(live);
    for name in tables.into_iter().map(|file| file.to_string()) {
        names.insert(paths::temporary(Path::new(&name)).to_string_lossy().into_owned());
        names.insert(name);
    }
    names
}

/// Removes what is not to be kept; everything, the directory too, without a manifest.
fn sweep_collection(dir: &Path, keep: Option<&HashSet<String>>) -> Result<usize> {
    let mut removed = 0;
    for (name, path) in entries(dir)? {
        if keep.is_none_or(|keep| !keep.contains(&name)) {
            remove(&path, paths::unlink(&path))?;
            removed += 1;
        }
    }
    if keep.is_none() {
        remove(dir, paths::remove_dir(dir))?;
    }
    Ok(removed)
}

fn remove(path: &Path, result: io::Result<()>) -> Result<()> {
    result.map_err(|error| Error::io(format_args!("remove {}", path.display()), &error))
}

/// Names and paths in a directory; none when it is missing.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let read = || -> io::Result<Vec<(String, PathBuf)>> {
        let name_and_path = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        };
        match fs::read_dir(dir) {
            Ok(entries) => entries.map(name_and_path).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    };
    read().map_err(|error| Error::io(format_args!("list {}", dir.display()), &error))
}
