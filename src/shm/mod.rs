//! What the writer publishes and every reader attaches to: control root, catalog, manifests, data files, reader slots.
//! Start at FORMAT.md and `manifest.rs`, then `publish.rs` (the writer's side) and `attach.rs` (the readers' side).
//! Uses `format`, `sys`, `config`. Invariant: one writer per byte; what was published is replaced, never changed.

pub mod attach;
pub mod control;
#[cfg(test)]
mod fixture;
pub mod manifest;
mod paths;
pub mod publish;
pub mod readers;
