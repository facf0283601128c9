//! Child processes for unit tests: forked, so that they inherit descriptors and maps; killed and reaped when dropped. And
//! small file systems of their own for them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

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

/// Mounts a tmpfs of `bytes` bytes on a directory, for this process only: in a child with one thread. `false` when this
/// machine does not let it.
pub fn mount_small_tmpfs(dir: &Path, bytes: u64) -> bool {
    let (user, group) = (geteuid(), getegid());
    if unshare(CloneFlags::CLONE_NEWNS).is_err() {
        let write = |name: &str, text: String| std::fs::write(format!("/proc/self/{name}"), text);
        let is_mapped = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).is_ok()
            && write("setgroups", "deny".to_owned()).is_ok()
            && write("uid_map", format!("{user} {user} 1")).is_ok()
            && write("gid_map", format!("{group} {group} 1")).is_ok();
        if !is_mapped {
            return false;
        }
    }
    let (root, kind) = (c"/", c"tmpfs");
    let Ok(dir) = CString::new(dir.as_os_str().as_bytes()) else { return false };
    let Ok(options) = CString::new(format!("size={bytes}")) else { return false };
    let private = nix::libc::MS_REC | nix::libc::MS_PRIVATE;
    // SAFETY: every pointer is a NUL-terminated string that lives through the calls, or null where the kernel allows it.
    unsafe {
        nix::libc::mount(std::ptr::null(), root.as_ptr(), std::ptr::null(), private, std::ptr::null()) == 0
            && nix::libc::mount(kind.as_ptr(), dir.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) == 0
    }
}
