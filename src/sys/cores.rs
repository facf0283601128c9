//! Which cores a process may run on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores this process may use.
///
/// # Errors
/// When the kernel does not tell.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect())
}

/// Keeps the first thread of a process on these cores; 0 is the calling thread.
///
/// # Errors
/// When the process is gone, or none of the cores is there.
pub fn pin(pid: u32, cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(pid.cast_signed()), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_runs_where_it_was_told() {
        std::thread::spawn(|| {
            let cores = allowed().unwrap();
            pin(0, &cores[..1]).unwrap();
            assert_eq!(allowed().unwrap(), cores[..1]);
            assert!(pin(0, &[]).is_err());
        })
        .join()
        .unwrap();
    }
}
