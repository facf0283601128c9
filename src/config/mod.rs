//! What may be configured, and every limit. Start at `server.rs` (what a server is told), `options.rs` (flags and file) and `limits.rs`.
//! Uses `types` only.

pub mod exit;
mod instance;
pub mod limits;
mod options;
mod server;
pub mod units;

pub use instance::Instance;
pub use options::Options;
pub use server::{Durability, LogFormat, ServerConfig};
