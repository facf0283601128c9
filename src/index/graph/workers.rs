//! Threads over pieces of one array: who does which piece is left to chance, what comes out is not.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` with every piece of `items` (`piece_len` elements) and its first index, on `threads` threads, each with
/// memory of its own from `make`; `done` gets the number of elements finished so far. Where the system gives fewer threads,
/// those that there are do all.
pub(in crate::index) fn for_each_piece<T: Send, S>(
    threads: usize,
    items: &mut [T],
    piece_len: usize,
    make: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize, &mut [T]) + Sync,
    done: impl Fn(usize) + Sync,
) {
    let pieces = Mutex::new(items.chunks_mut(piece_len).enumerate());
    let finished = AtomicUsize::new(0);
    let run = || {
        let mut state = make();
        loop {
            // A panicked thread ends the build when the scope ends; the rest may go on until then.
            let piece = pieces.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
            let Some((index, piece)) = piece else { return };
            work(&mut state, index * piece_len, piece);
            done(finished.fetch_add(piece.len(), Ordering::Relaxed) + piece.len());
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let started = std::thread::Builder::new().spawn_scoped(scope, run);
            if started.is_err() {
                break;
            }
        }
        run();
    });
}
