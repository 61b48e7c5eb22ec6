//! Benchmarks; `cargo bench -p bpo-benches`.
