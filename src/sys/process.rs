//! Forking children from a process with one thread, and watching them through pidfds.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use rustix::process::{PidfdFlags, Signal as RustixSignal};

use super::{procfs, title};
use crate::config::exit;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the new one's handle.
    Parent(ChildProcess),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

impl Exit {
    /// What an end like this most often comes from, for somebody who sent no signal; empty when the end says it itself.
    pub fn hint(self) -> &'static str {
        match self {
            Exit::Signal(nix::libc::SIGKILL) => "; the kernel does this when memory runs out, see its log",
            Exit::Signal(nix::libc::SIGABRT) => "; most often it got no more memory, see the server's log",
            Exit::Signal(_) | Exit::Code(_) => "",
        }
    }
}

/// A child of this process. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct ChildProcess {
    pid: Pid,
    pidfd: OwnedFd,
}

impl ChildProcess {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Readable once the child has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Reaps it, if it has ended.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(Exit::Code(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Exit::Signal(signal as i32))),
            Ok(_) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end and reaps it.
    pub fn wait(&self) {
        while waitpid(self.pid, None) == Err(nix::Error::EINTR) {}
    }

    /// SIGKILL, through the pidfd: it can hit no other process.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, RustixSignal::KILL);
    }
}

/// Forks. The child dies with its parent, has default signals (those a terminal sends to everyone are ignored: the
/// supervisor decides) and `name` in `ps`.
///
/// # Errors
/// When this process has more than one thread (a fork would copy locks that nobody releases), or the kernel refuses.
pub fn fork(name: &str) -> io::Result<Forked> {
    require_one_thread("fork")?;
    let parent = nix::unistd::getpid();
    // SAFETY: this process has one thread (checked above), so the child may go on like any process.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => {
            let pid = rustix::process::Pid::from_raw(child.as_raw())
                .ok_or_else(|| io::Error::other("fork returned process id 0"))?;
            // A child that cannot be watched must not run.
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
                let _ = rustix::process::kill_process(pid, RustixSignal::KILL);
                let _ = waitpid(child, None);
            })?;
            Ok(Forked::Parent(ChildProcess { pid: child, pidfd }))
        }
        ForkResult::Child => {
            let prepared = prepare_child(parent, name);
            if prepared.is_err() {
                std::process::exit(exit::BUG.into());
            }
            Ok(Forked::Child)
        }
    }
}

fn prepare_child(parent: Pid, name: &str) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(RustixSignal::KILL))?;
    // The parent may have died before the line above: then nobody will send that signal.
    if nix::unistd::getppid() != parent {
        std::process::exit(exit::BUG.into());
    }
    // Nothing here ever starts another program, least of all one with more rights.
    rustix::thread::set_no_new_privs(true)?;
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        let handler = match signal {
            // The terminal sends SIGINT and SIGHUP to every process of a group; the supervisor drains its children itself.
            Signal::SIGINT | Signal::SIGHUP | Signal::SIGPIPE => SigHandler::SigIgn,
            // Rust's own handlers of stack overflow stay.
            Signal::SIGSEGV | Signal::SIGBUS => continue,
            _ => SigHandler::SigDfl,
        };
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler of ours is installed, only the kernel's default or "ignore".
        unsafe { sigaction(signal, &action) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    title::set(name);
    Ok(())
}

/// Sets an environment variable of this process and of the children it makes.
///
/// # Errors
/// When this process has more than one thread.
pub fn set_variable(key: &str, value: &OsStr) -> io::Result<()> {
    require_one_thread("set an environment variable")?;
    // SAFETY: this is the only thread, so nobody reads or writes the environment meanwhile.
    unsafe { std::env::set_var(key, value) }
    Ok(())
}

/// Closes every descriptor above stderr that this program was started with: children must not hold what is not theirs.
/// Only as the first thing a program does, before it opens anything.
pub fn close_inherited() {
    // SAFETY: close_range touches descriptors only; at this point nothing in this program owns one above 2.
    let _ = unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, 0) };
}

/// Lets this process, with all its threads to come, run when nobody else wants to (nice, SCHED_BATCH), and be the first to
/// go when memory is short.
///
/// # Errors
/// When the kernel refuses any of it.
pub fn lower_priority() -> io::Result<()> {
    rustix::process::nice(NICE)?;
    let parameters = nix::libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a local structure that the call only reads; 0 is this process.
    if unsafe { nix::libc::sched_setscheduler(0, nix::libc::SCHED_BATCH, &raw const parameters) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE)
}

/// Of 0 to 19: beside a busy searcher it gets a fortieth of a core.
const NICE: i32 = 15;
/// Of 1000.
const OOM_SCORE: &str = "500";

/// New files are for this user only.
pub fn set_private_umask() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// What a process may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop in an orderly way (SIGTERM).
    Terminate,
    /// End at once (SIGKILL).
    Kill,
    /// Do nothing until told to go on (SIGSTOP).
    Pause,
    /// Go on (SIGCONT).
    Resume,
}

/// Tells a process something. The pid must come from a lock or a cell whose process lives.
///
/// # Errors
/// When there is no such process, or it is somebody else's.
pub fn tell(pid: u32, command: Command) -> io::Result<()> {
    let raw = i32::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let pid = rustix::process::Pid::from_raw(raw).filter(|_| raw > 0);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let signal = match command {
        Command::Terminate => RustixSignal::TERM,
        Command::Kill => RustixSignal::KILL,
        Command::Pause => RustixSignal::STOP,
        Command::Resume => RustixSignal::CONT,
    };
    Ok(rustix::process::kill_process(pid, signal)?)
}

fn require_one_thread(what: &str) -> io::Result<()> {
    match procfs::own_thread_count()? {
        1 => Ok(()),
        count => Err(io::Error::other(format!("cannot {what}: this process has {count} threads, it must have one"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_refused_a_fork() {
        let (keep, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let error = fork("shoal: test").unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
        drop(keep);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn nobody_is_terminated_by_a_pid_that_is_none() {
        assert!(tell(0, Command::Terminate).is_err() && tell(u32::MAX, Command::Terminate).is_err());
    }
}
