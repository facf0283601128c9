//! `shoal status`: what a running server is doing, from shared files and `/proc` only: no request is sent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::{no_server, read_instance};
use crate::config::Instance;
use crate::ipc::progress::{Gauge, ProgressBlock, ProgressInfo};
use crate::shm::attach::Attachment;
use crate::shm::manifest::{CatalogCollection, Manifest, Place};
use crate::shm::readers::{self, ReaderInfo};
use crate::sys::lock::{self, LockOwner};
use crate::sys::procfs::{self, ProcessFacts};
use crate::types::{Error, ErrorKind, IndexRecord, Result};

/// A writer that said nothing for so long is told of: ten times what it takes between two signs of life.
const WRITER_SILENT_MS: u64 = 5_000;

/// Everything status shows; `--json` prints it as it is.
#[derive(Debug, Serialize)]
struct Status {
    data_dir: PathBuf,
    shm_dir: PathBuf,
    processes: Vec<ProcessStatus>,
    /// Since the writer's last sign of life; it gives two a second once it has published.
    writer_silent_ms: Option<u64>,
    collections: Vec<CollectionStatus>,
    /// Why the collections cannot be shown: the writer has not published yet.
    collections_error: Option<String>,
    readers: Vec<ReaderInfo>,
    building: Option<BuildStatus>,
    engine: EngineStatus,
}

#[derive(Debug, Serialize)]
struct ProcessStatus {
    role: String,
    index: usize,
    /// 0 = it is down at the moment.
    pid: u32,
    up_ms: u64,
    restarts: u64,
    rss_bytes: u64,
    pss_bytes: u64,
    private_bytes: u64,
    cpu_ms: u64,
    requests: u64,
    request_errors: u64,
    /// Time spent on requests, of the time it is up.
    busy_share: f64,
}

#[derive(Debug, Serialize)]
struct CollectionStatus {
    database: String,
    name: String,
    is_loaded: bool,
    /// In table files less those marked deleted, as of the last publication.
    sealed_rows: u64,
    growing_rows: u64,
    /// (state, number of table files).
    files: Vec<(String, usize)>,
    /// Table files in the data directory.
    disk_bytes: u64,
    /// Table and growing files in shared memory.
    shm_bytes: u64,
    /// Table and growing files that readers map from disk.
    disk_mapped_bytes: u64,
    damage: Option<String>,
    indexes: Vec<IndexStatus>,
}

#[derive(Debug, Serialize)]
struct IndexStatus {
    name: String,
    index_type: String,
    /// Table files that have it.
    files: usize,
    /// Index files in the data directory.
    disk_bytes: u64,
    /// Rows of table files that wait for the builder; they are scanned meanwhile.
    pending_rows: u64,
    /// Rows of table files whose index could not be built, and why; they are scanned.
    failed_rows: u64,
    failure: Option<String>,
}

/// What the builder is doing.
#[derive(Debug, Serialize)]
struct BuildStatus {
    file: u64,
    index: u64,
    rows_done: u64,
    rows_total: u64,
}

/// Gauges of the writer.
#[derive(Debug, Serialize)]
struct EngineStatus {
    log_bytes: u64,
    buffer_bytes: u64,
    buffer_bytes_max: u64,
    shm_table_bytes: u64,
    shm_live_bytes: u64,
    /// Replaced files that some process still maps.
    limbo_bytes: u64,
    inserted_rows: u64,
    deleted_rows: u64,
    flushes: u64,
    merges: u64,
    index_builds: u64,
    log_syncs: u64,
}

/// Prints the status of the server of a data directory.
pub(super) fn run(data_dir: &Path, json: bool) -> Result<ExitCode> {
    let path = data_dir.join("LOCK");
    let holder = lock::holder(&path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    let holder = holder.ok_or_else(|| no_server(data_dir))?;
    let instance = read_instance(data_dir)?;
    let status = collect(instance, holder)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(|error| Error::internal(error.to_string()))?;
        println!("{text}");
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn collect(instance: Instance, holder: Option<LockOwner>) -> Result<Status> {
    let cells = ProgressBlock::read(&instance)?;
    let writer = cells.iter().find(|cell| cell.role == crate::ipc::control::Role::Writer);
    let readers = readers::list(&instance)?;
    let gauge = |gauge| writer.map_or(0, |cell| cell.gauge(gauge));
    let engine = EngineStatus {
        log_bytes: gauge(Gauge::LogBytes),
        buffer_bytes: gauge(Gauge::BufferBytes),
        buffer_bytes_max: gauge(Gauge::BufferBytesMax),
        shm_table_bytes: gauge(Gauge::ShmTableBytes),
        shm_live_bytes: gauge(Gauge::ShmLiveBytes),
        limbo_bytes: limbo_bytes(&instance, &cells, &readers),
        inserted_rows: gauge(Gauge::InsertedRows),
        deleted_rows: gauge(Gauge::DeletedRows),
        flushes: gauge(Gauge::Flushes),
        merges: gauge(Gauge::Merges),
        index_builds: gauge(Gauge::IndexBuilds),
        log_syncs: gauge(Gauge::LogSyncs),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut processes: Vec<ProcessStatus> = holder.iter().map(|owner| supervisor_status(owner, now)).collect();
    processes.extend(cells.iter().map(|cell| process_status(cell, now)));
    let attachment = Attachment::open(&instance);
    let sign_of_life = attachment.as_ref().map_or(0, |attachment| attachment.control().heartbeat_unix_ms());
    let (collections, collections_error) = match attachment.and_then(|attachment| collections(&attachment)) {
        Ok(collections) => (collections, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Ok(Status {
        processes,
        writer_silent_ms: (sign_of_life != 0).then(|| now.saturating_sub(sign_of_life)),
        collections,
        collections_error,
        readers,
        building: cells.iter().find_map(build_status),
        engine,
        data_dir: instance.data_dir,
        shm_dir: instance.shm_dir,
    })
}

/// Bytes of replaced files in shared memory that the server's processes and attached readers still map, each file once.
fn limbo_bytes(instance: &Instance, cells: &[ProgressInfo], readers: &[ReaderInfo]) -> u64 {
    let pids: BTreeSet<u32> =
        cells.iter().map(|cell| cell.pid).chain(readers.iter().map(|reader| reader.pid)).collect();
    let maps = pids.into_iter().filter(|pid| *pid != 0).flat_map(|pid| procfs::unlinked_maps(pid, &instance.shm_dir));
    maps.collect::<BTreeMap<u64, u64>>().into_values().sum()
}

fn supervisor_status(owner: &LockOwner, now_unix_ms: u64) -> ProcessStatus {
    let facts = procfs::read(owner.pid).unwrap_or_default();
    ProcessStatus {
        role: "supervisor".to_owned(),
        index: 0,
        pid: owner.pid,
        up_ms: now_unix_ms.saturating_sub(owner.started_unix_ms),
        restarts: 0,
        rss_bytes: facts.rss_bytes,
        pss_bytes: facts.pss_bytes,
        private_bytes: facts.private_bytes,
        cpu_ms: facts.cpu.as_millis() as u64,
        requests: 0,
        request_errors: 0,
        busy_share: 0.0,
    }
}

fn process_status(cell: &ProgressInfo, now_unix_ms: u64) -> ProcessStatus {
    let facts = match cell.pid {
        0 => ProcessFacts::default(),
        pid => procfs::read(pid).unwrap_or_default(),
    };
    let up_ms = if cell.pid == 0 { 0 } else { now_unix_ms.saturating_sub(cell.started_unix_ms) };
    ProcessStatus {
        role: cell.role.name().to_owned(),
        index: cell.index,
        pid: cell.pid,
        up_ms,
        restarts: cell.restarts,
        rss_bytes: facts.rss_bytes,
        pss_bytes: facts.pss_bytes,
        private_bytes: facts.private_bytes,
        cpu_ms: facts.cpu.as_millis() as u64,
        requests: cell.gauge(Gauge::Requests),
        request_errors: cell.gauge(Gauge::RequestErrors),
        busy_share: cell.gauge(Gauge::BusyNs) as f64 / (up_ms.max(1) as f64 * 1e6),
    }
}

fn build_status(cell: &ProgressInfo) -> Option<BuildStatus> {
    let file = cell.gauge(Gauge::BuildFile).checked_sub(1).filter(|_| cell.pid != 0)?;
    let build = BuildStatus {
        file,
        index: cell.gauge(Gauge::BuildIndex),
        rows_done: cell.gauge(Gauge::BuildRowsDone),
        rows_total: cell.gauge(Gauge::BuildRowsTotal),
    };
    // What is done stays told until the next build.
    (build.rows_done < build.rows_total).then_some(build)
}

fn collections(attachment: &Attachment) -> Result<Vec<CollectionStatus>> {
    let catalog = attachment.catalog()?;
    catalog.collections.iter().filter_map(|entry| collection_status(attachment, entry).transpose()).collect()
}

fn collection_status(attachment: &Attachment, entry: &CatalogCollection) -> Result<Option<CollectionStatus>> {
    let view = match attachment.view(entry.id, entry.cell) {
        Ok(view) => view,
        // It was dropped since the catalog was read.
        Err(error) if error.kind == ErrorKind::CollectionNotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let manifest = &view.manifest;
    let mut files: Vec<(String, usize)> = Vec::new();
    for file in &manifest.files {
        let state = serde_json::to_value(file.state).ok().and_then(|value| value.as_str().map(str::to_owned));
        let state = state.unwrap_or_default();
        match files.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => files.push((state, 1)),
        }
    }
    let tables = manifest.files.iter().map(|file| (file.place, file.file_bytes));
    let index_files = || manifest.files.iter().flat_map(|file| &file.indexes);
    let of_indexes = index_files().map(|index| (index.place, index.file_bytes));
    let chunks = manifest.chunks.iter().map(|chunk| (chunk.place, chunk.file_bytes));
    let placed: Vec<(Place, u64)> = tables.chain(of_indexes).chain(chunks).collect();
    let bytes_in = |wanted: Place| placed.iter().filter(|(place, _)| *place == wanted).map(|(_, bytes)| bytes).sum();
    Ok(Some(CollectionStatus {
        database: entry.database.clone(),
        name: entry.name.clone(),
        is_loaded: manifest.is_loaded,
        sealed_rows: manifest.sealed_row_count,
        growing_rows: view.growing.iter().map(|chunk| chunk.file.rows_published() as u64).sum(),
        files,
        disk_bytes: manifest.files.iter().map(|file| file.file_bytes).sum::<u64>()
            + index_files().map(|index| index.file_bytes).sum::<u64>(),
        shm_bytes: bytes_in(Place::Shm),
        disk_mapped_bytes: bytes_in(Place::Disk),
        damage: manifest.damage.clone(),
        indexes: manifest.indexes.iter().map(|index| index_status(manifest, index)).collect(),
    }))
}

fn index_status(manifest: &Manifest, index: &IndexRecord) -> IndexStatus {
    let files = manifest.files.iter().flat_map(|file| &file.indexes).filter(|file| file.index == index.id);
    let open = || manifest.unindexed.iter().filter(|file| file.index == index.id);
    let failed = || open().filter(|file| file.failure.is_some());
    let failed_rows = failed().map(|file| file.row_count).sum();
    let index_type = index.params.iter().find(|(key, _)| key == "index_type").map(|(_, value)| value.clone());
    IndexStatus {
        name: index.name.clone(),
        index_type: index_type.unwrap_or_default(),
        files: files.clone().count(),
        disk_bytes: files.map(|file| file.file_bytes).sum(),
        pending_rows: open().map(|file| file.row_count).sum::<u64>() - failed_rows,
        failed_rows,
        failure: failed().find_map(|file| file.failure.clone()),
    }
}

fn print(status: &Status) {
    println!("data {}, shared memory {}\n", status.data_dir.display(), status.shm_dir.display());
    print_processes(&status.processes);
    if let Some(ms) = status.writer_silent_ms.filter(|ms| *ms >= WRITER_SILENT_MS) {
        println!("\nthe writer recovers or is stuck: no sign of life for {}; writes wait, reads go on", time(ms));
    }
    match &status.collections_error {
        Some(error) => println!("\ncollections cannot be shown: {error}"),
        None => print_collections(&status.collections),
    }
    let engine = &status.engine;
    println!(
        "\nlog {}, insert buffer {} of {}, shared memory: tables {}, growing {}, replaced but still mapped {}",
        bytes(engine.log_bytes),
        bytes(engine.buffer_bytes),
        bytes(engine.buffer_bytes_max),
        bytes(engine.shm_table_bytes),
        bytes(engine.shm_live_bytes),
        bytes(engine.limbo_bytes),
    );
    println!(
        "since the writer started: {} rows inserted, {} deleted, {} flushes, {} merges, {} indexes built, {} log syncs",
        engine.inserted_rows, engine.deleted_rows, engine.flushes, engine.merges, engine.index_builds, engine.log_syncs
    );
    if let Some(build) = &status.building {
        let share = build.rows_done as f64 / build.rows_total.max(1) as f64 * 100.0;
        println!("the builder indexes table file {}: {share:.0} % of {} rows", build.file, build.rows_total);
    }
    println!("{} readers attached", status.readers.len());
    for reader in &status.readers {
        println!("  pid {}: {} requests, epoch {}", reader.pid, reader.requests, reader.pinned_epoch);
    }
}

fn print_processes(processes: &[ProcessStatus]) {
    let header = ["process", "pid", "up", "restarts", "RSS", "PSS", "private", "CPU", "requests", "errors", "busy"];
    let rows = processes.iter().map(|process| {
        let name = match process.role.as_str() {
            "searcher" => format!("searcher {}", process.index),
            role => role.to_owned(),
        };
        let pid = if process.pid == 0 { "down".to_owned() } else { process.pid.to_string() };
        vec![
            name,
            pid,
            time(process.up_ms),
            process.restarts.to_string(),
            bytes(process.rss_bytes),
            bytes(process.pss_bytes),
            bytes(process.private_bytes),
            time(process.cpu_ms),
            process.requests.to_string(),
            process.request_errors.to_string(),
            format!("{:.1} %", process.busy_share * 100.0),
        ]
    });
    println!("{}", table(&header, rows));
}

fn print_collections(collections: &[CollectionStatus]) {
    if collections.is_empty() {
        println!("\nno collections");
        return;
    }
    let header = ["collection", "loaded", "rows", "growing", "files", "on disk", "in shm", "mapped from disk"];
    let rows = collections.iter().map(|collection| {
        let files: Vec<String> = collection.files.iter().map(|(state, count)| format!("{count} {state}")).collect();
        vec![
            format!("{}.{}", collection.database, collection.name),
            if collection.is_loaded { "yes" } else { "no" }.to_owned(),
            collection.sealed_rows.to_string(),
            collection.growing_rows.to_string(),
            files.join(", "),
            bytes(collection.disk_bytes),
            bytes(collection.shm_bytes),
            bytes(collection.disk_mapped_bytes),
        ]
    });
    println!("\n{}", table(&header, rows));
    for (collection, index) in collections.iter().flat_map(|it| it.indexes.iter().map(move |index| (it, index))) {
        if index.files > 0 || index.pending_rows > 0 || index.failed_rows > 0 {
            println!("{}", index_line(collection, index));
        }
    }
    for collection in collections {
        if let Some(damage) = &collection.damage {
            println!("DAMAGED {}.{}: {damage}", collection.database, collection.name);
        }
    }
}

fn index_line(collection: &CollectionStatus, index: &IndexStatus) -> String {
    let mut line = format!(
        "index {} ({}) of {}.{}: {} files, {}",
        index.name,
        index.index_type,
        collection.database,
        collection.name,
        index.files,
        bytes(index.disk_bytes)
    );
    if index.pending_rows > 0 {
        line.push_str(&format!(", {} rows to index", index.pending_rows));
    }
    if let Some(failure) = &index.failure {
        line.push_str(&format!(", {} rows stay without: {failure}", index.failed_rows));
    }
    line
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Bytes for people, in powers of two.
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// A duration for people.
fn time(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match seconds {
        0..10 => format!("{:.1} s", ms as f64 / 1000.0),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(
            [500, 65_000, 600_000, 90_000_000, 200_000_000].map(time),
            ["0.5 s", "65 s", "10 min", "25 h", "2 d"]
        );
    }
}
