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
    /// Nobody: the gateway says by name that it is not supported.
    Refused,
}

/// What a method answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bare `Status`.
    Status,
    /// A message whose field 1 is its status.
    Message,
    /// A stream, or a message without a status in that place: a failure can only be one of gRPC.
    Other,
}

macro_rules! methods {
    ($($name:ident $number:literal $route:ident $form:ident),* $(,)?) => {
        /// A method of the Milvus service.
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

            /// What it answers with.
            pub fn form(self) -> Form {
                match self { $(Method::$name => Form::$form),* }
            }
        }
    };
}

methods! {
    Connect 1 Gateway Message,
    GetVersion 2 Gateway Message,
    CheckHealth 3 Gateway Message,
    AllocTimestamp 4 Gateway Message,
    CreateCollection 10 Write Status,
    DropCollection 11 Write Status,
    HasCollection 12 Read Message,
    DescribeCollection 13 Read Message,
    BatchDescribeCollection 14 Read Message,
    ShowCollections 15 Read Message,
    GetCollectionStatistics 16 Read Message,
    RenameCollection 17 Write Status,
    TruncateCollection 18 Write Message,
    AlterCollection 19 Write Status,
    AlterCollectionField 20 Write Status,
    AddCollectionField 21 Write Status,
    AlterCollectionSchema 22 Write Message,
    LoadCollection 30 Write Status,
    ReleaseCollection 31 Write Status,
    GetLoadingProgress 32 Read Message,
    GetLoadState 33 Read Message,
    LoadPartitions 34 Write Status,
    ReleasePartitions 35 Write Status,
    CreatePartition 40 Write Status,
    DropPartition 41 Write Status,
    HasPartition 42 Read Message,
    ShowPartitions 43 Read Message,
    GetPartitionStatistics 44 Read Message,
    CreateAlias 50 Write Status,
    DropAlias 51 Write Status,
    AlterAlias 52 Write Status,
    DescribeAlias 53 Read Message,
    ListAliases 54 Read Message,
    CreateIndex 60 Write Status,
    DropIndex 61 Write Status,
    AlterIndex 62 Write Status,
    DescribeIndex 63 Read Message,
    GetIndexStatistics 64 Read Message,
    GetIndexState 65 Read Message,
    GetIndexBuildProgress 66 Read Message,
    Insert 70 Write Message,
    Upsert 71 Write Message,
    Delete 72 Write Message,
    Flush 73 Write Message,
    GetFlushState 74 Write Message,
    FlushAll 75 Write Message,
    GetFlushAllState 76 Write Message,
    Search 80 Read Message,
    Query 81 Read Message,
    HybridSearch 82 Read Message,
    CreateDatabase 90 Write Status,
    DropDatabase 91 Write Status,
    ListDatabases 92 Read Message,
    DescribeDatabase 93 Read Message,
    AlterDatabase 94 Write Status,
    GetMetrics 100 Read Message,
    GetPersistentSegmentInfo 101 Read Message,
    GetQuerySegmentInfo 102 Read Message,
    GetReplicas 103 Read Message,
    ManualCompaction 104 Write Message,
    GetCompactionState 105 Write Message,
    GetCompactionStateWithPlans 106 Write Message,
    CreateResourceGroup 110 Read Status,
    DropResourceGroup 111 Read Status,
    UpdateResourceGroups 112 Read Status,
    DescribeResourceGroup 113 Read Message,
    ListResourceGroups 114 Read Message,
    TransferNode 115 Read Status,
    TransferReplica 116 Read Status,
    AddCollectionFunction 200 Refused Status,
    AlterCollectionFunction 201 Refused Status,
    DropCollectionFunction 202 Refused Status,
    Prewarm 203 Refused Message,
    DescribePrewarmTask 204 Refused Message,
    CreateNamespace 205 Refused Message,
    DescribeNamespace 206 Refused Message,
    ListNamespaces 207 Refused Message,
    DropNamespace 208 Refused Message,
    HasNamespace 209 Refused Message,
    GetNamespaceStats 210 Refused Message,
    CalcDistance 211 Refused Message,
    AddCollectionStructField 212 Refused Status,
    Dummy 213 Refused Other,
    RegisterLink 214 Refused Other,
    GetComponentStates 215 Refused Other,
    LoadBalance 216 Refused Status,
    Import 217 Refused Message,
    GetImportState 218 Refused Message,
    ListImportTasks 219 Refused Message,
    CreateCredential 220 Refused Status,
    UpdateCredential 221 Refused Status,
    DeleteCredential 222 Refused Status,
    ListCredUsers 223 Refused Message,
    CreateRole 224 Refused Status,
    AlterRole 225 Refused Status,
    DropRole 226 Refused Status,
    OperateUserRole 227 Refused Status,
    SelectRole 228 Refused Message,
    SelectUser 229 Refused Message,
    OperatePrivilege 230 Refused Status,
    OperatePrivilegeV2 231 Refused Status,
    SelectGrant 232 Refused Message,
    ListIndexedSegment 233 Refused Message,
    DescribeSegmentIndexData 234 Refused Message,
    ReplicateMessage 235 Refused Message,
    BackupRBAC 236 Refused Message,
    RestoreRBAC 237 Refused Status,
    CreatePrivilegeGroup 238 Refused Status,
    DropPrivilegeGroup 239 Refused Status,
    ListPrivilegeGroups 240 Refused Message,
    OperatePrivilegeGroup 241 Refused Status,
    RunAnalyzer 242 Refused Message,
    AddFileResource 243 Refused Status,
    RemoveFileResource 244 Refused Status,
    ListFileResources 245 Refused Message,
    AddUserTags 246 Refused Status,
    DeleteUserTags 247 Refused Status,
    GetUserTags 248 Refused Message,
    ListUsersWithTag 249 Refused Message,
    CreateRowPolicy 250 Refused Status,
    DropRowPolicy 251 Refused Status,
    ListRowPolicies 252 Refused Message,
    UpdateReplicateConfiguration 253 Refused Status,
    GetReplicateConfiguration 254 Refused Message,
    GetReplicateInfo 255 Refused Other,
    CreateReplicateStream 256 Refused Other,
    DumpMessages 257 Refused Other,
    ComputePhraseMatchSlop 258 Refused Message,
    CreateSnapshot 259 Refused Status,
    DropSnapshot 260 Refused Status,
    ListSnapshots 261 Refused Message,
    DescribeSnapshot 262 Refused Message,
    RestoreSnapshot 263 Refused Message,
    RestoreExternalSnapshot 264 Refused Message,
    ExportSnapshot 265 Refused Message,
    GetExportSnapshotState 266 Refused Message,
    GetRestoreSnapshotState 267 Refused Message,
    ListRestoreSnapshotJobs 268 Refused Message,
    PinSnapshotData 269 Refused Message,
    UnpinSnapshotData 270 Refused Status,
    BatchUpdateManifest 271 Refused Status,
    RefreshExternalCollection 272 Refused Message,
    GetRefreshExternalCollectionProgress 273 Refused Message,
    ListRefreshExternalCollectionJobs 274 Refused Message,
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
