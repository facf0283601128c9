//! Tests of attaching.
