//! `shoal doctor`: every file of a data directory against its checksum, and the catalog against the directory.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{Instance, exit};
use crate::format::RowSource;
use crate::format::deletes::decode_checkpoint;
use crate::format::table::{TableFile, checksum};
use crate::index::IndexFile;
use crate::storage::meta::{Meta, MetaState};
use crate::storage::tables::TableStore;
use crate::sys::map::SharedMap;
use crate::types::{CollectionId, Error, ErrorKind, FileRecord, FileState, IndexFileRecord, Result};

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// Acknowledged data that cannot be read.
    damage: Vec<String>,
    /// What a start sweeps or a running server is working on.
    remarks: Vec<String>,
    checked_files: usize,
    checked_bytes: u64,
}

/// Checks a data directory. Exit code 5 when something is damaged.
pub(super) fn run(data_dir: &Path) -> Result<ExitCode> {
    // Only the paths in the data directory are used; shared memory is the running server's.
    let instance = Instance::new(data_dir, Path::new(crate::sys::block::BLOCK_DIR))?;
    if !instance.meta_path().exists() {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!("{} is no data directory of ShoalDB: it has no meta.sqlite", data_dir.display()),
        ));
    }
    let mut findings = Findings::default();
    let state = load(&instance)?;
    let store = TableStore::new(instance.clone());
    for file in state.files.iter().filter(|file| is_durable(file.state)) {
        if let Err(damage) = check_table(&store, file) {
            // A running server may have merged it away since meta was read.
            let is_gone = !load(&instance)?.files.iter().any(|now| now.id == file.id && is_durable(now.state));
            if !is_gone {
                findings.damage.push(damage);
            }
            continue;
        }
        findings.checked_files += 1;
        findings.checked_bytes += file.file_bytes;
    }
    for index in &state.index_files {
        match check_index(&store, index) {
            Ok(()) => {
                findings.checked_files += 1;
                findings.checked_bytes += index.file_bytes;
            }
            // An index holds nothing that its table file does not: the server builds it anew.
            Err(damage) => findings.remarks.push(format!("{damage} (it is built again)")),
        }
    }
    find_unnamed(&instance, &state, &mut findings);
    check_log(&instance, &mut findings);
    Ok(report(data_dir, &findings))
}

fn load(instance: &Instance) -> Result<MetaState> {
    Meta::open_read_only(&instance.meta_path())?.load()
}

/// Whether meta promises that the file's bytes are there.
fn is_durable(state: FileState) -> bool {
    matches!(state, FileState::Raw | FileState::ToIndex | FileState::Index | FileState::Backup)
}

/// Size, checksum and layout of a table file, and its delete checkpoint.
fn check_table(store: &TableStore, file: &FileRecord) -> std::result::Result<(), String> {
    let path = store.table_path(file.collection, file.id);
    let shown = path.display();
    let map = File::open(&path).and_then(|file| SharedMap::read(&file)).map_err(|error| format!("{shown}: {error}"))?;
    if map.len() as u64 != file.file_bytes {
        return Err(format!("{shown}: {} bytes, meta says {}", map.len(), file.file_bytes));
    }
    let found = checksum(map.bytes());
    if found != file.checksum {
        return Err(format!("{shown}: checksum {found:016x}, meta says {:016x}", file.checksum));
    }
    let table = TableFile::open(Arc::new(map)).map_err(|error| format!("{shown}: {error}"))?;
    if table.row_count() as u64 != file.row_count {
        return Err(format!("{shown}: {} rows, meta says {}", table.row_count(), file.row_count));
    }
    if file.deleted_count == 0 {
        return Ok(());
    }
    let path = store.deletes_path(file.collection, file.id);
    let shown = path.display();
    let bytes = std::fs::read(&path).map_err(|error| format!("{shown}: {error}"))?;
    let marks = decode_checkpoint(&bytes, table.row_count()).map_err(|error| format!("{shown}: {error}"))?;
    // A checkpoint may be newer than meta's count, never older.
    if (marks.len() as u64) < file.deleted_count {
        return Err(format!("{shown}: {} deletes, meta says {}", marks.len(), file.deleted_count));
    }
    Ok(())
}

/// Size, checksum and header of an index file.
fn check_index(store: &TableStore, index: &IndexFileRecord) -> std::result::Result<(), String> {
    let path = store.path(index.collection, index.name());
    let shown = path.display();
    let map = File::open(&path).and_then(|file| SharedMap::read(&file)).map_err(|error| format!("{shown}: {error}"))?;
    if (map.len() as u64, checksum(map.bytes())) != (index.file_bytes, index.checksum) {
        return Err(format!("{shown}: its length or checksum is not what meta says"));
    }
    IndexFile::open(Arc::new(map)).map(drop).map_err(|error| format!("{shown}: {error}"))
}

/// Files that meta does not name: half-made when a server was killed; the next start sweeps them.
fn find_unnamed(instance: &Instance, state: &MetaState, findings: &mut Findings) {
    let known: HashSet<PathBuf> = state
        .files
        .iter()
        .flat_map(|file| {
            let dir = instance.tables_dir(file.collection);
            ["arrow", "del"].map(|extension| dir.join(format!("{}.{extension}", file.id)))
        })
        .chain(
            state.index_files.iter().map(|index| instance.tables_dir(index.collection).join(index.name().to_string())),
        )
        .collect();
    let collections: HashSet<CollectionId> = state.collections.iter().map(|collection| collection.id).collect();
    let Ok(dirs) = std::fs::read_dir(instance.data_dir.join("tables")) else { return };
    for dir in dirs.flatten() {
        let id = dir.file_name().to_str().and_then(|name| name.parse().ok()).map(CollectionId);
        if !id.is_some_and(|id| collections.contains(&id)) {
            findings.remarks.push(format!("{}: meta names no such collection", dir.path().display()));
            continue;
        }
        let Ok(files) = std::fs::read_dir(dir.path()) else { continue };
        for file in files.flatten().filter(|file| !known.contains(&file.path())) {
            findings.remarks.push(format!("{}: meta does not name it", file.path().display()));
        }
    }
}

/// Reads every record. A torn end is what a kill leaves: nothing in it was acknowledged.
fn check_log(instance: &Instance, findings: &mut Findings) {
    match crate::storage::log::Log::check(&instance.log_dir()) {
        Ok(recovery) if recovery.torn_bytes > 0 => findings.remarks.push(format!(
            "{}: {} records, {} bytes of an unfinished one at the end",
            instance.log_dir().display(),
            recovery.record_count,
            recovery.torn_bytes
        )),
        Ok(recovery) => {
            println!("log: {} records can be read", recovery.record_count);
        }
        Err(error) => findings.damage.push(error.to_string()),
    }
}

fn report(data_dir: &Path, findings: &Findings) -> ExitCode {
    println!("table and index files: {} checked, {} bytes", findings.checked_files, findings.checked_bytes);
    for remark in &findings.remarks {
        println!("remark: {remark}");
    }
    for damage in &findings.damage {
        println!("DAMAGED {damage}");
    }
    if findings.damage.is_empty() {
        println!("shoal: {} is sound", data_dir.display());
        ExitCode::SUCCESS
    } else {
        println!("shoal: {} is damaged: restore these files from a copy", data_dir.display());
        ExitCode::from(exit::CORRUPT)
    }
}
