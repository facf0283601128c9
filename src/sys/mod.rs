//! Every system call, memory map and fork of ours, behind safe functions; the fence around `unsafe` outside `kernel/`.
//! Start at `map.rs`. Uses `types`; knows nothing of tables, requests or roles.
//! Invariant: a file is mapped only after its bytes were allocated, so no access through a map can raise SIGBUS.
#![allow(unsafe_code, reason = "this folder is the fence")]

pub mod clock;
pub mod eventfd;
pub mod map;
pub mod memfd;
#[cfg(test)]
pub mod test_child;
