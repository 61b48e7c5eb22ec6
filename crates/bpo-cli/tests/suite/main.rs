//! Tests of the command `bpo`: each one runs the program on the tiny checkpoint and the photographs.
//!
//! All are modules of one binary, which compiles and links once.

#[macro_use]
mod common;

mod adapter;
mod bad_data;
mod bad_model;
mod data;
mod distort;
mod eval;
mod kill;
mod quickstart;
mod reference;
mod run;
mod score;
mod server;
mod settings;
mod stages;
