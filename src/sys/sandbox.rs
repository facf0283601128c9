//! What a process may reach of the file system, once it knows what it needs (Landlock). A kernel without Landlock, or with an older
//! one, confines less or nothing; nothing here depends on it.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};

/// The newest rules this is written for; older kernels keep those they know.
const RULES: ABI = ABI::V5;

/// What stays within reach: files that are open already always do.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Directories and files to read.
    pub read: Vec<PathBuf>,
    /// Files to read and write.
    pub write: Vec<PathBuf>,
    /// Directories in which files may be made, written, renamed and removed.
    pub make: Vec<PathBuf>,
}

/// How far the kernel went along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Everything that was asked for.
    Full,
    /// What this kernel can do.
    Partial,
    /// Nothing: it has no Landlock.
    None,
}

/// Takes everything else away from this thread and all that come from it: no other file can be opened, made, renamed or removed, and
/// no TCP connection made. Paths that do not exist are left out. There is no way back.
///
/// # Errors
/// When the kernel has Landlock and refuses.
pub fn confine(reach: &Reach) -> Result<Confinement, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let make = read | write | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::ConnectTcp)?
        .create()?
        .add_rules(path_beneath_rules(&reach.read, read))?
        .add_rules(path_beneath_rules(&reach.write, write))?
        .add_rules(path_beneath_rules(&reach.make, make))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Confinement::Full,
        RulesetStatus::PartiallyEnforced => Confinement::Partial,
        RulesetStatus::NotEnforced => Confinement::None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;

    use super::*;
    use crate::sys::test_child::Child;

    #[test]
    fn only_what_is_within_reach_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["read", "write", "other"] {
            std::fs::write(path(name), name).unwrap();
        }
        std::fs::create_dir(path("make")).unwrap();
        let read = vec![path("read"), path("missing")];
        let reach = Reach { read, write: vec![path("write")], make: vec![path("make")] };
        let child = Child::fork(|| {
            let is_refused =
                |opened: std::io::Result<File>| opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
            let for_writing = |name| File::options().write(true).open(path(name));
            match confine(&reach) {
                Ok(Confinement::None) => return 7,
                Ok(_) => {}
                Err(_) => return 1,
            }
            let is_right = File::open(path("read")).is_ok()
                && for_writing("write").is_ok()
                && is_refused(for_writing("read"))
                && is_refused(File::open(path("other")))
                && is_refused(File::create(path("new")))
                && std::fs::remove_file(path("read")).is_err()
                && std::fs::write(path("make/new"), "new").is_ok()
                && std::fs::rename(path("make/new"), path("make/whole")).is_ok()
                && std::fs::rename(path("make/whole"), path("whole")).is_err()
                && std::fs::create_dir(path("make/dir")).is_err()
                && std::fs::remove_file(path("make/whole")).is_ok();
            if is_right { 0 } else { 2 }
        });
        let code = child.wait();
        if code == Some(7) {
            eprintln!("this kernel has no Landlock");
        } else {
            assert_eq!(code, Some(0));
        }
    }
}
