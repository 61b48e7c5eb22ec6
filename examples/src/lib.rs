//! The examples are Cargo targets of this package: `cargo run -p bpo-examples --example score`.
