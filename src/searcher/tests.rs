//! Tests of the searcher.
