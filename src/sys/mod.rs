//! Every system call, memory map and fork of ours, behind safe functions; the fence around `unsafe` outside `kernel/`.
//! Start at `map.rs` (files) and `process.rs` (fork). Uses `types`; knows nothing of tables, requests or roles.
//! Invariant: a file is mapped only after its bytes were allocated, so no access through a map can raise SIGBUS.
#![allow(unsafe_code, reason = "this folder is the fence")]

pub mod allocate;
pub mod block;
pub mod clock;
pub mod cores;
pub mod eventfd;
pub mod failpoint;
pub mod files;
pub mod lock;
pub mod map;
pub mod memfd;
pub mod memory;
pub mod notify;
pub mod process;
pub mod process_id;
pub mod procfs;
pub mod range_lock;
pub mod sandbox;
pub mod signals;
pub mod space;
#[cfg(test)]
pub mod test_child;
pub mod title;
pub mod tried_lock;
