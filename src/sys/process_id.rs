//! The number of this process without a system call: searches ask for it to notice a fork.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use memmap2::MmapMut;
use nix::libc;

/// A page that the kernel wipes in every forked child. Made once and never unmapped; no lock, which a fork could leave held.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// The number of this process.
pub fn present() -> u32 {
    let page = PAGE.load(Ordering::Acquire);
    let page = if page.is_null() { make_page() } else { page };
    // SAFETY: it is null or the beginning of a page that stays mapped, and nobody reads or writes that in another way.
    let Some(number) = (unsafe { page.as_ref() }) else { return std::process::id() };
    match number.load(Ordering::Relaxed) {
        0 => {
            let present = std::process::id();
            number.store(present, Ordering::Relaxed);
            present
        }
        present => present,
    }
}

/// Null when the kernel cannot wipe pages.
#[cold]
fn make_page() -> *mut AtomicU32 {
    let wiped = MmapMut::map_anon(size_of::<AtomicU32>()).ok().filter(|page| {
        let (start, len) = (page.as_ptr().cast_mut().cast(), page.len());
        // SAFETY: it is mapped and ours; what is wiped is the child's copy, which nothing has been read from yet.
        unsafe { libc::madvise(start, len, libc::MADV_WIPEONFORK) == 0 }
    });
    let Some(mut page) = wiped else { return ptr::null_mut() };
    let fresh = page.as_mut_ptr().cast();
    match PAGE.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            std::mem::forget(page);
            fresh
        }
        // Another thread was sooner: this page is unmapped.
        Err(other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::test_child::Child;

    #[test]
    fn a_child_and_its_child_have_numbers_of_their_own() {
        assert_eq!(present(), std::process::id());
        let child = Child::fork(|| {
            let is_own = present() == std::process::id() && present() == std::process::id();
            let grandchild = Child::fork(|| i32::from(present() != std::process::id()));
            i32::from(!is_own || grandchild.wait() != Some(0))
        });
        assert_eq!(child.wait(), Some(0));
        assert_eq!(present(), std::process::id());
    }
}
