//! Child processes for unit tests: forked, so that they inherit descriptors and maps; killed and reaped when dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// A running child.
#[derive(Debug)]
pub struct Child {
    pid: Option<Pid>,
}

impl Child {
    /// Forks; the child runs `run` and exits with its result (101 when it panics). It must not print: another thread of the
    /// test may have held the lock of the output at the fork.
    pub fn fork(run: impl FnOnce() -> i32) -> Child {
        // SAFETY: the child of a threaded process uses only what survives a fork here: system calls, its own maps and the
        // allocator, which glibc puts in order; it leaves through `_exit`.
        match unsafe { fork() }.expect("a test can fork") {
            ForkResult::Parent { child } => Child { pid: Some(child) },
            ForkResult::Child => {
                std::panic::set_hook(Box::new(|_| {}));
                let _ = set_pdeathsig(Signal::SIGKILL);
                let code = catch_unwind(AssertUnwindSafe(run)).unwrap_or(101);
                // SAFETY: ends the process at once, without the parent's destructors and exit handlers.
                unsafe { nix::libc::_exit(code) }
            }
        }
    }

    /// Kills the child (SIGKILL) and waits until the kernel has buried it.
    pub fn kill(mut self) {
        self.bury();
    }

    /// Waits for the child's end and returns its exit code; `None` when a signal ended it.
    pub fn wait(mut self) -> Option<i32> {
        let pid = self.pid.take()?;
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => Some(code),
            _ => None,
        }
    }

    fn bury(&mut self) {
        if let Some(pid) = self.pid.take() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.bury();
    }
}
