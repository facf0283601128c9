//! The requests of the Milvus service, by name and by number, and which role answers each.

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A searcher.
    Read,
    /// The writer.
    Write,
    /// The gateway itself.
    Gateway,
}

macro_rules! methods {
    ($($name:ident $number:literal $route:ident),* $(,)?) => {
        /// A method of the Milvus service that this server answers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "the names are Milvus'")]
        pub enum Method { $($name = $number),* }

        impl Method {
            /// Every method.
            pub const ALL: &[Method] = &[$(Method::$name),*];

            /// The name in the gRPC path.
            pub fn name(self) -> &'static str {
                match self { $(Method::$name => stringify!($name)),* }
            }

            /// Who answers it.
            pub fn route(self) -> Route {
                match self { $(Method::$name => Route::$route),* }
            }
        }
    };
}

methods! {
    Connect 1 Gateway, GetVersion 2 Gateway, CheckHealth 3 Gateway, AllocTimestamp 4 Gateway,
    CreateCollection 10 Write, DropCollection 11 Write, HasCollection 12 Read, DescribeCollection 13 Read,
    BatchDescribeCollection 14 Read, ShowCollections 15 Read, GetCollectionStatistics 16 Read, RenameCollection 17 Write,
    TruncateCollection 18 Write, AlterCollection 19 Write, AlterCollectionField 20 Write, AddCollectionField 21 Write,
    LoadCollection 30 Write, ReleaseCollection 31 Write, GetLoadingProgress 32 Read, GetLoadState 33 Read,
    LoadPartitions 34 Write, ReleasePartitions 35 Write,
    CreatePartition 40 Write, DropPartition 41 Write, HasPartition 42 Read, ShowPartitions 43 Read,
    GetPartitionStatistics 44 Read,
    CreateAlias 50 Write, DropAlias 51 Write, AlterAlias 52 Write, DescribeAlias 53 Read, ListAliases 54 Read,
    CreateIndex 60 Write, DropIndex 61 Write, AlterIndex 62 Write, DescribeIndex 63 Read, GetIndexStatistics 64 Read,
    GetIndexState 65 Read, GetIndexBuildProgress 66 Read,
    Insert 70 Write, Upsert 71 Write, Delete 72 Write, Flush 73 Write, GetFlushState 74 Write, FlushAll 75 Write,
    GetFlushAllState 76 Write,
    Search 80 Read, Query 81 Read, HybridSearch 82 Read,
    CreateDatabase 90 Write, DropDatabase 91 Write, ListDatabases 92 Read, DescribeDatabase 93 Read, AlterDatabase 94 Write,
    GetMetrics 100 Read, GetPersistentSegmentInfo 101 Read, GetQuerySegmentInfo 102 Read, GetReplicas 103 Read,
    ManualCompaction 104 Write, GetCompactionState 105 Write,
}

impl Method {
    /// The method of a gRPC path's last part.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.iter().copied().find(|method| method.name() == name)
    }

    /// The method of a number in a slot.
    pub fn from_number(number: u32) -> Option<Method> {
        Method::ALL.iter().copied().find(|method| *method as u32 == number)
    }
}
