//! The writer: owns the insert buffer and the flush pipeline; the only process that changes anything.
//! Start at `commit.rs`. Uses every folder below; no async.
//! Invariant: an operation is acknowledged after its log group is durable, it is wholly in place, and `visible_ts` covers it.

use std::process::ExitCode;

use crate::ipc::control::RoleContext;

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let _ = context;
    todo!()
}
