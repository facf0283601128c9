//! The heap and the system.

/// Gives free heap back to the system; costs some tenths of a millisecond, so only after something large.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's malloc_trim may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
