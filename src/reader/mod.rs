//! `Reader`: attach to a running database from any process and search it there: no copy, no IPC, read-only.
//! Start at `Reader::attach`. Uses `query`, `shm`; cannot write. Invariant: a handle used after fork re-attaches in the child.

mod attached;
mod requests;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::config::Instance;
use crate::query::Snapshot;
use crate::shm::attach::{CollectionSummary, CollectionView};
use crate::shm::manifest::{Catalog, CatalogAlias, CatalogCollection};
use crate::sys::lock;
use crate::types::{Error, ErrorKind, Result, Timestamp};

use attached::{Attached, ProcessAttachment, Target};
pub use requests::{Hits, QueryRequest, Rows, SearchRequest};

/// A process's attachment to a database. Cheap calls; `Send + Sync`.
///
/// The files of the database are mapped into this process, read-only: a search runs here, on this process's core, over the
/// same bytes that the server's own searchers use. Every call sees every write that the server has acknowledged.
///
/// A handle may be used after `fork`: the child attaches again on its first call, and dropping the handle in a child takes
/// nothing from the parent. A `Reader` goes on answering when the writer dies, and follows a server that is started again.
///
/// ```no_run
/// use shoaldb::reader::{Reader, SearchRequest};
///
/// # fn main() -> Result<(), shoaldb::types::Error> {
/// let reader = Reader::attach("./data")?;
/// let mut request = SearchRequest::new(vec![0.1, 0.2, 0.3, 0.4], 10);
/// request.filter = "color == \"red\"".to_owned();
/// request.output_fields = vec!["color".to_owned()];
/// for hits in reader.search("default", "items", &request)? {
///     println!("{:?} {:?}", hits.keys, hits.scores);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    target: Target,
    attached: Attached,
}

impl Reader {
    /// Attaches to the database that `shoal serve <data_dir>` serves.
    ///
    /// # Errors
    /// When no server runs there (the message says how to start one), or its files are of another version.
    pub fn attach(data_dir: impl AsRef<Path>) -> Result<Reader> {
        Reader::new(Target::DataDir(data_dir.as_ref().to_owned()))
    }

    /// Attaches to an instance whose server is known to run (a searcher's own).
    ///
    /// # Errors
    /// When nothing is published there yet, or its files are of another version.
    pub fn open(instance: Instance) -> Result<Reader> {
        Reader::new(Target::Server(instance))
    }

    fn new(target: Target) -> Result<Reader> {
        let attached = Attached::new(&target)?;
        Ok(Reader { target, attached })
    }

    fn process(&self) -> Result<Arc<ProcessAttachment>> {
        self.attached.get(&self.target)
    }

    /// Every write up to here is acknowledged, and seen by a snapshot taken from now on.
    ///
    /// # Errors
    /// After a fork, when attaching again fails.
    pub fn visible(&self) -> Result<Timestamp> {
        Ok(self.process()?.attachment.control().visible())
    }

    /// Lets go of what was replaced since the last call of any kind: for readers that are idle for long.
    pub fn follow(&self) {
        if let Ok(process) = self.process() {
            process.attachment.follow();
        }
    }

    /// The present catalog.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        self.process()?.attachment.catalog()
    }

    /// A snapshot of a collection (or of what an alias names), as of now.
    ///
    /// # Errors
    /// When there is no such collection; it may be released: look at `view.manifest.is_loaded`.
    pub fn snapshot(&self, database: &str, collection: &str) -> Result<Snapshot> {
        let process = self.process()?;
        // The order matters: a view taken after the timestamp holds every row that is visible at it.
        let timestamp = process.attachment.control().visible();
        Ok(Snapshot::new(timestamp, view(&process, database, collection)?))
    }

    /// What is published of a collection (or of what an alias names): schema, partitions, indexes, files.
    ///
    /// # Errors
    /// When there is no such collection, or it cannot be mapped.
    pub fn describe(&self, database: &str, collection: &str) -> Result<Arc<CollectionView>> {
        view(&*self.process()?, database, collection)
    }

    /// What a list of collections says of one that the catalog names; maps none of its files.
    ///
    /// # Errors
    /// When its manifest cannot be read.
    pub fn summary_of(&self, entry: &CatalogCollection) -> Result<CollectionSummary> {
        self.process()?.attachment.summary(entry.id, entry.cell)
    }

    /// What is published of a collection that the catalog names.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn view_of(&self, entry: &CatalogCollection) -> Result<Arc<CollectionView>> {
        self.process()?.attachment.view(entry.id, entry.cell)
    }
}

fn view(process: &ProcessAttachment, database: &str, name: &str) -> Result<Arc<CollectionView>> {
    let attachment = &process.attachment;
    if let Some(view) = attachment.remembered(database, name) {
        process.touch();
        return Ok(view);
    }
    let epoch = attachment.control().catalog_epoch();
    let catalog = attachment.catalog()?;
    let entry = resolve(&catalog, database, name)?;
    process.touch();
    let view = attachment.view(entry.id, entry.cell).or_else(|error| {
        // It may have been dropped between the catalog and the manifest: then that is what the caller should hear.
        let catalog = attachment.catalog()?;
        attachment.forget_dropped(&catalog);
        resolve(&catalog, database, name)?;
        Err(error)
    })?;
    attachment.remember((database, name), epoch, entry.cell, &view);
    Ok(view)
}

/// The collection that a name or an alias of a database names.
///
/// # Errors
/// When there is no such database or no such collection.
pub fn resolve<'a>(catalog: &'a Catalog, database: &str, name: &str) -> Result<&'a CatalogCollection> {
    if !catalog.databases.iter().any(|record| record.name == database) {
        return Err(Error::new(ErrorKind::DatabaseNotFound, format!("database not found[database={database}]")));
    }
    let alias = alias_of(catalog, database, name);
    let found = catalog.collections.iter().find(|collection| match alias {
        Some(alias) => collection.id == alias.collection,
        None => collection.database == database && collection.name == name,
    });
    found.ok_or_else(|| {
        let message = format!("collection not found[database={database}][collection={name}]");
        Error::new(ErrorKind::CollectionNotFound, message)
    })
}

/// The alias with this name.
fn alias_of<'a>(catalog: &'a Catalog, database: &str, name: &str) -> Option<&'a CatalogAlias> {
    catalog.aliases.iter().find(|alias| alias.database == database && alias.alias == name)
}

/// What a collection that was found is called, also when it was found by an alias. Collections may be many: they are looked through
/// for aliases alone.
pub fn own_name<'a>(catalog: &'a Catalog, database: &str, name: &'a str) -> &'a str {
    let alias = alias_of(catalog, database, name);
    let found = alias.and_then(|alias| catalog.collections.iter().find(|collection| collection.id == alias.collection));
    found.map_or(name, |collection| &collection.name)
}

/// The instance of the server that serves a data directory.
fn served_instance(data_dir: &Path) -> Result<Instance> {
    let instance = describe_instance(data_dir)?;
    if is_served(&instance)? { Ok(instance) } else { Err(not_served(data_dir)) }
}

/// Reads `<data>/run/instance.json`.
fn describe_instance(data_dir: &Path) -> Result<Instance> {
    let path = data_dir.join("run").join("instance.json");
    let text = fs::read(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => not_served(data_dir),
        _ => Error::io(format_args!("read {}", path.display()), &error),
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        let message = format!("cannot attach to {}: {} is damaged: {error}", data_dir.display(), path.display());
        Error::new(ErrorKind::Corrupt, message)
    })
}

/// Whether a server holds the lock of the data directory. The lock is the kernel's: a killed server holds none.
fn is_served(instance: &Instance) -> Result<bool> {
    let path = instance.lock_path();
    let holder = lock::holder(&path);
    Ok(holder.map_err(|error| Error::io(format_args!("look at the lock {}", path.display()), &error))?.is_some())
}

fn not_served(data_dir: &Path) -> Error {
    let path = data_dir.display();
    let message = format!("cannot attach to {path}: no server runs there; start one with `shoal serve {path}`");
    Error::new(ErrorKind::Unavailable, message)
}

#[cfg(test)]
mod tests;
