//! Hierarchical navigable small worlds (Malkov and Yashunin, 2016) in one flat image: links of every level in blocks of one
//! size, vectors from the table's own column or as 8-bit or 16-bit copies.
//! Start at `search.rs`; `layout.rs` is the format (FORMAT.md), `build.rs` makes it. Uses `kernel`, `types`.
//! Invariants: an image is searched where it lies, unchanged and unaligned if need be; whatever its bytes are, a search reads
//! within it; the same data, parameters and seed give the same image on any number of threads and any CPU.

mod build;
mod layout;
mod link;
mod search;
mod settings;
mod walk;

pub use build::{HnswBuilder, HnswParameters};
pub(super) use layout::MAGIC;
pub use layout::{Encoding, Hnsw};
pub use search::{HnswScratch, HnswSearch};
pub use settings::HnswSettings;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
