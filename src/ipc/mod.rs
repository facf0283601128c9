//! Channels between our processes: the slot pools (requests), the help board (parts of large searches),
//! the control plane (orders and notices), progress cells.
//! Start at `pool.rs`. Uses `sys`, `config`, `types`. Invariant: no lock and no counter that only a live process can put right.

pub mod board;
pub mod control;
pub mod method;
pub mod pool;
pub mod progress;
