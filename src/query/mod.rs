//! One request on one snapshot: which files, which rows, the nearest of them, their fields.
//! Start at `search.rs` and `retrieve.rs`. Uses `shm` views, `index`, `filter`, `format`; knows nothing of the wire.
//! Invariant: a request sees exactly the rows with `insert_ts <= S` and not `deleted_at <= S`.

mod columns;
mod group;
mod indexed;
mod kept;
mod key;
mod output;
mod partitions;
mod parts;
mod retrieve;
mod search;
mod snapshot;

pub use group::{GroupField, Grouping};
pub use key::keys_of_column;
pub use output::{OutputColumn, OutputRows};
pub use partitions::partitions_of_keys;
pub use parts::{Part, Parts};
pub use retrieve::{RetrieveOptions, Retrieved, count, newest_rows, retrieve};
pub use search::{Search, SearchHits, SearchOptions, search};
pub use snapshot::{MatchingRows, RowAddress, Selection, Snapshot};

#[cfg(test)]
pub(crate) mod tests;
