//! Which table files to merge: size layers, so that every row is rewritten a bounded number of times.

/// Files up to this size are the lowest layer; each further layer is `LAYER_FACTOR` times as large.
const LAYER_BYTES: u64 = 1 << 20;
const LAYER_FACTOR: u64 = 4;
/// So many files of one layer are merged into one of the next.
const LAYER_FILES: usize = 4;
/// Most files of one merge: bounds what is mapped and locked at once.
const MERGE_FILES_MAX: usize = 64;
/// Small files that are merged when nothing else goes on, in total.
const IDLE_BYTES: u64 = 16 << 20;

/// A table file of one partition that may be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Length.
    pub bytes: u64,
    /// Rows.
    pub row_count: u64,
    /// Rows deleted so long ago that a merge drops them.
    pub droppable_count: u64,
}

/// How eagerly to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eagerness {
    /// Full layers, and files with many deleted rows.
    Layers,
    /// Nothing else goes on: also the rest of small files.
    Idle,
    /// A user asked: everything below the final size.
    Manual,
}

/// The indexes of the files to merge into one; `None` when there is nothing worth it. One file alone is rewritten when it
/// holds many rows that can be dropped.
pub fn plan(files: &[Candidate], final_bytes: u64, eagerness: Eagerness) -> Option<Vec<usize>> {
    let layers = full_layer(files, final_bytes).or_else(|| mostly_deleted(files));
    match eagerness {
        Eagerness::Layers => layers,
        Eagerness::Idle => layers.or_else(|| smallest(files, IDLE_BYTES.min(final_bytes))),
        Eagerness::Manual => smallest(files, final_bytes)
            .or_else(|| files.iter().position(|file| file.droppable_count > 0).map(|index| vec![index])),
    }
}

fn layer(bytes: u64) -> u32 {
    let mut layer = 0;
    let mut limit = LAYER_BYTES;
    while bytes > limit {
        limit = limit.saturating_mul(LAYER_FACTOR);
        layer += 1;
    }
    layer
}

/// The lowest layer with enough files, its smallest files first, while the result stays below the final size.
fn full_layer(files: &[Candidate], final_bytes: u64) -> Option<Vec<usize>> {
    let mut by_layer: std::collections::BTreeMap<u32, Vec<usize>> = std::collections::BTreeMap::new();
    for (index, file) in files.iter().enumerate().filter(|(_, file)| file.bytes < final_bytes) {
        by_layer.entry(layer(file.bytes)).or_default().push(index);
    }
    by_layer.into_values().find_map(|mut members| {
        members.sort_by_key(|&index| files[index].bytes);
        let taken = within(files, &members, final_bytes);
        (taken.len() >= LAYER_FILES).then_some(taken)
    })
}

/// A file of which more than a fifth can be dropped.
fn mostly_deleted(files: &[Candidate]) -> Option<Vec<usize>> {
    files.iter().position(|file| file.droppable_count * 5 > file.row_count).map(|index| vec![index])
}

/// As many of the smallest files as fit into `bytes`, if that are at least two.
fn smallest(files: &[Candidate], bytes: u64) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..files.len()).filter(|&index| files[index].bytes < bytes).collect();
    order.sort_by_key(|&index| files[index].bytes);
    let taken = within(files, &order, bytes);
    (taken.len() >= 2).then_some(taken)
}

fn within(files: &[Candidate], order: &[usize], bytes: u64) -> Vec<usize> {
    let mut total = 0u64;
    let fits = |index: &&usize| {
        total = total.saturating_add(files[**index].bytes);
        total <= bytes
    };
    let mut taken: Vec<usize> = order.iter().take(MERGE_FILES_MAX).take_while(fits).copied().collect();
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<Candidate> {
        sizes.iter().map(|&bytes| Candidate { bytes, row_count: 100, droppable_count: 0 }).collect()
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn four_files_of_a_layer_are_merged_and_three_are_not() {
        assert_eq!(plan(&files(&[5, 6, 7]), 1 << 30, Eagerness::Layers), None);
        assert_eq!(plan(&files(&[5, 6, 7 * MIB, 7, 8]), 1 << 30, Eagerness::Layers), Some(vec![0, 1, 3, 4]));
    }

    #[test]
    fn files_of_the_final_size_are_left_alone() {
        assert_eq!(plan(&files(&[8 * MIB; 8]), 8 * MIB, Eagerness::Manual), None);
        assert_eq!(plan(&files(&[5 * MIB; 8]), 8 * MIB, Eagerness::Layers), None);
    }

    #[test]
    fn a_file_with_many_droppable_rows_is_rewritten() {
        let mut candidates = files(&[MIB, 9 * MIB]);
        candidates[1].droppable_count = 20;
        assert_eq!(plan(&candidates, 1 << 30, Eagerness::Layers), None);
        candidates[1].droppable_count = 21;
        assert_eq!(plan(&candidates, 1 << 30, Eagerness::Layers), Some(vec![1]));
    }

    #[test]
    fn idle_time_collects_small_files_only() {
        assert_eq!(plan(&files(&[5, 6, 30 * MIB]), 1 << 30, Eagerness::Idle), Some(vec![0, 1]));
        assert_eq!(plan(&files(&[20 * MIB, 30 * MIB]), 1 << 30, Eagerness::Idle), None);
    }

    #[test]
    fn ten_thousand_small_files_end_in_a_handful_with_bounded_rewriting() {
        let mut sizes: Vec<u64> = Vec::new();
        let mut rewritten = 0u64;
        for flushed in 0..10_000 {
            sizes.push(4096 + flushed % 2);
            while let Some(taken) = plan(&files(&sizes), 1 << 30, Eagerness::Layers) {
                let merged: u64 = taken.iter().map(|&index| sizes[index]).sum();
                rewritten += merged;
                sizes = sizes.iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, size)| *size).collect();
                sizes.push(merged);
            }
        }
        assert!(sizes.len() < 16, "{} files left", sizes.len());
        assert!(rewritten < 200 * 10_000 * 4097, "{} times rewritten", rewritten / (10_000 * 4096));
    }
}
