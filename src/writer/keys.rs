//! Which rows of a MemTableFile hold a key: private to the writer, so that deletes and upserts never scan.
//!
//! Rows of a file are numbered 0, 1, 2, ... over its chunks. Rows of one key are chained backwards: `heads` has the last
//! one, `previous[row]` the one before it.

use std::collections::HashMap;

use crate::types::Keys;

/// Ends a chain.
const NONE: u32 = u32::MAX;

/// Key -> rows.
#[derive(Debug)]
pub struct KeyIndex {
    heads: Heads,
    previous: Vec<u32>,
}

#[derive(Debug)]
enum Heads {
    Empty,
    Int(HashMap<i64, u32>),
    Text(HashMap<Box<str>, u32>),
}

impl KeyIndex {
    /// No rows.
    pub fn new() -> KeyIndex {
        KeyIndex { heads: Heads::Empty, previous: Vec::new() }
    }

    /// Appends one row per key, in order.
    pub fn append(&mut self, keys: &Keys) {
        if let Heads::Empty = self.heads {
            self.heads = match keys {
                Keys::Int(_) => Heads::Int(HashMap::new()),
                Keys::Text(_) => Heads::Text(HashMap::new()),
            };
        }
        self.previous.reserve(keys.len());
        match (&mut self.heads, keys) {
            (Heads::Int(heads), Keys::Int(keys)) => {
                for key in keys {
                    let row = self.previous.len() as u32;
                    self.previous.push(heads.insert(*key, row).unwrap_or(NONE));
                }
            }
            (Heads::Text(heads), Keys::Text(keys)) => {
                for key in keys {
                    let row = self.previous.len() as u32;
                    self.previous.push(heads.insert(key.as_str().into(), row).unwrap_or(NONE));
                }
            }
            // A schema has one key type; a row that is not indexed must still be counted.
            (_, keys) => self.previous.extend(std::iter::repeat_n(NONE, keys.len())),
        }
    }

    /// Calls `found` with every row of every key.
    pub fn find(&self, keys: &Keys, found: &mut dyn FnMut(usize)) {
        match (&self.heads, keys) {
            (Heads::Int(heads), Keys::Int(keys)) => {
                keys.iter().filter_map(|key| heads.get(key)).for_each(|&head| self.chain(head, found));
            }
            (Heads::Text(heads), Keys::Text(keys)) => {
                keys.iter().filter_map(|key| heads.get(key.as_str())).for_each(|&head| self.chain(head, found));
            }
            _ => {}
        }
    }

    fn chain(&self, head: u32, found: &mut dyn FnMut(usize)) {
        let mut row = head;
        while row != NONE {
            found(row as usize);
            row = self.previous[row as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_key_is_found() {
        let mut index = KeyIndex::new();
        index.append(&Keys::Int(vec![5, 6, 5]));
        index.append(&Keys::Int(vec![5]));
        let mut rows = Vec::new();
        index.find(&Keys::Int(vec![5, 7]), &mut |row| rows.push(row));
        assert_eq!(rows, [3, 2, 0]);
        index.find(&Keys::Text(vec!["5".to_owned()]), &mut |_| panic!("keys of another type match nothing"));
    }
}
