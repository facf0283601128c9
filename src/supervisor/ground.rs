//! What a server stands on: the data directory, its lock, the run directory, the directory in shared memory.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Roles;
use crate::config::{Instance, ServerConfig};
use crate::ipc::progress::ProgressBlock;
use crate::sys::lock::{DirLock, LockError, LockOwner};
use crate::sys::{files, process, procfs};
use crate::types::{Error, ErrorKind, Result};

/// Says in `<shm dir>/` whose it is, for `shoal gc`.
pub const OWNER_FILE: &str = "owner.json";
/// How long a start waits for the children of a killed supervisor to end: the kernel may have gigabytes to unmap.
const DEAD_OWNER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Content of [`OWNER_FILE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShmOwner {
    /// The instance; its data directory's LOCK says whether it lives.
    pub instance: Instance,
}

/// A locked data directory with everything of a former server swept away.
#[derive(Debug)]
pub(super) struct Ground {
    /// Paths.
    pub(super) instance: Instance,
    /// Only the writer inherits it.
    pub(super) lock: Option<DirLock>,
}

impl Ground {
    /// Makes the data directory if there is none, locks it, removes what a dead server left, makes the directories.
    ///
    /// # Errors
    /// Of kind `InUse` when a server runs on it; those of the file system.
    pub(super) fn take(data_dir: &Path, config: &ServerConfig, roles: &Roles) -> Result<Ground> {
        process::set_private_umask();
        files::make_private_dir(data_dir)
            .map_err(|error| Error::io(format_args!("make data directory {}", data_dir.display()), &error))?;
        // Absolute: whoever attaches has another working directory.
        let shm_parent = config.shm_dir.canonicalize().ok().filter(|dir| dir.is_dir());
        let shm_parent = shm_parent.ok_or_else(|| {
            let shown = config.shm_dir.display();
            let message = format!("cannot use {shown} for shared memory: it is no directory; pass another --shm-dir");
            Error::new(ErrorKind::InvalidParameter, message)
        })?;
        let instance = Instance::new(data_dir, &shm_parent)?;
        let lock = take_lock(&instance, data_dir)?;
        let ground = Ground { instance, lock: Some(lock) };
        ground.prepare(roles).inspect_err(|_| ground.sweep(roles))?;
        Ok(ground)
    }

    fn prepare(&self, roles: &Roles) -> Result<()> {
        let instance = &self.instance;
        let run_dir = instance.run_dir();
        for dir in [instance.log_dir(), instance.data_dir.join("tables"), run_dir.clone()] {
            files::make_private_dir(&dir).map_err(|error| Error::io(format_args!("make {}", dir.display()), &error))?;
        }
        self.sweep(roles);
        std::fs::DirBuilder::new()
            .create(&instance.shm_dir)
            .map_err(|error| Error::io(format_args!("make {} in shared memory", instance.shm_dir.display()), &error))?;
        write_json(&instance.shm_dir.join(OWNER_FILE), &ShmOwner { instance: instance.clone() })?;
        write_json(&instance.description_path(), instance)?;
        process::set_variable("TMPDIR", run_dir.as_os_str())
            .map_err(|error| Error::io(format_args!("point TMPDIR to {}", run_dir.display()), &error))
    }

    /// Removes what lives only as long as a server: shared memory and the content of the run directory. Failures are
    /// logged: the server can do without them being gone, and the next start tries again.
    fn sweep(&self, roles: &Roles) {
        // A former server may have used another --shm-dir.
        let former = std::fs::read(self.instance.description_path()).ok();
        let former = former.and_then(|bytes| serde_json::from_slice::<Instance>(&bytes).ok());
        if let Some(former) = former.filter(|former| former.name == self.instance.name) {
            remove_shared(&former, roles.remove_blocks);
        }
        remove_shared(&self.instance, roles.remove_blocks);
        if let Err(error) = files::empty_dir(&self.instance.run_dir()) {
            tracing::warn!("cannot empty {}: {error}", self.instance.run_dir().display());
        }
    }

    /// Leaves the data directory as a stopped server leaves it: durable files only.
    pub(super) fn clear(mut self, roles: &Roles) {
        self.sweep(roles);
        if let Some(Err(error)) = self.lock.take().map(DirLock::release_and_remove) {
            tracing::warn!("cannot remove {}: {error}", self.instance.lock_path().display());
        }
    }
}

/// Removes an instance's files in shared memory: only a directory of the name that instances have, never a link. The caller
/// knows that no server lives there.
pub fn remove_shared(instance: &Instance, remove_blocks: fn(&Instance)) {
    remove_blocks(instance);
    ProgressBlock::remove(instance);
    let dir = &instance.shm_dir;
    let expected = format!("shoal-{}", instance.name);
    if dir.file_name().is_none_or(|name| name != expected.as_str()) {
        return;
    }
    match std::fs::symlink_metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {
            if let Err(error) = std::fs::remove_dir_all(dir) {
                tracing::warn!("cannot remove {}: {error}", dir.display());
            }
        }
        Ok(_) => tracing::warn!("{} is no directory; it is left alone", dir.display()),
        Err(_) => {}
    }
}

fn take_lock(instance: &Instance, shown: &Path) -> Result<DirLock> {
    let owner = LockOwner::this_process();
    let path = instance.lock_path();
    let deadline = Instant::now() + DEAD_OWNER_WAIT_MAX;
    loop {
        match DirLock::take(&path, &owner) {
            Ok(lock) => return Ok(lock),
            Err(LockError::Io(error)) => return Err(Error::io(format_args!("lock {}", path.display()), &error)),
            Err(LockError::Held(Some(holder))) if is_dead(holder.pid) && Instant::now() < deadline => {}
            Err(LockError::Held(holder)) => return Err(in_use(shown, holder)),
        }
    }
}

/// The supervisor itself is gone, only its writer still ends.
fn is_dead(pid: u32) -> bool {
    procfs::read(pid).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |facts| facts.is_zombie)
}

fn in_use(data_dir: &Path, holder: Option<LockOwner>) -> Error {
    let shown = data_dir.display();
    let who = holder.map_or_else(
        || "another process".to_owned(),
        |holder| {
            let started = UNIX_EPOCH + Duration::from_millis(holder.started_unix_ms);
            let minutes = SystemTime::now().duration_since(started).map_or(0, |since| since.as_secs() / 60);
            format!("pid {} (\"{}\", for {minutes} min)", holder.pid, holder.command)
        },
    );
    Error::new(
        ErrorKind::InUse,
        format!(
            "cannot open data directory {shown}: it is in use by {who}; stop that server (shoal stop {shown}) or pass \
             another data directory"
        ),
    )
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| Error::internal(error.to_string()))?;
    files::write_whole(path, &bytes).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
}
