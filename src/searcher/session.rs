//! What a handler needs to answer one request: the attached database and the database the call names.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::postponed::Wait;
use super::team::Team;
use crate::config::ServerConfig;
use crate::config::limits::GUARANTEE_WAIT_MS_MAX;
use crate::filter::{Isolation, Plan, Templates};
use crate::ipc::progress::ProgressCell;
use crate::proto::instants::zone;
use crate::query::{self, Snapshot};
use crate::reader::{Reader, own_name};
use crate::shm::attach::CollectionView;
use crate::shm::manifest::{Catalog, CatalogCollection};
use crate::sys::clock;
use crate::types::{
    Error, ErrorKind, ISOLATION_PROPERTY, PartitionId, PartitionRecord, Result, Timestamp, Zone, zone_of,
};

/// The database of a call that names none.
const DEFAULT_DATABASE: &str = "default";

/// One request's surroundings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Session<'a> {
    /// The attached database.
    pub reader: &'a Reader,
    /// The server's options.
    pub config: &'a ServerConfig,
    /// The database named by the call's metadata; may be empty.
    pub database: &'a str,
    /// The request, encoded.
    pub body: &'a [u8],
    /// What every process of the server is doing, when this is one of them.
    pub progress: Option<&'a ProgressCell>,
    /// The other searchers, when there can be any.
    pub team: Option<&'a Team<'a>>,
    /// How the request can be put off; without it, a handler that has to wait sleeps.
    pub wait: Option<&'a Wait>,
}

/// A collection as one request found it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The database it is in.
    pub database: String,
    /// Its name, also when the request used an alias.
    pub name: String,
    /// Its rows as of now.
    pub snapshot: Snapshot,
}

impl<'a> Session<'a> {
    /// The database of the call: the request's, else the metadata's, else `default`.
    pub fn database(&self, requested: &'a str) -> &'a str {
        [requested, self.database, DEFAULT_DATABASE].into_iter().find(|name| !name.is_empty()).unwrap_or_default()
    }

    /// The catalog.
    pub fn catalog(&self) -> Result<Arc<Catalog>> {
        self.reader.catalog()
    }

    /// The catalog, when it has the database.
    pub fn catalog_of(&self, database: &str) -> Result<Arc<Catalog>> {
        let catalog = self.catalog()?;
        if !catalog.databases.iter().any(|record| record.name == database) {
            return Err(Error::new(ErrorKind::DatabaseNotFound, format!("database not found[database={database}]")));
        }
        Ok(catalog)
    }

    /// A collection by name or alias, as of now.
    pub fn find(&self, requested_database: &'a str, name: &str) -> Result<Found> {
        let database = self.database(requested_database);
        let snapshot = self.reader.snapshot(database, name)?;
        let catalog = self.catalog()?;
        let name = own_name(&catalog, database, name).to_owned();
        Ok(Found { database: database.to_owned(), name, snapshot })
    }

    /// Waits until a snapshot holds everything up to a timestamp. Every snapshot holds all that was acknowledged, so there
    /// is something to wait for only when the timestamp is ahead of the clock: then no later operation can get an earlier one.
    ///
    /// # Errors
    /// When it is too far ahead, or too many wait already; and when the request was put off: what it is answered with then
    /// does not matter.
    pub fn wait_for(&self, guarantee_timestamp: u64) -> Result<()> {
        let wanted = Timestamp(guarantee_timestamp);
        if wanted < EARLIEST_TIMESTAMP || wanted <= self.reader.visible()? {
            return Ok(());
        }
        let ahead_ms = (wanted.unix_ms() + 1).saturating_sub(clock::unix_ms());
        if ahead_ms == 0 {
            return Ok(());
        }
        if ahead_ms > GUARANTEE_WAIT_MS_MAX {
            let message = format!(
                "cannot read at guarantee timestamp {wanted}: it is {ahead_ms} ms ahead of this server's clock, at most \
                 {GUARANTEE_WAIT_MS_MAX} ms are waited for"
            );
            return Err(Error::new(ErrorKind::Timeout, message));
        }
        let ahead = Duration::from_millis(ahead_ms);
        let Some(wait) = self.wait else {
            thread::sleep(ahead);
            return Ok(());
        };
        let message = if wait.ask(Instant::now() + ahead) {
            "the request waits for its guarantee timestamp".to_owned()
        } else {
            format!(
                "cannot wait for guarantee timestamp {wanted}, {ahead_ms} ms ahead of this server's clock: too many requests wait \
                 already; send fewer at once, or an earlier timestamp"
            )
        };
        Err(Error::new(ErrorKind::Timeout, message))
    }

    /// A collection of the catalog, as of now.
    pub fn find_entry(&self, entry: &CatalogCollection) -> Result<Found> {
        let timestamp = self.reader.visible()?;
        let snapshot = Snapshot::new(timestamp, self.reader.view_of(entry)?);
        Ok(Found { database: entry.database.clone(), name: entry.name.clone(), snapshot })
    }

    /// A collection by id.
    pub fn find_id(&self, id: i64) -> Result<Found> {
        let catalog = self.catalog()?;
        let entry = catalog.collections.iter().find(|entry| entry.id.0 == id).ok_or_else(|| {
            Error::new(ErrorKind::CollectionNotFound, format!("collection not found[collection={id}]"))
        })?;
        self.find_entry(entry)
    }
}

impl Found {
    /// What is published of it.
    pub fn view(&self) -> &CollectionView {
        &self.snapshot.view
    }

    /// Refuses a released collection.
    pub fn check_loaded(&self, attempt: &str) -> Result<()> {
        if self.view().manifest.is_loaded {
            return Ok(());
        }
        let message = format!("failed to {attempt}: collection not loaded[collection={}]", self.name);
        Err(Error::new(ErrorKind::CollectionNotLoaded, message))
    }

    /// A partition by name.
    pub fn partition(&self, name: &str) -> Result<&PartitionRecord> {
        let found = self.view().manifest.partitions.iter().find(|partition| partition.name == name);
        let message = || format!("partition not found[partition={name}]");
        found.ok_or_else(|| Error::new(ErrorKind::PartitionNotFound, message()))
    }

    /// The partitions a search or query names, or those that its filter leaves of a collection with a partition key.
    pub fn searched_partitions(&self, names: &[String], plan: &Plan) -> Result<Vec<PartitionId>> {
        let manifest = &self.view().manifest;
        if manifest.schema.partition_key().is_none() {
            return names.iter().map(|name| self.searched_partition(name)).collect();
        }
        if names.is_empty() {
            return Ok(query::partitions_of_keys(manifest, plan));
        }
        Err(Error::invalid("not support manually specifying the partition names if partition key mode is used"))
    }

    /// Refuses a search whose filter does not name exactly one partition key, when the collection keeps tenants apart.
    pub fn check_isolation(&self, plan: &Plan) -> Result<()> {
        let manifest = &self.view().manifest;
        let Some(field) = manifest.schema.partition_key() else { return Ok(()) };
        let is_isolated = manifest
            .properties
            .iter()
            .any(|(key, value)| key == ISOLATION_PROPERTY && value.eq_ignore_ascii_case("true"));
        if !is_isolated {
            return Ok(());
        }
        match plan.check_isolated(field.id) {
            Isolation::OneValue => Ok(()),
            Isolation::NotFound => Err(Error::new(
                ErrorKind::Unexpected,
                "partition key not found in expr or the expr is invalid when validating partition key isolation",
            )),
            Isolation::Unsupported(what) => {
                let message = format!("partition key isolation does not support {what}");
                Err(Error::new(ErrorKind::Unexpected, message))
            }
        }
    }

    fn searched_partition(&self, name: &str) -> Result<PartitionId> {
        if name.trim().is_empty() {
            return Err(Error::invalid(format_args!(
                "Invalid partition name: {name}. Partition name should not be empty."
            )));
        }
        let partition = self
            .partition(name)
            .map_err(|_| Error::new(ErrorKind::InvalidParameter, format!("partition name {name} not found")))?;
        if !partition.is_loaded {
            let message = format!("partition not loaded[partition={name}]");
            return Err(Error::new(ErrorKind::PartitionNotLoaded, message));
        }
        Ok(partition.id)
    }

    /// The time zone of a request that may name one; else the collection's.
    pub fn zone(&self, requested: Option<&str>) -> Result<Zone> {
        match requested.filter(|name| !name.is_empty()) {
            Some(name) => zone(name),
            None => Ok(zone_of(&self.view().manifest.properties)),
        }
    }

    /// A filter, checked against the schema.
    pub fn plan(&self, text: &str, templates: &Templates) -> Result<Plan> {
        Plan::new(text, &self.view().manifest.schema, templates).map_err(|error| error.to_error(text))
    }

    /// Rows, of some partitions or (none named) of all. Of released ones, those in table files.
    pub fn row_count(&self, partitions: &[PartitionId]) -> Result<u64> {
        let manifest = &self.view().manifest;
        let is_wanted = |partition: &PartitionId| partitions.is_empty() || partitions.contains(partition);
        let released = manifest.released.iter().filter(|file| is_wanted(&file.partition));
        let released: u64 = released.map(|file| file.row_count.saturating_sub(file.deleted_count)).sum();
        if !manifest.is_loaded {
            return Ok(released);
        }
        let plan = self.plan("", &Templates::default())?;
        let selection = query::Selection { plan, partitions: partitions.to_vec(), ignore_growing: false };
        Ok(released + query::count(&self.snapshot, &selection)?)
    }

    /// Reads at the timestamp that an iterator sends back instead of now, when it is one that was given out.
    pub fn read_at(&mut self, guarantee_timestamp: u64) {
        // Clients send small numbers for consistency levels (0 strong, 1 eventually, 2 bounded) in the same field.
        let wanted = Timestamp(guarantee_timestamp);
        if wanted >= EARLIEST_TIMESTAMP && wanted <= self.snapshot.timestamp {
            self.snapshot.timestamp = wanted;
        }
    }
}

/// Smaller numbers are no timestamps of ours: one millisecond after the Unix epoch is 2^18 already, this is 2001.
const EARLIEST_TIMESTAMP: Timestamp = Timestamp(1_000_000_000_000 << 18);
