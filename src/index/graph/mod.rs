//! The quantised graph: every vertex lies in one block with its 8-bit vector and the 1-bit codes of its 32 neighbours, so that
//! a step of a search reads one place and estimates 32 distances at once. After SymphonyQG (SIGMOD 2025) and RaBitQ (SIGMOD 2024).
//! Start at `search.rs`; `layout.rs` is the format (FORMAT.md), `build.rs` makes it. Uses `kernel`, `types`.
//! Invariants: an image is searched where it lies, unchanged and unaligned if need be; whatever its bytes are, a search reads
//! within it; the same data, parameters and seed give the same image on any number of threads and any CPU.

mod build;
mod connect;
mod crowding;
mod encode;
mod filtered;
mod frontier;
mod gather;
mod iterate;
mod layout;
mod partition;
pub(super) mod pool;
mod prune;
mod routes;
mod search;
pub(super) mod space;
pub(super) mod workers;

pub use build::{BuildParameters, Builder, Progress, Stage};
pub(super) use filtered::POOL_SORTED;
pub use iterate::Iteration;
pub use layout::Graph;
pub use search::{Scratch, SearchParameters};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
