//! What reader processes take: the sum of their proportional shares must be one copy of the data, not one each.

use super::data::Set;
use super::report::mib;
use crate::sys::procfs;

/// Sums over processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    rss_bytes: u64,
    pss_bytes: u64,
    private_bytes: u64,
}

/// What each reader may take besides its share of the data.
const ALLOWED_PER_READER: u64 = 6 << 20;

/// The sums over some processes.
pub(super) fn of(pids: impl Iterator<Item = u32>) -> Memory {
    let mut sum = Memory::default();
    for facts in pids.filter_map(|pid| procfs::read(pid).ok()) {
        sum.rss_bytes += facts.rss_bytes;
        sum.pss_bytes += facts.pss_bytes;
        sum.private_bytes += facts.private_bytes;
    }
    sum
}

/// A row of the table.
pub(super) fn row(set: Set, readers: usize, memory: Memory) -> Vec<String> {
    // A row: its vector, its key, its timestamp.
    let data = (set.rows() * (set.dim() * size_of::<f32>() + 16)) as u64;
    let allowed = data + data / 10 + readers as u64 * ALLOWED_PER_READER;
    let numbers = [data, memory.rss_bytes, memory.pss_bytes, memory.private_bytes, allowed];
    std::iter::once(readers.to_string()).chain(numbers.map(mib)).collect()
}
