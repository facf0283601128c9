//! Tests of the board: in one process, and with helpers that are killed.

use std::time::{Duration, Instant};

use super::*;
use crate::sys::test_child::Child;

fn post(seed: u64) -> Post {
    let body = (0..1000 + seed % 7).map(|byte| (byte * seed) as u8).collect();
    Post { timestamp: seed, collection: seed + 1, epoch: seed + 2, database: b"books".to_vec(), body }
}

/// A result that follows from the post and the part alone; long, so that a kill can hit the middle of it.
fn compute(post: &Post, part: usize) -> Vec<u8> {
    let mut value = post.timestamp ^ (part as u64) << 40;
    let mut words = Vec::new();
    for index in 0..2000u64 {
        value = value
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(index + u64::from(post.body[index as usize % 1000]));
        words.extend_from_slice(&value.to_ne_bytes());
    }
    words
}

#[test]
fn each_part_is_taken_once_and_its_result_comes_back() {
    let file = create_board().unwrap();
    let (leader, helper) = (Board::open(&file, 0).unwrap(), Board::open(&file, 3).unwrap());
    assert_eq!(helper.find(|_| false), None);
    let posted = leader.post(&post(5)).unwrap();
    assert_eq!(leader.find(|_| false), None, "nobody helps itself");
    assert_eq!(helper.find(|_| true), None);
    let (found, copy) = helper.find(|_| false).unwrap();
    assert_eq!((found, &copy), (posted, &post(5)));
    let taken: Vec<usize> = (0..PART_COUNT).map(|turn| [&leader, &helper][turn % 2].take(posted).unwrap()).collect();
    assert_eq!(taken, (0..PART_COUNT).collect::<Vec<_>>());
    assert_eq!((leader.take(posted), helper.take(posted)), (None, None));
    assert_eq!(helper.find(|_| false), None, "nothing is left of it");
    assert_eq!(leader.gather(posted, 1), None);
    helper.give(posted, 1, &compute(&copy, 1));
    assert_eq!(leader.gather(posted, 1), Some(compute(&copy, 1)));
    helper.give(posted, 3, &vec![0; PART_BYTES_MAX + 1]);
    assert_eq!(leader.gather(posted, 3), None, "too long");
}

#[test]
fn a_result_of_a_former_post_is_not_taken_for_one_of_this() {
    let file = create_board().unwrap();
    let (leader, helper) = (Board::open(&file, 0).unwrap(), Board::open(&file, 1).unwrap());
    let former = leader.post(&post(1)).unwrap();
    assert_eq!(helper.take(former), Some(0));
    let posted = leader.post(&post(2)).unwrap();
    assert_eq!(helper.take(former), None);
    helper.give(former, 0, b"late");
    assert_eq!(leader.take(posted), Some(0));
    assert_eq!(leader.gather(posted, 0), None);
    assert_eq!(leader.gather(former, 0), None);
}

#[test]
fn a_result_area_used_again_is_not_taken_for_the_old_result() {
    let file = create_board().unwrap();
    let boards: Vec<Board> = (0..3).map(|index| Board::open(&file, index).unwrap()).collect();
    let (first, second) = (boards[0].post(&post(1)).unwrap(), boards[1].post(&post(2)).unwrap());
    for posted in [first, second] {
        assert_eq!(boards[2].take(posted), Some(0));
        boards[2].give(posted, 0, b"12345678");
    }
    assert_eq!(boards[0].gather(first, 0), None);
    assert_eq!(boards[1].gather(second, 0), Some(b"12345678".to_vec()));
}

#[test]
fn long_requests_are_refused_and_idle_searchers_counted() {
    let file = create_board().unwrap();
    let boards: Vec<Board> = (0..3).map(|index| Board::open(&file, index).unwrap()).collect();
    assert_eq!(boards[0].post(&Post { body: vec![0; POST_BYTES_MAX], ..post(1) }), None);
    assert!(Board::open(&file, SEARCHERS_MAX).is_err());
    boards.iter().for_each(|board| board.set_idle(true));
    assert_eq!(boards[0].idle_count(), 2);
    boards[2].set_idle(false);
    assert_eq!(boards[0].idle_count(), 1);
}

/// Helps for ever, until it is killed.
fn help(file: &File, index: usize) -> i32 {
    let board = Board::open(file, index).unwrap();
    loop {
        let Some((posted, post)) = board.find(|_| false) else {
            std::thread::yield_now();
            continue;
        };
        while let Some(part) = board.take(posted) {
            board.give(posted, part, &compute(&post, part));
        }
    }
}

#[test]
fn killed_helpers_never_change_a_result() {
    let file = create_board().unwrap();
    let leader = Board::open(&file, 0).unwrap();
    let mut helpers: Vec<Option<Child>> = (1..4).map(|index| Some(Child::fork(|| help(&file, index)))).collect();
    let (mut gathered, mut random) = (0, 0x9e37_79b9_7f4a_7c15u64);
    let end = Instant::now() + Duration::from_secs(600);
    let mut round = 0u64;
    // Until enough was given by helpers, so that the test means something.
    while round < 300 || gathered < 300 {
        assert!(Instant::now() < end, "after {round} rounds helpers gave {gathered} parts");
        round += 1;
        let post = post(round);
        let posted = leader.post(&post).unwrap();
        let mut mine = [false; PART_COUNT];
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let victim = (random % 30) as usize;
        if let Some(helper) = helpers.get_mut(victim) {
            helper.take().expect("a helper").kill();
            *helper = Some(Child::fork(|| help(&file, victim + 1)));
        }
        while let Some(part) = leader.take(posted) {
            mine[part] = true;
            std::thread::yield_now();
        }
        for part in (0..PART_COUNT).filter(|part| !mine[*part]) {
            if let Some(result) = leader.gather(posted, part) {
                assert_eq!(result, compute(&post, part), "part {part} of round {round}");
                gathered += 1;
            }
        }
    }
}
