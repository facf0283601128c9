//! A first idea of who is near whom: rows are split by random pairs of rows into leaves, several times over, and every two
//! rows of a leaf are compared. It costs a fraction of the searches that it saves.

use super::encode::{Distances, Vectors};
use super::search::Candidate;
use super::space::mix;
use super::workers::for_each_piece;

/// Most rows of a leaf: all pairs are compared, so cost grows with it, and so does the share of true neighbours found.
const LEAF_ROWS_MAX: usize = 160;
/// Nearest rows kept per row and tree.
pub(super) const NEAREST: usize = 16;

/// One partition of all vertices.
pub(super) struct Tree {
    /// Rows in the order of leaves: neighbours in it are near each other.
    pub order: Vec<u32>,
    /// The nearest of each row's leaf, in the order of `order`; padded with the row itself.
    pub nearest: Vec<[Candidate; NEAREST]>,
}

impl Tree {
    pub fn grow(vectors: &Vectors, vertices: &[u32], seed: u64, threads: usize) -> Tree {
        let row_count = vertices.len();
        let mut order: Vec<u32> = vertices.to_vec();
        let mut lengths = vec![row_count];
        let mut level = 0;
        while lengths.iter().any(|length| *length > LEAF_ROWS_MAX) {
            let seed = mix(seed ^ level);
            let mut segments = split(&mut order, &lengths);
            let halve = |_: &mut (), first: usize, segments: &mut [&mut [u32]]| {
                for (index, segment) in segments.iter_mut().enumerate() {
                    halve(vectors, segment, mix(seed ^ (first + index) as u64));
                }
            };
            for_each_piece(threads, &mut segments, 1, || (), halve, |_| ());
            lengths = lengths.into_iter().flat_map(halves).collect();
            level += 1;
        }
        let empty = [Candidate { distance: f32::INFINITY, id: 0 }; NEAREST];
        let mut nearest = vec![empty; row_count];
        let mut leaves: Vec<_> = split(&mut order, &lengths).into_iter().zip(split(&mut nearest, &lengths)).collect();
        let compare = |memory: &mut Comparison, _: usize, leaves: &mut [(&mut [u32], &mut [[Candidate; NEAREST]])]| {
            leaves.iter_mut().for_each(|(rows, nearest)| compare_all(vectors, rows, memory, nearest));
        };
        for_each_piece(threads, &mut leaves, 1, Comparison::default, compare, |_| ());
        Tree { order, nearest }
    }
}

fn halves(length: usize) -> impl Iterator<Item = usize> {
    let left = if length > LEAF_ROWS_MAX { length / 2 } else { length };
    [left, length - left].into_iter().filter(|length| *length > 0)
}

fn split<'a, T>(mut items: &'a mut [T], lengths: &[usize]) -> Vec<&'a mut [T]> {
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (part, rest) = items.split_at_mut(*length);
        parts.push(part);
        items = rest;
    }
    parts
}

/// Orders rows by which of two of them they are nearer to, and splits at the median.
fn halve(vectors: &Vectors, rows: &mut [u32], seed: u64) {
    let length = rows.len();
    if length <= LEAF_ROWS_MAX {
        return;
    }
    // Rows are sorted first: the order within a segment depends on nothing but what it holds.
    rows.sort_unstable();
    let pick = |seed: u64| rows[(mix(seed) % length as u64) as usize];
    let (left, right) = (pick(seed), pick(seed ^ 1));
    let (mut to_left, mut to_right) = (Distances::default(), Distances::default());
    vectors.distances(left, rows, &mut to_left);
    vectors.distances(right, rows, &mut to_right);
    let differences = to_left.list.iter().zip(&to_right.list).map(|(left, right)| left - right);
    let mut keyed: Vec<(f32, u32)> = differences.zip(rows.iter().copied()).collect();
    keyed.select_nth_unstable_by(length / 2, |left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    for (row, (_, keyed)) in rows.iter_mut().zip(keyed) {
        *row = keyed;
    }
}

/// Memory in which the rows of a leaf are compared.
#[derive(Default)]
struct Comparison {
    of_row: Distances,
    /// Of every two rows.
    all: Vec<f32>,
}

fn compare_all(vectors: &Vectors, rows: &mut [u32], memory: &mut Comparison, nearest: &mut [[Candidate; NEAREST]]) {
    let Comparison { of_row, all } = memory;
    rows.sort_unstable();
    let count = rows.len();
    all.clear();
    all.resize(count * count, f32::INFINITY);
    for (left, row) in rows.iter().enumerate() {
        vectors.distances(*row, &rows[left + 1..], of_row);
        for (right, distance) in (left + 1..).zip(&of_row.list) {
            all[left * count + right] = *distance;
            all[right * count + left] = *distance;
        }
    }
    let mut found: Vec<Candidate> = Vec::with_capacity(count);
    for (row, nearest) in nearest.iter_mut().enumerate() {
        found.clear();
        let of_row = &all[row * count..][..count];
        found.extend(rows.iter().zip(of_row).map(|(id, distance)| Candidate { distance: *distance, id: *id }));
        let kept = NEAREST.min(count - 1);
        if kept > 0 {
            found.select_nth_unstable_by(kept - 1, Candidate::order);
        }
        *nearest = std::array::from_fn(|index| match found.get(index) {
            Some(found) if index < kept => *found,
            _ => Candidate { distance: f32::INFINITY, id: rows[row] },
        });
    }
}
