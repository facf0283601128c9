//! A searcher: claims reads from the pool, answers them over mapped files. Cannot write.
//! Start at `requests.rs`. Uses `reader`, `query`, `proto`, `ipc`.

use std::process::ExitCode;

use crate::ipc::control::RoleContext;

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let _ = context;
    todo!()
}
