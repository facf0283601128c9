//! Tests of `query/kept.rs`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::cell::Cell;

use super::*;
use crate::filter::{TemplateValue, Templates};
use crate::query::Selection;
use crate::query::tests::world::{KeyKind, ModelRow, Random, World};
use crate::types::Timestamp;

const ROWS: usize = 5000;

fn world(files: usize) -> World {
    let mut world = World::empty(KeyKind::Int);
    for _ in 0..files {
        world.add_sealed((0..ROWS as i64).map(|key| ModelRow::near(key, 1.0)).collect(), &mut Random::new(1));
    }
    world
}

fn tables(world: &World) -> Vec<Arc<TableFile>> {
    let view = world.snapshot(world.last_timestamp).view;
    view.sealed.iter().map(|file| Arc::clone(&file.table)).collect()
}

fn plan(world: &World, text: &str, templates: &Templates) -> Plan {
    Plan::new(text, &world.schema, templates).unwrap()
}

/// Asks for one row and says whether that was evaluated.
fn is_evaluated(kept: &Kept, table: &Arc<TableFile>, plan: &Plan, row: usize) -> bool {
    let evaluated = Cell::new(false);
    let passing = kept.passing(table, plan, || {
        evaluated.set(true);
        let mut rows = Bitmap::zeros(ROWS);
        rows.set(row, true);
        rows
    });
    assert!(passing.count == 1 && passing.rows.get(row));
    evaluated.get()
}

#[test]
fn a_filter_is_kept_when_it_comes_again_for_its_file_and_its_meaning_alone() {
    let (kept, mut world) = (Kept::new(), world(2));
    let tables = tables(&world);
    let none = Templates::default();
    let first = plan(&world, "number < 7", &none);
    let asked: Vec<bool> = (0..4).map(|_| is_evaluated(&kept, &tables[0], &first, 3)).collect();
    assert_eq!(asked, [true, true, false, false]);
    assert!(!is_evaluated(&kept, &tables[0], &plan(&world, "number < 7", &none), 3));
    assert!(is_evaluated(&kept, &tables[1], &first, 4));
    assert!(is_evaluated(&kept, &tables[0], &plan(&world, "number < 8", &none), 4));
    let with = |value| Templates { values: [("n".to_owned(), TemplateValue::Int(value))].into(), ..none.clone() };
    for value in [1, 2] {
        let plan = plan(&world, "number < {n}", &with(value));
        let asked: Vec<bool> = (0..3).map(|_| is_evaluated(&kept, &tables[0], &plan, value as usize)).collect();
        assert_eq!(asked, [true, true, false], "{value}");
    }
    // The same text means another thing when its field does.
    world.schema.fields.iter_mut().filter(|field| field.name == "number").for_each(|field| field.is_nullable = false);
    assert!(is_evaluated(&kept, &tables[0], &plan(&world, "number < 7", &none), 5));
}

#[test]
fn what_is_random_or_long_is_never_kept() {
    let (kept, world) = (Kept::new(), world(1));
    let table = &tables(&world)[0];
    let long = format!("number in [{}]", (0..2000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    for text in ["random_sample(0.5)", "number < 7 && random_sample(0.5)", &long] {
        let plan = plan(&world, text, &Templates::default());
        assert!((0..4).all(|_| is_evaluated(&kept, table, &plan, 0)), "{text}");
    }
}

#[test]
fn few_bytes_are_kept_and_none_of_a_file_that_is_gone() {
    let (kept, files) = (Kept::new(), [world(1), world(1)]);
    let [table, other] = [0, 1].map(|file| tables(&files[file]).remove(0));
    let ask = |table: &Arc<TableFile>, number: usize| {
        let plan = plan(&files[0], &format!("number < {number}"), &Templates::default());
        (0..3).filter(|_| is_evaluated(&kept, table, &plan, number % ROWS)).count()
    };
    assert!((0..2 * KEPT_FILTERS_MAX).all(|number| ask(&table, number) == 2));
    assert_eq!(ask(&table, 2 * KEPT_FILTERS_MAX - 1), 0);
    assert_eq!(ask(&table, 0), 2, "it was used longest ago");
    let bytes = || {
        let entries = kept.0.lock().unwrap();
        (entries.entries.len(), entries.bytes)
    };
    assert_eq!(bytes(), (KEPT_FILTERS_MAX, KEPT_FILTERS_MAX * ROWS.div_ceil(64) * 8));
    // The next one that is kept clears away what is of no file.
    let plan = plan(&files[1], "number < 7", &Templates::default());
    let [gone, _still_there] = files;
    drop((gone, table));
    assert!((0..2).all(|_| is_evaluated(&kept, &other, &plan, 0)));
    assert_eq!(bytes(), (1, ROWS.div_ceil(64) * 8));
}

#[test]
fn bitmaps_that_are_large_push_others_out_and_those_that_are_too_large_are_not_kept() {
    let (kept, world) = (Kept::new(), world(1));
    let table = &tables(&world)[0];
    let ask = |number: usize, bytes: usize| {
        let plan = plan(&world, &format!("number < {number}"), &Templates::default());
        let evaluated = Cell::new(false);
        kept.passing(table, &plan, || {
            evaluated.set(true);
            Bitmap::zeros(bytes * 8)
        });
        evaluated.get()
    };
    let half = KEPT_FILTER_BYTES_MAX / 2;
    for number in 0..3 {
        assert!(ask(number, half) && ask(number, half), "{number}");
    }
    assert!(!ask(2, half) && !ask(1, half) && ask(0, half));
    assert!((0..3).all(|_| ask(9, KEPT_FILTER_BYTES_MAX + 8)));
    assert!(!ask(0, half) && !ask(1, half), "what was used last stays");
    assert!(kept.0.lock().unwrap().bytes <= KEPT_FILTER_BYTES_MAX);
}

#[test]
fn a_lock_that_nobody_gives_back_costs_time_only() {
    let (kept, world) = (Kept::new(), world(1));
    let table = &tables(&world)[0];
    let plan = plan(&world, "number < 7", &Templates::default());
    let held = kept.0.lock().unwrap();
    assert!((0..4).all(|_| is_evaluated(&kept, table, &plan, 0)));
    drop(held);
}

#[test]
fn deletes_and_snapshots_are_put_over_what_is_kept() {
    for seed in 1..5 {
        let mut random = Random::new(seed);
        let mut world = World::empty(KeyKind::Int);
        let row = |key| ModelRow { number: Some(key % 100), ..ModelRow::near(key, 1.0) };
        world.add_sealed((0..ROWS as i64).map(row).collect(), &mut random);
        let plan = plan(&world, "number < 30", &Templates::default());
        let selection = Selection { plan, partitions: Vec::new(), ignore_growing: false };
        for _ in 0..6 {
            world.delete_some(&mut random);
            for timestamp in [world.last_timestamp, random.below(world.last_timestamp + 2), world.last_timestamp] {
                let snapshot = world.snapshot(timestamp);
                let wanted =
                    |row: &&ModelRow| row.exists_at(Timestamp(timestamp)) && row.number.is_some_and(|n| n < 30);
                let count = world.rows.iter().filter(wanted).count();
                let matching = snapshot.matching_rows(0, &selection);
                assert_eq!(matching.as_ref().map_or(0, |matching| matching.count), count, "seed {seed}");
                assert!(matching.is_none_or(|matching| matching.filter.unwrap().count_ones() == count));
            }
        }
    }
}
