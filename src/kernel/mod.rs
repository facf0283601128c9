//! Distances between vectors with SIMD, chosen once per process.
//! Start at `dispatch.rs`. Uses `types`; does no I/O. Invariant: every SIMD path has a scalar twin and a test that they agree.
#![allow(unsafe_code, reason = "SIMD intrinsics")]
