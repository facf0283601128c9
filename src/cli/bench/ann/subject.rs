//! What is measured: a collection of a real server, with one index, searched by an attached reader of this process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::truth::progress_bar;
use super::vectors::Table;
use crate::cli::bench::Bench;
use crate::cli::bench::load::{cells, runtime};
use crate::cli::bench::requests::COLLECTION;
use crate::cli::requests;
use crate::cli::temporary_server::TemporaryServer;
use crate::config::limits::INDEXED_ROWS_MIN;
use crate::gateway::client::Client;
use crate::index::spec::{BuildSettings, IndexSpec, SearchSettings};
use crate::ipc::control::Role;
use crate::ipc::progress::Gauge;
use crate::reader::{QueryRequest, Reader, SearchRequest};
use crate::shm::attach::CollectionView;
use crate::sys::procfs;
use crate::types::{ColumnData, DataType, Error, ErrorKind, Keys, Metric, Result};

/// The field that filters look at, and how many values it has.
pub(super) const BUCKET: &str = "bucket";
pub(super) const BUCKETS: u64 = 1_000;
/// How many lists are searched.
pub(super) const NPROBE: &str = "nprobe";

const DATABASE: &str = "default";
const INSERT_BYTES: usize = 16 << 20;
/// How often the builder is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The server is asked once in so many looks.
const LOOKS_PER_QUESTION: usize = 10;
/// An index that was built and is not published after so long never will be.
const PUBLISH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Rows that are searched for before the first query, to map the pages of the index.
const WARM_UP_ROWS: usize = 2_000;
/// Pool of those searches, or lists.
const WARM_UP_PARAMETER: usize = 100;
/// The writer moves what it published into huge pages by and by. It is done when the reader has had no new ones for so long.
const SETTLED: Duration = Duration::from_secs(2);
/// It is not waited for longer.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// What an index of the server knows; it takes unknown ones in silence, and a bench must not. `None` of what is no index.
fn parameters_of(index: &str) -> Option<&'static [&'static str]> {
    Some(match index {
        "AUTOINDEX" | "FLAT" => &[],
        "RABITQ_GRAPH" => &["M", "efConstruction", "code_bits", "rounds", "seed"],
        "HNSW" => &["M", "efConstruction", "seed"],
        "HNSW_SQ" => &["M", "efConstruction", "sq_type", "refine", "refine_type", "seed"],
        "IVF_FLAT" | "IVF_SQ8" => &["nlist", "seed"],
        _ => return None,
    })
}

/// `NAME[,parameter=value...]` of the command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct IndexName {
    /// In capitals.
    pub name: String,
    /// In the order given.
    pub parameters: Vec<(String, String)>,
}

impl std::str::FromStr for IndexName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<IndexName, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().to_uppercase();
        let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let parameters: Option<Vec<_>> = parts.map(pair).collect();
        let parameters = parameters.ok_or("expected NAME,parameter=value,...")?;
        // What is no index is refused with the server's words when it is asked for.
        let Some(known) = parameters_of(&name) else { return Ok(IndexName { name, parameters }) };
        match parameters.iter().find(|(parameter, _)| !known.contains(&parameter.as_str())) {
            Some((unknown, _)) => Err(format!("{name} has no parameter {unknown}")),
            None => Ok(IndexName { name, parameters }),
        }
    }
}

impl std::fmt::Display for IndexName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)?;
        self.parameters.iter().try_for_each(|(name, value)| write!(formatter, ",{name}={value}"))
    }
}

impl IndexName {
    /// As requests have it.
    fn pairs(&self, metric: Metric) -> Vec<(String, String)> {
        let mut pairs = self.parameters.clone();
        pairs.push(("index_type".to_owned(), self.name.clone()));
        pairs.push(("metric_type".to_owned(), metric.name().to_owned()));
        pairs
    }

    /// The parameter that trades speed for recall; `None` when there is none.
    fn search_parameter(&self, metric: Metric, dim: usize) -> Result<Option<&'static str>> {
        let spec = IndexSpec::of_vectors(DataType::FloatVector, dim, &self.pairs(metric))?;
        Ok(match spec.settings {
            BuildSettings::Flat => None,
            BuildSettings::Ivf(_) => Some(NPROBE),
            BuildSettings::Graph(_) | BuildSettings::Hnsw(_) => Some("ef"),
        })
    }
}

/// What it took until searches used the index.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Built {
    /// Inserting, flushing and merging the rows.
    pub load_seconds: f64,
    /// What the builder took.
    pub build_seconds: f64,
    /// From the request to the index in a reader.
    pub wait_seconds: f64,
    /// Table files; one, unless the rows are too many.
    pub files: usize,
    /// Of index files; the vectors themselves are in the table file.
    pub index_bytes_per_vector: f64,
    /// From the publication of the index to the view of it in a reader, and to the first answer by it.
    pub view_us: Option<f64>,
    /// Its page faults included.
    pub first_answer_us: Option<f64>,
    /// Of index and vectors, mapped in huge pages when the queries began; without them searches are slower.
    pub huge_page_bytes: u64,
}

/// A collection with an index.
#[derive(Debug)]
pub(super) struct Collection<'a> {
    /// Its name.
    pub name: &'a str,
    /// How vectors are compared.
    pub metric: Metric,
    /// What it gets.
    pub index: &'a IndexName,
}

/// A server with a collection, searched.
pub(super) struct Subject {
    /// `None` when it is another process's.
    server: Option<TemporaryServer>,
    data_dir: PathBuf,
    reader: Reader,
    /// The parameter that trades speed for recall; `None` when there is none.
    pub search_parameter: Option<&'static str>,
    /// What it took.
    pub built: Built,
}

/// The number that a row's filters look at: rows of one number lie anywhere.
pub(super) fn bucket(row: usize) -> i64 {
    ((row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as i64
        % BUCKETS as i64
}

impl Subject {
    /// Starts a server and has it build the index.
    pub fn build(
        bench: &Bench,
        index: &IndexName,
        metric: Metric,
        base: &Table<f32>,
        threads: usize,
    ) -> Result<Subject> {
        let search_parameter = index.search_parameter(metric, base.dim)?;
        let threads = threads.to_string();
        // Rows end in one file, so that one index is measured.
        let options = ["--searchers", "1", "--builder-threads", &threads, "--durability", "os"];
        let server = bench.server(&[&options[..], &["--index-file-size", "1TiB"]].concat())?;
        let reader = Reader::attach(&server.data_dir)?;
        let data_dir = server.data_dir.clone();
        let mut subject = Subject { server: Some(server), data_dir, reader, search_parameter, built: Built::default() };
        let collection = Collection { name: COLLECTION, metric, index };
        subject.built.load_seconds = subject.insert(collection.name, base)?;
        let (create, mut client) = (Instant::now(), subject.client()?);
        let builds = subject.create_index(&collection)?;
        subject.wait_for_index(&mut client, &collection, base, builds)?;
        subject.built.wait_seconds = create.elapsed().as_secs_f64();
        let view = subject.reader.describe(DATABASE, collection.name)?;
        let index_files = view.manifest.files.iter().flat_map(|file| &file.indexes);
        let index_bytes: u64 = index_files.map(|file| file.file_bytes).sum();
        subject.built.index_bytes_per_vector = index_bytes as f64 / base.rows() as f64;
        subject.built.files = view.manifest.files.len();
        subject.built.huge_page_bytes = subject.settle(base.rows())?;
        Ok(subject)
    }

    /// Searches the server of another process.
    pub fn attach(data_dir: &Path, index: &IndexName, metric: Metric, dim: usize) -> Result<Subject> {
        let search_parameter = index.search_parameter(metric, dim)?;
        let reader = Reader::attach(data_dir)?;
        let row_count = reader.count(DATABASE, COLLECTION, "")?;
        let (data_dir, built) = (data_dir.to_owned(), Built::default());
        let subject = Subject { server: None, data_dir, reader, search_parameter, built };
        subject.warm_up(usize::try_from(row_count).unwrap_or(usize::MAX))?;
        Ok(subject)
    }

    /// The directory that others attach to.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A search of one query with a setting of the search parameter.
    pub fn request(query: &[f32], k: usize, parameter: usize, filter: &str) -> SearchRequest {
        let parameter = Some(parameter);
        SearchRequest {
            filter: filter.to_owned(),
            settings: SearchSettings { ef: parameter, nprobe: parameter, ..SearchSettings::default() },
            ..SearchRequest::new(query.to_vec(), k)
        }
    }

    /// The rows nearest to one query.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<i64>> {
        let hits = self.reader.search(DATABASE, COLLECTION, request)?;
        match hits.into_iter().next().map(|hits| hits.keys) {
            Some(Keys::Int(keys)) => Ok(keys),
            _ => Err(Error::internal("a search has no integer keys")),
        }
    }

    fn address(&self) -> Result<&str> {
        let server = self.server.as_ref().map(|server| server.address.as_str());
        server.ok_or_else(|| Error::invalid("an index is built by the process that has the server"))
    }

    /// A connection; calls of it are made by [`wait_for`].
    pub fn client(&self) -> Result<Caller> {
        let runtime = runtime()?;
        let client = runtime.block_on(requests::connect(self.address()?))?;
        Ok(Caller { runtime, client })
    }

    /// Makes a collection of the rows, in one file; how long it took.
    pub fn insert(&self, name: &str, base: &Table<f32>) -> Result<f64> {
        let started = Instant::now();
        let mut caller = self.client()?;
        let rows = (INSERT_BYTES / (base.dim * size_of::<f32>())).max(1);
        let bar = progress_bar("inserting", base.rows());
        let Caller { runtime, client } = &mut caller;
        runtime.block_on(async {
            requests::create_collection(client, name, base.dim, vec![requests::integer_field(BUCKET)]).await?;
            for (block, vectors) in base.values.chunks(rows * base.dim).enumerate() {
                let first = block * rows;
                let buckets = (first..first + vectors.len() / base.dim).map(bucket).collect();
                let others = vec![requests::integers(BUCKET, buckets)];
                let body = requests::insert(name, first as i64, vectors.to_vec(), base.dim, others);
                requests::check_inserted(&requests::send(client, "Insert", body).await?)?;
                bar.inc((vectors.len() / base.dim) as u64);
            }
            requests::flush(client, name).await?;
            requests::compact(client, name).await
        })?;
        bar.finish_and_clear();
        Ok(started.elapsed().as_secs_f64())
    }

    /// Asks for the index and loads the collection; how many files the builder has to build for.
    pub fn create_index(&self, collection: &Collection<'_>) -> Result<u64> {
        let Caller { runtime, mut client } = self.client()?;
        let pairs = collection.index.pairs(collection.metric);
        runtime.block_on(async {
            let params = pairs.iter().map(|(name, value)| requests::pair(name, value)).collect();
            requests::create_index(&mut client, collection.name, params).await?;
            requests::load(&mut client, collection.name).await
        })?;
        let view = self.reader.describe(DATABASE, collection.name)?;
        let is_built = self.search_parameter.is_some();
        let files = view.manifest.files.iter().filter(|file| is_built && file.row_count >= INDEXED_ROWS_MIN);
        Ok(files.count() as u64)
    }

    /// Files that the builder has dealt with, rows of the present one that it has done, nanoseconds that it was busy.
    pub fn builder(&self) -> Result<(u64, u64, u64)> {
        let server = self.server.as_ref().ok_or_else(|| Error::internal("the builder is another process's"))?;
        let cells = cells(server)?;
        let cell = cells.iter().find(|cell| cell.role == Role::Builder);
        let gauge = |gauge| cell.map_or(0, |cell| cell.gauge(gauge));
        Ok((gauge(Gauge::Requests), gauge(Gauge::BuildRowsDone), gauge(Gauge::BusyNs)))
    }

    /// Waits for the builder, asking the server how far it is; then looks without a pause for the index to be published.
    fn wait_for_index(
        &mut self,
        caller: &mut Caller,
        collection: &Collection<'_>,
        base: &Table<f32>,
        builds: u64,
    ) -> Result<()> {
        if builds == 0 {
            return Ok(());
        }
        let bar = progress_bar("building", base.rows());
        for look in 0.. {
            let (done, _, busy_ns) = self.builder()?;
            self.built.build_seconds = busy_ns as f64 / 1e9;
            if done >= builds {
                break;
            }
            if look % LOOKS_PER_QUESTION == 0 {
                let described = caller.describe_index(collection.name)?;
                if !described.index_state_fail_reason.is_empty() {
                    return Err(Error::new(ErrorKind::Unexpected, described.index_state_fail_reason));
                }
                bar.set_position(described.indexed_rows.unsigned_abs());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        bar.finish_and_clear();
        let request = Subject::request(base.row(base.rows() / 2), 10, WARM_UP_PARAMETER, "");
        self.wait_for_publication(collection.name, builds, &request)
    }

    fn wait_for_publication(&mut self, name: &str, builds: u64, request: &SearchRequest) -> Result<()> {
        let deadline = Instant::now() + PUBLISH_WAIT_MAX;
        let is_indexed = |view: &CollectionView| {
            view.manifest.files.iter().filter(|file| !file.indexes.is_empty()).count() as u64 >= builds
        };
        for look in 0.. {
            let asked = Instant::now();
            let view = self.reader.describe(DATABASE, name)?;
            let viewed = asked.elapsed();
            if is_indexed(&view) {
                self.search(request)?;
                // At the first look it may have been there for a while.
                if look > 0 {
                    self.built.view_us = Some(viewed.as_secs_f64() * 1e6);
                    self.built.first_answer_us = Some(asked.elapsed().as_secs_f64() * 1e6);
                }
                return Ok(());
            }
            if asked > deadline {
                return Err(Error::new(ErrorKind::Unexpected, "the index was built and is not published"));
            }
        }
        Ok(())
    }

    /// Waits until index and vectors lie as a server that runs for a while has them; bytes that are mapped in huge pages then.
    fn settle(&self, row_count: usize) -> Result<u64> {
        let (begun, mut quiet_since, mut huge) = (Instant::now(), Instant::now(), 0);
        while quiet_since.elapsed() < SETTLED && begun.elapsed() < SETTLE_MAX {
            // A page counts when it was used.
            self.warm_up(row_count)?;
            let now = procfs::own_huge_bytes();
            if now > huge {
                (huge, quiet_since) = (now, Instant::now());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(huge)
    }

    /// Searches for some rows, so that queries do not wait for pages to be mapped: other libraries' are, by their builds.
    fn warm_up(&self, row_count: usize) -> Result<()> {
        let buckets = (BUCKETS as usize * WARM_UP_ROWS).div_ceil(row_count.max(1));
        let request = QueryRequest {
            filter: format!("{BUCKET} < {buckets}"),
            output_fields: vec!["vector".to_owned()],
            ..QueryRequest::default()
        };
        let rows = self.reader.query(DATABASE, COLLECTION, &request)?;
        let Some(ColumnData::FloatVector(values)) = rows.columns.into_iter().next().map(|column| column.data) else {
            return Err(Error::internal("a query has no vectors"));
        };
        let count = match &rows.keys {
            Keys::Int(keys) => keys.len().max(1),
            Keys::Text(_) => return Err(Error::internal("a query has no integer keys")),
        };
        // A scan reads everything at its first query.
        let wanted = if self.search_parameter.is_some() { WARM_UP_ROWS } else { 1 };
        for row in values.chunks_exact(values.len() / count).take(wanted) {
            self.search(&Subject::request(row, 10, WARM_UP_PARAMETER, ""))?;
        }
        Ok(())
    }
}

/// A connection and the runtime of its calls.
pub(super) struct Caller {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Caller {
    fn describe_index(&mut self, name: &str) -> Result<crate::proto::milvus::IndexDescription> {
        self.runtime.block_on(requests::describe_index(&mut self.client, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_named_with_its_parameters() {
        let index: IndexName = "rabitq_graph,rounds=1,efConstruction=64".parse().unwrap();
        assert_eq!((index.name.as_str(), index.parameters.len()), ("RABITQ_GRAPH", 2));
        assert_eq!(index.to_string(), "RABITQ_GRAPH,rounds=1,efConstruction=64");
        assert_eq!(index.search_parameter(Metric::L2, 8).unwrap(), Some("ef"));
        let flat: IndexName = "flat".parse().unwrap();
        assert_eq!(flat.search_parameter(Metric::L2, 8).unwrap(), None);
        for wrong in ["X,rounds", "RABITQ_GRAPH,alpha=1.2", "RABITQ_GRAPH,trees=4"] {
            assert!(wrong.parse::<IndexName>().is_err(), "{wrong}");
        }
        for wrong in ["X", "RABITQ_GRAPH,rounds=a"] {
            assert!(wrong.parse::<IndexName>().unwrap().search_parameter(Metric::L2, 8).is_err(), "{wrong}");
        }
    }

    #[test]
    fn buckets_are_about_equally_full() {
        let of_the_first = (0..100_000).filter(|row| bucket(*row) < 10).count();
        assert!((900..1100).contains(&of_the_first), "{of_the_first}");
    }
}
