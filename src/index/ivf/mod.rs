//! Inverted lists: k-means puts every row into the list of its nearest centroid, a search looks into the nearest lists.
//! Both kinds hold 8-bit codes: IVF_SQ8 trusts them, IVF_FLAT finds what the vectors of its lists would (`sieve.rs`).
//! Start at `search.rs`; `layout.rs` is the format (FORMAT.md), `build.rs` and `kmeans.rs` make it. Uses `kernel`, `types`.
//! Invariants: an image is searched where it lies, unchanged and unaligned if need be; whatever its bytes are, a search reads
//! within it; the same data, parameters and seed give the same image on any number of threads and any CPU.

mod build;
mod kmeans;
mod layout;
mod search;
mod settings;
mod sieve;

pub use build::{IvfBuilder, IvfParameters};
pub use layout::Ivf;
pub(super) use layout::MAGIC;
pub use search::{IvfScratch, IvfSearch};
pub use settings::IvfSettings;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
