//! Tests of the language as a whole.

mod fixture;
mod oracle;
mod plans;
mod semantics;
mod texts;
