//! Tests of the language as a whole.

mod expressions;
mod fixture;
mod oracle;
mod plans;
mod semantics;
mod texts;
