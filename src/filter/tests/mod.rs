//! Tests of the language as a whole.

mod fixture;
mod plans;
mod semantics;
mod texts;
