//! The command line of ShoalDB.

fn main() {}
