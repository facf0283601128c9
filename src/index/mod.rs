//! Structures that find the nearest rows of one file: build and search, over mapped bytes, in place.
//! Start at `top_k.rs` and `flat.rs`. Uses `kernel`, `types`. Invariant: no heap proportional to the data while searching.

pub mod flat;
pub mod graph;
mod top_k;

pub use top_k::{Hit, TopK};
