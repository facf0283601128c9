//! Structures that find the nearest rows of one file: build and search, over mapped bytes, in place.
//! Start at `spec.rs` (what an index is), `build.rs` and `open.rs` (the trait pair); `graph`, `hnsw` and `ivf` are the kinds.
//! Uses `kernel`, `types`.
//! Invariant: no heap proportional to the data while searching.

mod build;
mod codes;
mod error;
mod exact;
mod file;
pub mod flat;
pub mod graph;
mod header;
pub mod hnsw;
pub mod ivf;
mod open;
mod packed;
mod queries;
pub mod spec;
mod top_k;
mod twins;

pub use build::{BuildIndex, BuildProgress, builder};
pub use error::IndexError;
pub use file::{IMAGE_OFFSET, IndexFile, IndexHeader, encode_header};
pub use open::{IndexRequest, IndexScratch, OpenIndex, SearchIndex, is_scan_cheaper};
pub use queries::{Queries, QueryValues, VectorColumn, vector_element};
pub use top_k::{Hit, TopK};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial;
