//! The options of `shoal serve`, as the program uses them.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After fdatasync: a power cut loses nothing acknowledged.
    Fsync,
    /// After the operating system has it: a killed process loses nothing, a power cut may.
    Os,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Everything a server is told at its start. Sent to each role; checked by `cli`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Addresses of the Milvus gRPC port: `host:port` or `unix:<path>`; port 0 picks a free one.
    pub listen: Vec<String>,
    /// Number of searcher processes.
    pub searchers: usize,
    /// Threads that build indexes, at low priority.
    pub builder_threads: usize,
    /// Directory on a tmpfs under which the instance's directory is made.
    pub shm_dir: PathBuf,
    /// Most bytes of table files in shared memory; 0 keeps every table file mapped from disk; `None` = what is free.
    pub shm_bytes_max: Option<u64>,
    /// Most bytes of growing and immutable MemTableFiles.
    pub insert_buffer_size: u64,
    /// A mutable MemTableFile with rows becomes immutable at this interval.
    pub auto_flush_interval: Duration,
    /// A mutable MemTableFile with this many rows becomes immutable at once.
    pub table_file_rows_max: u64,
    /// A mutable MemTableFile of this many bytes becomes immutable at once.
    pub table_file_bytes_max: u64,
    /// Merging stops at this size of a table file in bytes.
    pub index_file_size: u64,
    /// Deleted rows are kept this long for readers of older snapshots.
    pub snapshot_retention: Duration,
    /// How long a write waits for room in the insert buffer before it gets a retryable error.
    pub buffer_wait_max: Duration,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// How log lines look.
    pub log_format: LogFormat,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            listen: vec!["127.0.0.1:19530".to_owned()],
            searchers: std::thread::available_parallelism().map_or(1, usize::from),
            builder_threads: std::thread::available_parallelism().map_or(1, usize::from),
            shm_dir: PathBuf::from("/dev/shm"),
            shm_bytes_max: None,
            insert_buffer_size: 256 << 20,
            auto_flush_interval: Duration::from_secs(1),
            table_file_rows_max: 1 << 20,
            table_file_bytes_max: 64 << 20,
            index_file_size: 1 << 30,
            snapshot_retention: Duration::from_secs(60),
            buffer_wait_max: Duration::from_secs(10),
            durability: Durability::Fsync,
            log_format: LogFormat::Text,
        }
    }
}
