//! What share of the machine's read bandwidth do the kernels reach on vectors of each element type?
//!
//! One thread reads one buffer that is larger than the L3 cache: with plain sums, which is what the machine can do, then
//! with the kernel of one query, then with that of many, a block of rows at a time as a flat scan does. All take turns;
//! medians and their ratios are printed. `cargo bench --bench elements -- [MiB] [rounds]`
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

mod timing;

use std::hint::black_box;

use shoaldb::kernel::{BitKernels, Kernels, Rows, VectorElement, VectorRows};
use timing::{median, sum, time};

const DIMS: [usize; 4] = [50, 128, 768, 1536];
const BLOCK_BYTES: usize = 256 << 10;
const MANY: usize = 24;

/// What is computed in one pass over the rows.
#[derive(Clone, Copy, Debug)]
enum Work {
    SquaredDistances(usize),
    ProductsAndNorms,
    Hamming,
    Jaccard,
}

struct Case {
    element: Option<VectorElement>,
    dim: usize,
    work: Work,
    seconds: Vec<f64>,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let bytes = numbers.first().copied().unwrap_or(256) << 20;
    let rounds = numbers.get(1).copied().unwrap_or(7);
    let column: Vec<u64> = fill(bytes / 8);
    let mut cases = cases();
    let mut sums = Vec::new();
    for _ in 0..rounds {
        for case in &mut cases {
            sums.push(time(|| _ = black_box(sum(&column))));
            let vectors = bytemuck::cast_slice(&column);
            let seconds = time(|| run(case.element, case.dim, case.work, vectors));
            case.seconds.push(seconds);
        }
    }
    let read = bytes as f64 / median(&mut sums) / 1e9;
    println!("{} MiB, {} rounds, {} kernels; plain sum {read:.1} GB/s\n", bytes >> 20, rounds, Kernels::get().name());
    println!("{:>5} {:>5} {:>22} {:>8} {:>8} {:>16}", "type", "dim", "work", "GB/s", "of sum", "G elements/s");
    for case in &mut cases {
        let rate = bytes as f64 / median(&mut case.seconds) / 1e9;
        let queries = if let Work::SquaredDistances(queries) = case.work { queries } else { 1 };
        let per_byte = case.element.map_or(8.0, |element| 1.0 / element.bytes() as f64);
        let name = case.element.map_or("bits", VectorElement::name);
        let elements = rate * per_byte * queries as f64;
        let work = format!("{:?}", case.work);
        println!("{name:>5} {:>5} {work:>22} {rate:>8.1} {:>8.2} {elements:>16.1}", case.dim, rate / read);
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for dim in DIMS {
        for element in VectorElement::ALL {
            for work in [Work::SquaredDistances(1), Work::ProductsAndNorms, Work::SquaredDistances(MANY)] {
                cases.push(Case { element: Some(element), dim, work, seconds: Vec::new() });
            }
        }
    }
    for dim in [128, 1024, 8192] {
        for work in [Work::Hamming, Work::Jaccard] {
            cases.push(Case { element: None, dim, work, seconds: Vec::new() });
        }
    }
    cases
}

fn run(element: Option<VectorElement>, dim: usize, work: Work, vectors: &[u8]) {
    let rows = match element {
        Some(element) => VectorRows { bytes: vectors, dim, element },
        None => VectorRows { bytes: vectors, dim: dim / 8, element: VectorElement::I8 },
    };
    let block_rows = (BLOCK_BYTES / rows.row_bytes()).clamp(16, 1024);
    // Whole numbers of eight bits, as queries of int8 rows are.
    let queries: Vec<f32> = (0..dim * MANY).map(|index| (index % 251) as f32 - 125.0).collect();
    let bits = vec![0b1010_1010u8; dim / 8];
    let (mut out, mut norms) = (vec![0.0; block_rows * MANY], vec![0.0; block_rows]);
    let kernels = Kernels::get();
    for first in (0..rows.len()).step_by(block_rows) {
        let count = block_rows.min(rows.len() - first);
        let block = rows.block(Rows::Range(first..first + count)).expect("the rows are there");
        match work {
            Work::SquaredDistances(many) => {
                kernels.squared_distances(&queries[..dim * many], &block, &mut out[..count * many]);
            }
            Work::ProductsAndNorms => {
                kernels.inner_products_and_norms(&queries[..dim], &block, &mut out[..count], &mut norms[..count]);
            }
            Work::Hamming => BitKernels::get().hamming_distances(&bits, &block, &mut out[..count]),
            Work::Jaccard => BitKernels::get().jaccard_distances(&bits, &block, &mut out[..count]),
        }
        black_box(&mut out);
    }
}

/// Words whose parts are finite numbers of every element type: no exponent bit but the second of each half is set.
fn fill(count: usize) -> Vec<u64> {
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed & 0x83ff_83ff_83ff_83ff | 0x3800_3800_3800_3800
    };
    (0..count).map(|_| next()).collect()
}
