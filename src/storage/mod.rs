//! What survives a power cut: the log, the durable table files, and meta. Used by the writer only.
//! Start at `meta.rs`. Uses `format`, `sys`, SQLite.
//! Invariant: meta never names a file whose bytes are not durable.

mod directory;
pub mod log;
pub mod meta;
pub mod tables;
