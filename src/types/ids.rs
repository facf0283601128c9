//! Ids as newtypes, so that two of them cannot be swapped.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A collection; never reused, also not after a drop.
    CollectionId,
    i64
);
id!(
    /// A partition of a collection; unique over all collections.
    PartitionId,
    i64
);
id!(
    /// A MemTableFile and the table file it becomes (Milvus: a segment); never reused.
    FileId,
    i64
);
id!(
    /// A field of a schema; user fields start at 100.
    FieldId,
    i64
);
id!(
    /// An index of a collection.
    IndexId,
    i64
);
id!(
    /// A published version of the catalog or of one collection's manifest; 0 means nothing was published yet.
    Epoch,
    u64
);
id!(
    /// A record's place in the log: 1, 2, 3, ... over all segments; 0 means "before the first".
    Lsn,
    u64
);
