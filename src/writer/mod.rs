//! The writer: owns the insert buffer and the flush pipeline; the only process that changes anything.
//! Start at `commit.rs`, then `serialise.rs` and `recover.rs`. Uses every folder below; no async.
//! Invariant: an operation is acknowledged after its log group is durable, it is wholly in place, and `visible_ts` covers it.

mod array_operators;
mod buffer;
mod clock;
mod commit;
mod compactions;
mod ddl;
mod ddl_aliases;
mod ddl_collections;
mod ddl_databases;
mod ddl_fields;
mod ddl_indexes;
mod ddl_load;
mod ddl_partitions;
mod deletes;
mod engine;
mod fill;
mod flush;
mod huge_pages;
mod indexing;
mod keys;
mod maintain;
mod mem_manager;
mod mem_table;
mod merge;
mod merge_policy;
mod operation;
mod output;
mod partial;
mod properties;
mod recover;
mod resolve;
mod rows_operation;
mod run;
mod serialise;
mod state;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard};

pub use run::run;

/// Locks. A thread that panicked ends the writer, so nobody goes on with what it left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a thread that panics while it holds a lock ends the writer")
}
