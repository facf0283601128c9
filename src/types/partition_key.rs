//! Which partition a row of a collection with a partition key goes to.
//!
//! The choice is part of the stored data: rows stay where they were put, so it must never change. It is FNV-1a (64 bit) over
//! the key's bytes (an integer's eight, little-endian; a string's UTF-8), the halves folded together, modulo the number of
//! partitions.

use super::Keys;

/// The property that makes every search name one partition key.
pub const ISOLATION_PROPERTY: &str = "partitionkey.isolation";

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The places, among `partition_count`, of rows with these partition keys.
pub fn partition_places(keys: &Keys, partition_count: usize) -> Vec<usize> {
    match keys {
        Keys::Int(keys) => keys.iter().map(|key| place(&key.to_le_bytes(), partition_count)).collect(),
        Keys::Text(keys) => keys.iter().map(|key| place(key.as_bytes(), partition_count)).collect(),
    }
}

fn place(key: &[u8], partition_count: usize) -> usize {
    let hash = key.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    // The low bits of FNV-1a mix worst; the upper half makes up for it.
    ((hash ^ hash >> 32) % partition_count.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_are_already_on_disks() {
        assert_eq!(partition_places(&Keys::Int(vec![0, 1, 2, -1, i64::MAX]), 16), PINNED_INT);
        let texts = ["", "a", "tenant_1", "tenant_2"].map(str::to_owned).to_vec();
        assert_eq!(partition_places(&Keys::Text(texts), 16), PINNED_TEXT);
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        for partition_count in [1, 2, 16, 1024] {
            let per_partition = 50;
            let mut counts = vec![0; partition_count];
            let keys = Keys::Int((0..(partition_count * per_partition) as i64).collect());
            partition_places(&keys, partition_count).into_iter().for_each(|place| counts[place] += 1);
            assert!(counts.iter().all(|count| *count < 4 * per_partition && *count > 0), "{counts:?}");
        }
    }

    const PINNED_INT: [usize; 5] = [7, 13, 3, 6, 6];
    const PINNED_TEXT: [usize; 4] = [1, 0, 5, 12];
}
