//! `shoal gc`: removes the shared memory of servers that are gone.
//!
//! A directory says in `owner.json` whose it is; the lock of that data directory says whether a server lives there. Blocks
//! made with `shm_open` have no such file: theirs is the directory of the same name, or, without one, nobody's.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use crate::config::Instance;
use crate::shm;
use crate::supervisor::{OWNER_FILE, ShmOwner, remove_shared};
use crate::sys::block::{BLOCK_DIR, SharedBlock};
use crate::sys::lock::{DirLock, LockError, LockOwner};
use crate::types::{Error, Result};

/// What every name of ours begins with.
const PREFIX: &str = "shoal-";
/// What the names of our blocks end with.
const BLOCK_SUFFIXES: [&str; 2] = ["-progress", "-readers"];

/// Removes directories and blocks of dead servers and prints what was removed and kept.
pub(super) fn run(shm_dir: &Path) -> Result<ExitCode> {
    let mut living = Vec::new();
    let mut removed = 0;
    for name in names(shm_dir)? {
        let dir = shm_dir.join(&name);
        if !dir.is_dir() || dir.is_symlink() {
            continue;
        }
        let Some(owner) = read_owner(&dir) else {
            println!("kept {}: it does not say whose it is", dir.display());
            continue;
        };
        // The recorded path is not trusted: only the directory that was found may be removed.
        let instance = Instance { shm_dir: dir.clone(), ..owner.instance };
        let shown = instance.data_dir.display();
        match remove_if_dead(&instance) {
            Ok(true) => {
                println!("removed {} of {shown}", dir.display());
                removed += 1;
            }
            Ok(false) => {
                println!("kept {}: a server runs on {shown}", dir.display());
                living.push(instance.name);
            }
            Err(error) => {
                println!("kept {}: cannot tell whether a server runs on {shown}: {error}", dir.display());
                living.push(instance.name);
            }
        }
    }
    removed += remove_blocks(&living, shm_dir)?;
    println!("shoal: removed {removed}, {} in use", living.len());
    Ok(ExitCode::SUCCESS)
}

/// Removes blocks whose instance has no directory left. Servers of another --shm-dir may own them, so only with the default.
fn remove_blocks(living: &[String], shm_dir: &Path) -> Result<usize> {
    let mut removed = 0;
    if shm_dir != Path::new(BLOCK_DIR) {
        return Ok(0);
    }
    for name in names(Path::new(BLOCK_DIR))? {
        let instance = BLOCK_SUFFIXES.iter().find_map(|suffix| name.strip_prefix(PREFIX)?.strip_suffix(suffix));
        let Some(instance) = instance else { continue };
        let is_kept = living.iter().any(|living| living == instance) || is_used(instance);
        if !is_kept && SharedBlock::remove(&name).unwrap_or(false) {
            println!("removed block {name}");
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a process of this user maps a block of the instance: its server keeps its files in another --shm-dir.
fn is_used(instance: &str) -> bool {
    let paths = BLOCK_SUFFIXES.map(|suffix| format!("{BLOCK_DIR}/{PREFIX}{instance}{suffix}"));
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)).any(
        |entry| {
            let maps = std::fs::read_to_string(entry.path().join("maps")).unwrap_or_default();
            maps.lines().any(|line| paths.iter().any(|path| line.ends_with(path.as_str())))
        },
    )
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).map_err(|error| Error::io(format_args!("list {}", dir.display()), &error))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(PREFIX)).collect();
    names.sort();
    Ok(names)
}

fn read_owner(dir: &Path) -> Option<ShmOwner> {
    serde_json::from_slice(&std::fs::read(dir.join(OWNER_FILE)).ok()?).ok()
}

/// Removes the files of an instance whose data directory no server has; `false` when one has it. The lock is held
/// meanwhile, so that no server starts over files that are being removed. A data directory that is gone has no server.
fn remove_if_dead(instance: &Instance) -> std::io::Result<bool> {
    let lock = match DirLock::take(&instance.lock_path(), &LockOwner::this_process()) {
        Ok(lock) => Some(lock),
        Err(LockError::Held(_)) => return Ok(false),
        Err(LockError::Io(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(LockError::Io(error)) => return Err(error),
    };
    remove_shared(instance, shm::readers::remove_block);
    lock.map_or(Ok(()), DirLock::release_and_remove)?;
    Ok(true)
}
