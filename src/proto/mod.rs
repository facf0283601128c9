//! Milvus messages and how they become ours and back: schemas, rows, requests, results, errors.
//! Start at `status.rs` and `rows.rs`. Uses `types`, `config`; knows nothing of processes or files.

/// Messages of `milvus.proto.common`.
#[allow(missing_docs, clippy::all, reason = "generated from proto/common.proto")]
pub mod common {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.common.rs"));
}
/// Messages of `milvus.proto.schema`.
#[allow(missing_docs, clippy::all, reason = "generated from proto/schema.proto")]
pub mod schema {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.schema.rs"));
}
/// Messages of `milvus.proto.milvus`.
#[allow(missing_docs, clippy::all, reason = "generated from proto/milvus.proto")]
pub mod milvus {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.milvus.rs"));
}
/// Messages of `milvus.proto.rg`.
#[allow(missing_docs, clippy::all, reason = "generated from proto/rg.proto")]
pub mod rg {
    include!(concat!(env!("OUT_DIR"), "/milvus.proto.rg.rs"));
}

mod arrays;
pub mod columns;
pub mod instants;
mod json;
mod names;
pub mod rows;
pub mod schemas;
pub mod status;
mod vectors;
