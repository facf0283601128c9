//! Opening what a manifest names, or taking it from the view before.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CollectionView, GrowingChunk, SealedFile};
use crate::config::Instance;
use crate::format::deletes::DeletedAt;
use crate::format::growing::GrowingFile;
use crate::format::table::TableFile;
use crate::format::{FormatError, RowSource};
use crate::index::IndexFile;
use crate::shm::manifest::{ManifestChunk, ManifestDeletes, ManifestFile, ManifestIndex};
use crate::shm::paths;
use crate::sys::map::SharedMap;
use crate::types::{CollectionId, DurableFile, Error, ErrorKind, FileId};

/// Why something published was not opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It is not there (any more): worth another look at the epoch.
    Missing(PathBuf),
    /// Anything else.
    Failed(Error),
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        OpenError::Failed(error)
    }
}

/// The files of one collection: those of the last view by id and name, and where the others are.
pub(super) struct Files<'a> {
    instance: &'a Instance,
    collection: CollectionId,
    sealed: HashMap<FileId, &'a Arc<SealedFile>>,
    growing: HashMap<&'a str, &'a Arc<GrowingChunk>>,
}

impl<'a> Files<'a> {
    pub(super) fn new(instance: &'a Instance, collection: CollectionId, old: Option<&'a CollectionView>) -> Files<'a> {
        let sealed = old.iter().flat_map(|view| &view.sealed).map(|file| (file.entry.id, file));
        let growing = old.iter().flat_map(|view| &view.growing).map(|chunk| (chunk.entry.name.as_str(), chunk));
        Files { instance, collection, sealed: sealed.collect(), growing: growing.collect() }
    }

    /// The sealed file of a manifest's line. Table and deletes are reused one by one: a first delete maps 8 bytes a row, not
    /// the rows.
    pub(super) fn sealed(&self, entry: &ManifestFile) -> Result<Arc<SealedFile>, OpenError> {
        let old = self.sealed.get(&entry.id).copied();
        if let Some(file) = old.filter(|file| file.entry == *entry) {
            return Ok(Arc::clone(file));
        }
        let is_same_table = |old: &&Arc<SealedFile>| {
            (old.entry.place, old.entry.file_bytes, old.entry.checksum, old.entry.row_count)
                == (entry.place, entry.file_bytes, entry.checksum, entry.row_count)
        };
        let table = match old.filter(is_same_table) {
            Some(old) => Arc::clone(&old.table),
            None => self.open_table(entry)?,
        };
        let deletes = match &entry.deletes {
            None => None,
            Some(named) => match old.filter(|old| old.entry.deletes.as_ref() == Some(named)) {
                Some(old) => old.deletes.clone(),
                None => Some(self.open_deletes(named, entry.row_count)?),
            },
        };
        let indexes = entry.indexes.iter().map(|named| {
            let known = old.and_then(|old| old.entry.indexes.iter().position(|other| other == named).zip(Some(old)));
            match known.and_then(|(position, old)| old.indexes.get(position)) {
                Some(index) => Ok(Arc::clone(index)),
                None => self.open_index(entry, named),
            }
        });
        let indexes = indexes.collect::<Result<_, OpenError>>()?;
        Ok(Arc::new(SealedFile { entry: entry.clone(), table, deletes, indexes }))
    }

    /// The growing chunk of a manifest's line.
    pub(super) fn growing(&self, entry: &ManifestChunk) -> Result<Arc<GrowingChunk>, OpenError> {
        if let Some(chunk) = self.growing.get(entry.name.as_str()).filter(|chunk| chunk.entry == *entry) {
            return Ok(Arc::clone(chunk));
        }
        check_name(&entry.name)?;
        let path = paths::live(self.instance, self.collection, &entry.name, entry.place);
        let map = open_map(&path)?;
        check_length(&path, "bytes", entry.file_bytes, map.len() as u64)?;
        let file = GrowingFile::open(map).map_err(|error| corrupt(&path, &error))?;
        Ok(Arc::new(GrowingChunk { entry: entry.clone(), file }))
    }

    /// Maps an index; its bytes were checked when it was copied or adopted.
    fn open_index(&self, entry: &ManifestFile, named: &ManifestIndex) -> Result<Arc<IndexFile>, OpenError> {
        let file = DurableFile::Index(entry.id, named.index);
        let path = paths::durable(self.instance, self.collection, file, named.place);
        let map = open_map(&path)?;
        check_length(&path, "bytes", named.file_bytes, map.len() as u64)?;
        let index = IndexFile::open(map)
            .map_err(|error| Error::new(ErrorKind::Corrupt, format!("cannot read {}: {error}", path.display())))?;
        check_length(&path, "rows", entry.row_count, index.header().row_count)?;
        Ok(Arc::new(index))
    }

    fn open_table(&self, entry: &ManifestFile) -> Result<Arc<TableFile>, OpenError> {
        let path = paths::durable(self.instance, self.collection, DurableFile::Table(entry.id), entry.place);
        let map = open_map(&path)?;
        check_length(&path, "bytes", entry.file_bytes, map.len() as u64)?;
        let table = TableFile::open(map).map_err(|error| corrupt(&path, &error))?;
        check_length(&path, "rows", entry.row_count, table.row_count() as u64)?;
        Ok(Arc::new(table))
    }

    fn open_deletes(&self, named: &ManifestDeletes, row_count: u64) -> Result<DeletedAt, OpenError> {
        check_name(&named.name)?;
        let path = paths::live(self.instance, self.collection, &named.name, named.place);
        let deletes = DeletedAt::open(open_map(&path)?).map_err(|error| corrupt(&path, &error))?;
        check_length(&path, "rows", row_count, deletes.cells().len() as u64)?;
        Ok(deletes)
    }
}

fn open_map(path: &Path) -> Result<Arc<SharedMap>, OpenError> {
    let open = || SharedMap::read(&File::open(path)?);
    match open() {
        Ok(map) => Ok(Arc::new(map)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::Missing(path.to_owned())),
        Err(error) => Err(Error::io(format_args!("map {}", path.display()), &error).into()),
    }
}

fn check_name(name: &str) -> Result<(), OpenError> {
    if paths::is_plain_name(name) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("a manifest names {name:?}, which is no file's name")).into())
}

fn check_length(path: &Path, unit: &str, expected: u64, found: u64) -> Result<(), OpenError> {
    if expected == found {
        return Ok(());
    }
    let message = format!("{} has {found} {unit}, the manifest says {expected}", path.display());
    Err(Error::new(ErrorKind::Corrupt, message).into())
}

fn corrupt(path: &Path, error: &FormatError) -> OpenError {
    Error::new(ErrorKind::Corrupt, format!("cannot read {}: {error}", path.display())).into()
}
