//! What may be configured, and every limit. Start at `server.rs` (options of `shoal serve`) and `limits.rs`.
//! Uses `types` only.

mod instance;
pub mod limits;
mod server;

pub use instance::Instance;
pub use server::{Durability, LogFormat, ServerConfig};
