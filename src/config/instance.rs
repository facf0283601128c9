//! Where one database lives: its data directory and its files in shared memory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::types::{CollectionId, Error, Result};

/// Paths of one database. Two servers never share an instance: its name carries a hash of the canonical data path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `<last part of the data path>-<16 hex digits>`.
    pub name: String,
    /// Canonical data directory.
    pub data_dir: PathBuf,
    /// Directory of the files in shared memory: `<shm-dir>/shoal-<name>`.
    pub shm_dir: PathBuf,
}

impl Instance {
    /// The instance of an existing data directory.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be resolved.
    pub fn new(data_dir: &Path, shm_parent: &Path) -> Result<Instance> {
        let canonical = data_dir
            .canonicalize()
            .map_err(|error| Error::io(format_args!("open data directory {}", data_dir.display()), &error))?;
        let last = canonical.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let kept: String =
            last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).take(32).collect();
        let hash = fnv1a(canonical.as_os_str().as_encoded_bytes());
        let name = format!("{kept}-{hash:016x}");
        let shm_dir = shm_parent.join(format!("shoal-{name}"));
        Ok(Instance { name, data_dir: canonical, shm_dir })
    }

    /// The lock file of the data directory.
    pub fn lock_path(&self) -> PathBuf {
        self.data_dir.join("LOCK")
    }

    /// The catalog of table files.
    pub fn meta_path(&self) -> PathBuf {
        self.data_dir.join("meta.sqlite")
    }

    /// Segments of the write-ahead log.
    pub fn log_dir(&self) -> PathBuf {
        self.data_dir.join("log")
    }

    /// Durable table files of a collection.
    pub fn tables_dir(&self, collection: CollectionId) -> PathBuf {
        self.data_dir.join("tables").join(collection.to_string())
    }

    /// Sockets, the instance description, TMPDIR of the IPC library. Emptied by a clean stop.
    pub fn run_dir(&self) -> PathBuf {
        self.data_dir.join("run")
    }

    /// This description as JSON, for `attach` and the command line: `<data>/run/instance.json`.
    pub fn description_path(&self) -> PathBuf {
        self.run_dir().join("instance.json")
    }

    /// Where the builder writes indexes before the writer takes them over.
    pub fn build_dir(&self) -> PathBuf {
        self.run_dir().join("build")
    }

    /// Growing and `deleted_at` files of a collection that do not fit into shared memory.
    pub fn live_dir(&self, collection: CollectionId) -> PathBuf {
        self.run_dir().join("live").join(collection.to_string())
    }

    /// Published files of a collection.
    pub fn shm_collection_dir(&self, collection: CollectionId) -> PathBuf {
        self.shm_dir.join(collection.to_string())
    }
}

/// FNV-1a, 64 bit: stable over versions, which `std`'s hasher is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
