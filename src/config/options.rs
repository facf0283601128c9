//! What the operator said: the flags of `shoal serve` and, with the same names, the keys of its configuration file.
//!
//! One struct is both, so that a flag without a key cannot exist. Everything is optional here; [`Options::resolve`] fills in
//! the defaults and checks the whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::limits::{BUILDER_THREADS_MAX, SEARCHERS_MAX};
use super::units::{Size, Span};
use super::{Durability, LogFormat, ServerConfig};
use crate::types::{Error, ErrorKind, Result};

/// Smallest insert buffer: less would not hold one batch of ordinary vectors.
const INSERT_BUFFER_MIN: u64 = 1 << 20;
/// Shortest flush interval: each flush makes a file and syncs it.
const FLUSH_INTERVAL_MIN: Duration = Duration::from_millis(10);

macro_rules! options {
    ($($(#[$attribute:meta])* $name:ident: $type:ty),* $(,)?) => {
        /// Flags of `shoal serve`; keys of its configuration file (`--shm-dir` is `shm_dir` there).
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, clap::Args)]
        #[serde(default, deny_unknown_fields)]
        pub struct Options {
            $($(#[$attribute])* pub $name: Option<$type>,)*
        }

        impl Options {
            /// These, and where they say nothing, the others.
            #[must_use]
            pub fn or(self, others: Options) -> Options {
                Options { $($name: self.$name.or(others.$name),)* }
            }

            /// The keys of the configuration file.
            pub const KEYS: &[&str] = &[$(stringify!($name)),*];
        }
    };
}

options! {
    /// Number of searcher processes [default: number of CPU cores]
    #[arg(long, value_name = "N")]
    searchers: usize,
    /// Threads that build indexes, at low priority [default: number of CPU cores]
    #[arg(long, value_name = "N")]
    builder_threads: usize,
    /// Address of the Milvus gRPC port, `host:port` or `unix:<path>`; may be given several times; port 0 picks a free one
    /// [default: 127.0.0.1:19530]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Directory on a tmpfs for the shared copy of the data [default: /dev/shm]
    #[arg(long, value_name = "DIR")]
    shm_dir: PathBuf,
    /// Most bytes of table files in shared memory; 0 maps all of them from disk [default: what is free]
    #[arg(long, value_name = "SIZE")]
    shm_bytes_max: Size,
    /// Most bytes of rows that are not in table files yet; at this size writers wait [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    insert_buffer_size: Size,
    /// Rows are written to table files at this interval [default: 1s]
    #[arg(long, value_name = "TIME")]
    auto_flush_interval: Span,
    /// When a write is acknowledged: `fsync` = it survives a power cut, `os` = it survives a killed process [default: fsync]
    #[arg(long, value_enum)]
    durability: Durability,
    /// How log lines on stderr look [default: text]
    #[arg(long, value_enum)]
    log_format: LogFormat,
    /// Rows after which a table file is written at once [default: 1048576]
    #[arg(long, value_name = "N", hide_short_help = true)]
    table_file_rows_max: u64,
    /// Bytes after which a table file is written at once [default: 64MiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    table_file_bytes_max: Size,
    /// Merging stops at table files of this size [default: 1GiB]
    #[arg(long, value_name = "SIZE", hide_short_help = true)]
    index_file_size: Size,
    /// How long deleted rows are kept for readers of older snapshots [default: 60s]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    snapshot_retention: Span,
    /// How long a write waits for room in the insert buffer before it fails as "try again" [default: 10s]
    #[arg(long, value_name = "TIME", hide_short_help = true)]
    buffer_wait_max: Span,
}

impl Options {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has a key that no option has: the message names it and its line.
    pub fn read(path: &Path) -> Result<Options> {
        let refused = |why: String| {
            Error::new(ErrorKind::InvalidParameter, format!("cannot use configuration file {}: {why}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        toml::from_str(&text).map_err(|error| refused(error.to_string().trim_end().to_owned()))
    }

    /// Fills in the defaults and checks everything.
    ///
    /// # Errors
    /// When a value is out of its range; the message names option and range.
    pub fn resolve(self) -> Result<ServerConfig> {
        let defaults = ServerConfig::default();
        let size = |size: Option<Size>, default: u64| size.map_or(default, |size| size.0);
        let span = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
        let config = ServerConfig {
            listen: self.listen.unwrap_or(defaults.listen),
            searchers: self.searchers.unwrap_or(defaults.searchers.clamp(1, SEARCHERS_MAX)),
            builder_threads: self.builder_threads.unwrap_or(defaults.builder_threads.clamp(1, BUILDER_THREADS_MAX)),
            shm_dir: self.shm_dir.unwrap_or(defaults.shm_dir),
            shm_bytes_max: self.shm_bytes_max.map(|size| size.0).or(defaults.shm_bytes_max),
            insert_buffer_size: size(self.insert_buffer_size, defaults.insert_buffer_size),
            auto_flush_interval: span(self.auto_flush_interval, defaults.auto_flush_interval),
            table_file_rows_max: self.table_file_rows_max.unwrap_or(defaults.table_file_rows_max),
            table_file_bytes_max: size(self.table_file_bytes_max, defaults.table_file_bytes_max),
            index_file_size: size(self.index_file_size, defaults.index_file_size),
            snapshot_retention: span(self.snapshot_retention, defaults.snapshot_retention),
            buffer_wait_max: span(self.buffer_wait_max, defaults.buffer_wait_max),
            durability: self.durability.unwrap_or(defaults.durability),
            log_format: self.log_format.unwrap_or(defaults.log_format),
        };
        check(&config)?;
        Ok(config)
    }
}

fn check(config: &ServerConfig) -> Result<()> {
    let rules = [
        (!config.listen.is_empty(), "listen must name at least one address".to_owned()),
        (
            (1..=SEARCHERS_MAX).contains(&config.searchers),
            format!("searchers must be 1 to {SEARCHERS_MAX}, not {}", config.searchers),
        ),
        (
            (1..=BUILDER_THREADS_MAX).contains(&config.builder_threads),
            format!("builder_threads must be 1 to {BUILDER_THREADS_MAX}, not {}", config.builder_threads),
        ),
        (
            config.insert_buffer_size >= INSERT_BUFFER_MIN,
            format!("insert_buffer_size must be at least 1MiB, not {} bytes", config.insert_buffer_size),
        ),
        (
            config.auto_flush_interval >= FLUSH_INTERVAL_MIN,
            format!("auto_flush_interval must be at least 10ms, not {:?}", config.auto_flush_interval),
        ),
        (
            (1..=u64::from(u32::MAX)).contains(&config.table_file_rows_max),
            format!("table_file_rows_max must be 1 to {}, not {}", u32::MAX, config.table_file_rows_max),
        ),
        (config.table_file_bytes_max > 0, "table_file_bytes_max must be above 0".to_owned()),
        (config.index_file_size > 0, "index_file_size must be above 0".to_owned()),
    ];
    match rules.into_iter().find(|(holds, _)| !holds) {
        Some((_, message)) => Err(Error::new(ErrorKind::InvalidParameter, message)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Options> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shoal.toml");
        std::fs::write(&path, text).unwrap();
        Options::read(&path)
    }

    #[test]
    fn a_file_sets_what_it_names_and_flags_win() {
        let file =
            written("searchers = 3\nshm_bytes_max = 0\ninsert_buffer_size = \"8MiB\"\ndurability = \"os\"\n").unwrap();
        let flags = Options { searchers: Some(5), ..Options::default() };
        let config = flags.or(file).resolve().unwrap();
        assert_eq!((config.searchers, config.shm_bytes_max, config.insert_buffer_size), (5, Some(0), 8 << 20));
        assert_eq!((config.durability, config.log_format), (Durability::Os, LogFormat::Text));
    }

    #[test]
    fn nothing_said_is_the_default() {
        let config = Options::default().resolve().unwrap();
        assert_eq!(ServerConfig { searchers: 1, ..config }, ServerConfig { searchers: 1, ..ServerConfig::default() });
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = written("serchers = 3\n").unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameter);
        assert!(error.message.contains("serchers") && error.message.contains("shoal.toml"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let wrong = [
            ("searchers = 0", "searchers"),
            ("searchers = 100000", "searchers"),
            ("builder_threads = 0", "builder_threads"),
            ("listen = []", "listen"),
            ("insert_buffer_size = 5", "insert_buffer_size"),
            ("auto_flush_interval = \"1ms\"", "auto_flush_interval"),
            ("table_file_rows_max = 0", "table_file_rows_max"),
        ];
        for (text, name) in wrong {
            let error = written(text).unwrap().resolve().unwrap_err();
            assert!(error.message.starts_with(name), "{text}: {error}");
        }
        for text in ["insert_buffer_size = -1", "durability = \"maybe\"", "auto_flush_interval = 1", "searchers = "] {
            assert!(written(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Options::read(Path::new("/no/such/shoal.toml")).unwrap_err();
        assert!(error.message.contains("/no/such/shoal.toml"), "{error}");
    }
}
