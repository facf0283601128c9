//! Distances between vectors with SIMD, chosen once per process.
//! Start at `dispatch.rs`; `tile.rs` and `stream.rs` hold the loops, `lanes.rs` what a SIMD level must offer. Uses nothing of ours; does no I/O.
//! Invariant: one pair of vectors has one distance, to the bit: the order of additions depends on the dimension alone, never
//! on the SIMD level, on how many queries or rows are computed together, or on whether rows are contiguous or listed.
//!
//! Rows may be f32, f16, bf16 or int8 (`element.rs`); queries are f32. Those of whole numbers with int8 rows are `integers.rs`. Codes of quantisers are `codes.rs`.
#![allow(unsafe_code, reason = "SIMD intrinsics")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bits;
mod bytes;
#[cfg(target_arch = "x86_64")]
mod bytes_avx2;
#[cfg(target_arch = "x86_64")]
mod bytes_vnni;
mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_avx2;
#[cfg(target_arch = "x86_64")]
mod codes_avx512;
mod differences;
mod dispatch;
mod element;
mod integers;
mod lanes;
mod rotate;
mod rows;
mod scalar;
mod stream;
mod tabulate;
mod tile;

pub use bits::BitKernels;
pub use bytes::{BYTE_DIM_MAX, ByteKernels, ByteRows};
pub use codes::{CODE_DIM_STEP, CODE_PLANES_MAX, CodeKernels, NEIGHBOURS, NeighbourCodes, QueryTable};
pub use differences::{Coded, Difference, NeighbourBits, interleave};
pub use dispatch::{Kernels, QUERY_TILE};
pub use element::VectorElement;
pub use rotate::{ROTATION_ROUNDS, rotate};
pub use rows::{RowBlock, Rows, VectorRows};
pub use tabulate::{TableScale, WORD_MAX, round_to_words, tabulate};
