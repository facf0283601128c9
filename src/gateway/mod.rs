//! The gateway: Milvus gRPC on tokio. Authenticates, limits, routes by method; passes message bytes through undecoded.
//! Start at `service.rs`. Uses `ipc`, `proto`; holds no data: no storage, no index, no shm.

use std::process::ExitCode;

use crate::ipc::control::RoleContext;

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let _ = context;
    todo!()
}
