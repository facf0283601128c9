//! The gateway: Milvus gRPC on tokio. Limits, routes by method; passes message bytes through undecoded.
//! Start at `service.rs`. Uses `ipc`, `proto`; holds no data: no storage, no index, no shm.
//!
//! One thread does everything: a call is a few microseconds of framing, the work is done by searchers and the writer.
//! `calls.rs` is a pool's client for async callers, `wire.rs` gRPC's framing, `local.rs` what needs no other process.
//! Invariant: a call of a known method is answered with gRPC OK and a message whose `status` says what went wrong, because
//! clients repeat most gRPC errors for minutes.

mod authority;
mod calls;
pub mod client;
mod local;
mod replies;
mod role;
mod service;
mod wire;

pub use role::run;

#[cfg(test)]
mod tests;
