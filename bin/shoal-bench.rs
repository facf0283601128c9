//! Measures ShoalDB.

fn main() {}
