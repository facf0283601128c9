//! ShoalDB: a vector database for one machine. One writer, many read-only searcher processes, one copy of the data in
//! shared memory; it speaks the Milvus protocol.
//!
//! The folders are layers: one uses its own level and those below it (see ARCHITECTURE.md).
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("ShoalDB runs on Linux only: it is built on /dev/shm, pidfd, eventfd and fork");

pub mod types;

pub mod config;
pub mod observe;

pub mod filter;
pub mod kernel;
pub mod sys;

pub mod format;
pub mod index;
pub mod ipc;
pub mod proto;

pub mod shm;
pub mod storage;

pub mod query;
pub mod reader;

pub mod builder;
pub mod cli;
pub mod gateway;
pub mod searcher;
pub mod supervisor;
pub mod writer;

// The README's Rust is compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
