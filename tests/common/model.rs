//! What a database must hold after a kill, by key: the last acknowledged write, or one of those since that may have happened.

use std::collections::BTreeMap;

use super::{Api, Refused, longs};

/// Dimensions of the vectors that are written.
pub const DIM: usize = 8;

/// A small random generator with a printed seed (SHOAL_SEED replays one).
pub struct Random(u64);

impl Random {
    pub fn new(number: u64) -> Random {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
        let seed = std::env::var("SHOAL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
        println!("SHOAL_SEED={seed}");
        Random((seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What one key may hold: the batch of the last acknowledged write and those that may or may not have happened since.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// `None` = absent.
    possible: Vec<Option<i64>>,
}

/// What every key may hold.
#[derive(Default)]
pub struct Model {
    keys: BTreeMap<i64, Expected>,
}

impl Model {
    /// Notes a write and its outcome.
    pub fn wrote(&mut self, keys: &[i64], value: Option<i64>, outcome: &Result<(), Refused>) {
        for key in keys {
            let expected = self.keys.entry(*key).or_insert_with(|| Expected { possible: vec![None] });
            match outcome {
                Ok(()) => expected.possible = vec![value],
                // Not acknowledged: it may have happened.
                Err(_) => expected.possible.push(value),
            }
        }
    }

    /// Compares with what the server has, and takes over what the unacknowledged writes came to.
    pub fn check(&mut self, found: &BTreeMap<i64, i64>) {
        for key in found.keys() {
            assert!(self.keys.contains_key(key), "key {key} was never written");
        }
        for (key, expected) in &mut self.keys {
            let value = found.get(key).copied();
            assert!(
                expected.possible.contains(&value),
                "key {key} holds {value:?}, possible are {:?}",
                expected.possible
            );
            expected.possible = vec![value];
        }
    }
}

/// Every key with its batch; none may be there twice.
pub fn read_all(api: &mut Api, name: &str) -> BTreeMap<i64, i64> {
    let mut found = BTreeMap::new();
    let mut last = -1;
    loop {
        let page = api.query(name, &format!("id > {last}"), &["id", "batch"], Some(10_000)).expect("reads go on");
        let ids = longs(&page, "id");
        for (id, batch) in ids.iter().zip(longs(&page, "batch")) {
            assert!(found.insert(*id, batch).is_none(), "key {id} is there twice");
        }
        match ids.iter().max() {
            Some(largest) => last = *largest,
            None => return found,
        }
    }
}

/// One insert of new keys, upsert of old and new ones, or delete, of 1 to 200 rows.
pub fn write_something(api: &mut Api, model: &mut Model, random: &mut Random, batch: i64) {
    let count = 1 + random.below(200) as i64;
    let vectors = vec![batch as f32; count as usize * DIM];
    match random.below(4) {
        0 => {
            let start = model.keys.last_key_value().map_or(1, |(key, _)| key + 1);
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.insert("mixed", &ids, batch, &vectors).map(|_| ());
            model.wrote(&ids, Some(batch), &outcome);
        }
        1 | 2 => {
            let start = random.below(3000) as i64;
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.upsert("mixed", &ids, batch, &vectors).map(|_| ());
            model.wrote(&ids, Some(batch), &outcome);
        }
        _ => {
            let start = random.below(3000) as i64;
            let ids: Vec<i64> = (start..start + count).collect();
            let outcome = api.delete("mixed", &format!("id in {ids:?}")).map(|_| ());
            model.wrote(&ids, None, &outcome);
        }
    }
}
