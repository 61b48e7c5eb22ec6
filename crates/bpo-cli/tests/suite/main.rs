//! Tests of the command `bpo`: each one runs the program on the tiny checkpoint and the
//! photographs.
//!
//! All are modules of one binary, which compiles and links once.
#![cfg_attr(
    not(feature = "flex"),
    allow(dead_code, unused_imports, reason = "helpers of tests with a model")
)]

#[macro_use]
mod common;

mod benchmarks;
mod cases;
mod convert;
mod distort;
mod inspect;
mod kinds;
mod make_pairs;
#[cfg(feature = "parquet")]
mod row_images;
#[cfg(not(feature = "model"))]
mod without_model;

#[cfg(feature = "flex")]
mod adapter;
#[cfg(feature = "flex")]
mod bad_data;
#[cfg(feature = "flex")]
mod bad_model;
#[cfg(feature = "flex")]
mod changed_files;
#[cfg(feature = "flex")]
mod data;
#[cfg(feature = "flex")]
mod devices;
#[cfg(feature = "flex")]
mod eval;
#[cfg(feature = "flex")]
mod every_family;
#[cfg(feature = "server")]
mod grading;
#[cfg(all(feature = "flex", feature = "hub"))]
mod hub;
#[cfg(feature = "server")]
mod judge;
#[cfg(feature = "flex")]
mod kill;
#[cfg(feature = "flex")]
mod moved_images;
#[cfg(feature = "flex")]
mod outputs;
#[cfg(feature = "flex")]
mod own;
#[cfg(feature = "flex")]
mod quickstart;
#[cfg(feature = "flex")]
mod reference;
#[cfg(feature = "flex")]
mod rounds;
#[cfg(feature = "flex")]
mod run;
#[cfg(feature = "flex")]
mod score;
#[cfg(feature = "flex")]
mod server;
#[cfg(feature = "flex")]
mod settings;
#[cfg(feature = "flex")]
mod stages;
#[cfg(feature = "flex")]
mod videos;
#[cfg(feature = "server")]
mod vlm;
#[cfg(all(feature = "flex", feature = "server"))]
mod vlm_local;
