//! The examples are the targets beside this folder; `cargo run -p bpo-examples --example score`.
