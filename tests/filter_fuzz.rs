//! Mutations of good filters, planned and evaluated: what the fuzz target of `fuzz/` does, with a stable compiler and a bound.
//!
//! `SHOAL_FUZZ_SEED` replays one case, `SHOAL_FUZZ_SECONDS` sets how long others are tried.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[path = "../fuzz/filter_case.rs"]
mod filter_case;
#[path = "common/random.rs"]
mod random;

use random::{Random, new_seed, number};

const SECONDS: u64 = 5;
/// However slow the machine is.
const CASES_MIN: u64 = 1_000;
/// Mutations behind one another.
const MUTATIONS_MAX: usize = 6;

const FILTERS: [&str; 38] = [
    "id in [1, 2, 300]",
    "i8 == 1 or not (i32 > 2000 and f < 0.5)",
    "1 <= i8 < 5",
    "5 > d >= -1.5e-1",
    "s like 'a%' or s =~ '^ab.*$' or s !~ \"b\"",
    "s in ['', 'ab'] and s not in [\"abc\"]",
    "j['a'] == 3 or j[\"b\"][1] == 'x'",
    "exists j['b'][2]['c'] and not exists j['e']",
    "j['b'] == [1, 'x', 2]",
    "json_contains(j['b'], 1) and JSON_CONTAINS_ANY(j['b'], [1, 'x'])",
    "json_contains_all(j['b'], ['x', 1.0])",
    "a == 3 and $meta['s'] like '%1%'",
    "array_contains(ai, 4) or array_contains_all(at, ['', 'äb'])",
    "array_length(ai) > 2 and ai[0] == 0 and at[1] != 'x'",
    "ai == [0, 3, 6] or ai != []",
    "ai[1] % 2 == 0 or ai[0] in [0, 1]",
    "i8 is null or j['a'] is not null or late is null",
    "late == 7 and late + 1 == 8",
    "i8 + 1 == 2 or i32 % 7 != 3 or f * 2 < 1.5 or i8 & 3 == 1",
    "i8 < i32 and f != d and b == b",
    "b == true or b in [false]",
    "ts > ISO '1970-01-02T00:00:00Z' and ts + INTERVAL 'P1DT2H' <= ISO '1970-01-03T00:00:00+02:00'",
    "ts - interval 'P1M' == iso '1969-12-01 00:00:00'",
    "i8 == {x} or s like {s} or i8 in {l}",
    "{x} <= i8 <= 7",
    "random_sample(0.5)",
    "b == true and random_sample(0.1)",
    "2 ** 3 == i8 or 1 + 2 * 3 == 7",
    "i8 == 0x1F or i8 == 010 or i8 == 0b11",
    "true or false and not true",
    "((((((i8 == 1))))))",
    "i8 << 1 == 2 or ~i8 == 1",
    "text_match(s, 'a b', minimum_should_match=2) or phrase_match(s, 'a')",
    "st_within(s, 'POINT(1 2)') or element_filter(x, $[a] > 1)",
    "i8 == -9223372036854775808 or d == .5e+3 or f == 1.",
    "s == r'\\d' or s == \"\\u00e4\\x41\\101\\n\"",
    "v is null or ai[0] is null",
    "i8 == 1 && i8 == 1 || ! (i8 != 1)",
];

const TOKENS: [&str; 40] = [
    "(",
    ")",
    "[",
    "]",
    "'",
    "\"",
    ",",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "not",
    "and",
    "or",
    "like",
    "=~",
    "is null",
    "exists",
    "{x}",
    "null",
    "true",
    "i8",
    "ai",
    "at",
    "j",
    "$meta",
    "ts",
    "-",
    "+",
    "%",
    "**",
    "9223372036854775808",
    "1e400",
    "\\",
    "ISO",
    "INTERVAL",
    "\u{0}",
    "你",
    "json_contains_any(",
];

fn mutated(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes = FILTERS[random.below(FILTERS.len())].as_bytes().to_vec();
    for _ in 0..random.below(MUTATIONS_MAX + 1) {
        let at = random.below(bytes.len() + 1);
        let end = at + random.below(bytes.len() - at + 1);
        match random.below(7) {
            0 => drop(bytes.drain(at..end.min(at + 8))),
            1 => drop(bytes.splice(at..at, TOKENS[random.below(TOKENS.len())].bytes())),
            2 => bytes.insert(at, random.below(256) as u8),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => {
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let other = FILTERS[random.below(FILTERS.len())].as_bytes();
                let from = random.below(other.len());
                drop(bytes.splice(at..end, other[from..].iter().copied()));
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                drop(bytes.splice(at..end.min(at + 4), token.repeat(1 + random.below(80)).bytes()));
            }
        }
    }
    bytes
}

fn run_case(seed: u64) {
    let input = mutated(seed);
    if catch_unwind(AssertUnwindSafe(|| filter_case::run(&input))).is_err() {
        panic!("SHOAL_FUZZ_SEED={seed} fails: {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn filters_of_every_kind_are_taken_or_refused() {
    FILTERS.iter().for_each(|text| filter_case::run(text.as_bytes()));
    filter_case::run(b"");
}

#[test]
fn mutated_filters_neither_panic_nor_contradict_themselves() {
    if let Some(seed) = number("SHOAL_FUZZ_SEED") {
        return run_case(seed);
    }
    let first = new_seed();
    let end = Instant::now() + Duration::from_secs(number("SHOAL_FUZZ_SECONDS").unwrap_or(SECONDS));
    let is_over = |seed: u64| seed - first >= CASES_MIN && Instant::now() >= end;
    let cases = (first..).take_while(|seed| !is_over(*seed)).inspect(|seed| run_case(*seed)).count();
    println!("{cases} cases from seed {first}");
}
