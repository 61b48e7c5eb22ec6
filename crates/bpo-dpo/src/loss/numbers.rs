//! Valid ranges of settings that are used in f32.

pub(crate) const NUMBER: &str = "0, or a number that f32 can hold (1.2e-38 to 3.4e38)";
pub(crate) const ABOVE_0: &str = "above 0, and a number that f32 can hold (1.2e-38 to 3.4e38)";
pub(crate) const AT_LEAST_0: &str = "0, or a number above it that f32 can hold (1.2e-38 to 3.4e38)";

/// Returns whether f32 can hold a number: 0, or a number that neither overflows nor underflows.
pub(crate) fn fits_f32(value: f64) -> bool {
    value == 0.0 || (value as f32).is_normal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_range_of_f32_do_not_fit() {
        assert!([0.0, 1e-8, -3e38, 1.2e-38, f64::from(f32::MAX)].into_iter().all(fits_f32));
        let outside = [1e39, -1e39, 1e-50, 1e-40, f64::NAN, f64::INFINITY];
        assert!(!outside.into_iter().any(fits_f32));
    }
}
