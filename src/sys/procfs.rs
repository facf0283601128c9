//! What `/proc` says about a process: memory, CPU time, start.

use std::io;
use std::path::Path;
use std::time::Duration;

/// One process, as `/proc` shows it. Memory is 0 where this user may not look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ProcessFacts {
    /// Resident bytes, shared pages counted whole.
    pub rss_bytes: u64,
    /// Resident bytes, each shared page divided by the number of its users: summed over processes, this is what is really used.
    pub pss_bytes: u64,
    /// Resident bytes that only this process has.
    pub private_bytes: u64,
    /// CPU time so far, user and system.
    pub cpu: Duration,
    /// Ticks since boot when it started: with the pid, it names a process for good.
    pub start_ticks: u64,
    /// It ended and waits to be reaped.
    pub is_zombie: bool,
}

/// Reads the facts of a process.
///
/// # Errors
/// When there is no such process.
pub fn read(pid: u32) -> io::Result<ProcessFacts> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let mut facts = parse_stat(&stat, ticks_per_second())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat cannot be read")))?;
    if let Ok(rollup) = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        (facts.rss_bytes, facts.pss_bytes, facts.private_bytes) = parse_rollup(&rollup);
    }
    Ok(facts)
}

/// Bytes of shared memory that this process maps in huge pages; 0 where the kernel does not say.
pub fn own_huge_bytes() -> u64 {
    sum_of(&std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default(), &["ShmemPmdMapped"])
}

/// Files below a folder that were unlinked while the process still maps them: (inode, bytes mapped). Empty where this user
/// may not look.
pub fn unlinked_maps(pid: u32, folder: &Path) -> Vec<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let folder = format!("{}/", folder.display());
    maps.lines().filter(|line| line.ends_with("(deleted)") && line.contains(&folder)).filter_map(parse_map).collect()
}

/// (inode, length) of a line of `/proc/<pid>/maps`: `start-end permissions offset device inode path`.
fn parse_map(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let length = u64::from_str_radix(end, 16).ok()?.checked_sub(u64::from_str_radix(start, 16).ok()?)?;
    Some((words.nth(3)?.parse().ok()?, length))
}

/// CPU time of a process so far in nanoseconds, all its threads, where the kernel keeps it; in ticks elsewhere.
///
/// # Errors
/// When there is no such process.
pub fn run_time_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += text.split_ascii_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    match sum {
        0 => Ok(u64::try_from(read(pid)?.cpu.as_nanos()).unwrap_or(u64::MAX)),
        _ => Ok(sum),
    }
}

/// Number of threads of this process.
///
/// # Errors
/// When `/proc` is not there.
pub fn own_thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The fields after the command, which may itself hold spaces and brackets. The first is the state (field 3 of proc(5)).
pub(super) fn stat_fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace())
}

fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<ProcessFacts> {
    let fields: Vec<&str> = stat_fields(stat)?.collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    Some(ProcessFacts {
        cpu: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second),
        start_ticks: number(22)?,
        is_zombie: fields.first().is_some_and(|state| matches!(*state, "Z" | "X")),
        ..ProcessFacts::default()
    })
}

/// (Rss, Pss, Private) in bytes.
fn parse_rollup(rollup: &str) -> (u64, u64, u64) {
    let sum = |names: &[&str]| sum_of(rollup, names);
    (sum(&["Rss"]), sum(&["Pss"]), sum(&["Private_Clean", "Private_Dirty", "Private_Hugetlb"]))
}

/// The sum of some lines of a rollup in bytes.
fn sum_of(rollup: &str, names: &[&str]) -> u64 {
    let lines = rollup.lines().filter_map(|line| line.split_once(':'));
    let values = lines.filter(|(name, _)| names.contains(name)).filter_map(|(_, value)| {
        value.trim().strip_suffix(" kB").and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
    });
    values.sum::<u64>() * 1024
}

fn ticks_per_second() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_an_inode_and_a_length() {
        let line =
            "7f0000000000-7f0000010000 r--s 00000000 00:1b 4242                       /dev/shm/x/1.arrow (deleted)";
        assert_eq!(parse_map(line), Some((4242, 0x10000)));
        assert_eq!(parse_map("nonsense"), None);
    }

    #[test]
    fn a_command_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 4242 1 1";
        let facts = parse_stat(stat, 100).unwrap();
        assert_eq!((facts.cpu, facts.start_ticks, facts.is_zombie), (Duration::from_secs(2), 4242, false));
    }

    #[test]
    fn rollup_sums_private_pages() {
        let text = "00-ff ---p 0 0 0 [rollup]\nRss:  12 kB\nPss:  5 kB\nPss_Dirty: 9 kB\nPrivate_Clean: 1 kB\nPrivate_Dirty: 2 kB\n";
        assert_eq!(parse_rollup(text), (12 << 10, 5 << 10, 3 << 10));
        assert_eq!(sum_of("ShmemPmdMapped:     4096 kB\nFilePmdMapped: 1 kB\n", &["ShmemPmdMapped"]), 4 << 20);
    }

    #[test]
    fn this_process_has_memory_and_a_start() {
        let facts = read(std::process::id()).unwrap();
        assert!(facts.rss_bytes > 0 && facts.start_ticks > 0 && !facts.is_zombie);
        assert!(read(u32::MAX).is_err());
    }
}
