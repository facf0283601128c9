//! The name of a process in `ps`: the argument area is written over, as PostgreSQL and nginx do.
//!
//! The kernel shows what lies between `arg_start` and `arg_end`, and goes on into the environment area behind it when
//! the last argument byte is not 0. So the environment's strings are first moved to the heap, and then both areas are room.

use std::sync::OnceLock;

use super::procfs;

/// First address and length of the room.
static AREA: OnceLock<Option<(usize, usize)>> = OnceLock::new();

/// Finds the room and moves the environment out of it. Only from a process with one thread; otherwise, and where the
/// kernel does not say where the arguments are, titles are left alone. Once per program; children inherit it.
pub fn prepare() {
    AREA.get_or_init(|| {
        if procfs::own_thread_count().ok()? != 1 {
            return None;
        }
        let area = find_area()?;
        for (key, value) in std::env::vars_os() {
            // SAFETY: this is the only thread, so nobody reads or writes the environment meanwhile.
            unsafe { std::env::set_var(key, value) }
        }
        Some(area)
    });
}

/// Sets what `ps` shows, cut to the room there is, and the kernel's 15-byte name.
pub fn set(title: &str) {
    let short: Vec<u8> = title.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(short) {
        let _ = rustix::thread::set_name(&name);
    }
    let Some(Some((start, len))) = AREA.get().copied() else { return };
    let kept = title.len().min(len - 1);
    let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: `prepare` found `len` bytes of this process's argument and environment strings at `start`, writable and
    // never unmapped; what pointed into the environment part was moved, what points into the arguments (`std::env::args`)
    // still finds a 0 byte before the end; `kept < len`.
    unsafe {
        std::ptr::write_bytes(area, 0, len);
        std::ptr::copy_nonoverlapping(title.as_ptr(), area, kept);
    }
}

/// `arg_start` and the distance to `env_end`, when the environment follows the arguments at once.
fn find_area() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = procfs::stat_fields(&stat)?.collect();
    let address = |field: usize| fields.get(field - 3)?.parse::<usize>().ok().filter(|address| *address != 0);
    let (arg_start, arg_end, env_start, env_end) = (address(48)?, address(49)?, address(50)?, address(51)?);
    let end = if env_start == arg_end && env_end > env_start { env_end } else { arg_end };
    (end > arg_start + 1).then_some((arg_start, end - arg_start))
}
