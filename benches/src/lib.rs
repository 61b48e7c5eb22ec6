//! Benchmarks; `cargo bench -p bpo-benches`.

/// The middle one of some values, which it sorts; of an even number the upper one.
///
/// # Panics
/// If there is none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
