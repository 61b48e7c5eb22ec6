//! Standard-normal deviates, equal on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::simd::{Kernel, widest};

/// Points per batch. The buffers of a batch fit into the L1 cache.
const PAIRS: usize = 128;

/// Marsaglia's polar method over ChaCha8.
///
/// Its only transcendental function, the logarithm, is implemented here; everything else is IEEE
/// arithmetic. So the values are equal in every bit on every platform. The ziggurat method of
/// `rand_distr` uses the platform's `exp` and `ln` to accept or reject, where a last-bit difference
/// would shift all following values.
pub(crate) struct Normals {
    rng: ChaCha8Rng,
    bytes: [[u8; 8]; 2 * PAIRS],
    /// Points in the square from -1 to 1.
    points: [[f64; 2]; PAIRS],
    /// Squared distances from the centre, of the points inside the circle.
    squares: [f64; PAIRS],
    deviates: [[f64; 2]; PAIRS],
    /// Range of the unused deviates.
    left: std::ops::Range<usize>,
}

impl Normals {
    /// Uses all bits of the generator.
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            bytes: [[0; 8]; 2 * PAIRS],
            points: [[0.0; 2]; PAIRS],
            squares: [0.5; PAIRS],
            deviates: [[0.0; 2]; PAIRS],
            left: 0..0,
        }
    }

    /// Calls `blend` for each value with a deviate, in order.
    pub(crate) fn for_each_value<T>(&mut self, mut values: &mut [T], blend: impl Fn(&mut T, f64)) {
        while !values.is_empty() {
            let deviates = self.some();
            let count = deviates.len().min(values.len());
            let (now, later) = values.split_at_mut(count);
            for (value, deviate) in now.iter_mut().zip(deviates) {
                blend(value, *deviate);
            }
            self.left.start += count;
            values = later;
        }
    }

    /// The unused deviates, at least one.
    fn some(&mut self) -> &[f64] {
        while self.left.is_empty() {
            self.rng.fill_bytes(self.bytes.as_flattened_mut());
            self.left = 0..2 * widest(Draw(self));
        }
        &self.deviates.as_flattened()[self.left.clone()]
    }
}

impl Iterator for Normals {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        let deviate = *self.some().first()?;
        self.left.start += 1;
        Some(deviate)
    }
}

/// Draws a batch of deviates. The result is the number of pairs.
struct Draw<'a>(&'a mut Normals);

impl Kernel for Draw<'_> {
    type Output = usize;

    #[inline(always)]
    fn run(self) -> usize {
        let Normals { bytes, points, squares, deviates, .. } = self.0;
        for (coordinate, bytes) in points.as_flattened_mut().iter_mut().zip(bytes) {
            *coordinate = symmetric_uniform(u64::from_le_bytes(*bytes));
        }
        // Branch-free, because a branch would be mispredicted for one point in five.
        let mut kept = 0;
        for point in &*points {
            let square = point[0] * point[0] + point[1] * point[1];
            deviates[kept] = *point;
            squares[kept] = square;
            kept += usize::from(square > 0.0) & usize::from(square < 1.0);
        }
        // Rounded up to a whole vector. The values after the last pair are unused.
        for square in &mut squares[..kept.next_multiple_of(4).min(PAIRS)] {
            *square = (-2.0 * log(*square) / *square).sqrt();
        }
        for (point, scale) in deviates[..kept].iter_mut().zip(squares) {
            *point = [point[0] * *scale, point[1] * *scale];
        }
        kept
    }
}

/// Uniform on `[-1, 1)` in steps of 2^-52: the upper 53 bits over 2^52, less 1.
///
/// The bits become the fractions of 2^32 and of 1. All following operations are exact.
#[inline(always)]
fn symmetric_uniform(bits: u64) -> f64 {
    const TWO_TO_32: u64 = 0x41f0 << 48;
    const ONE: u64 = 0x3ff0 << 48;
    let upper = f64::from_bits(TWO_TO_32 | bits >> 43);
    let lower = f64::from_bits(ONE | (bits >> 11 & 0xffff_ffff));
    upper - 4_294_967_298.0 + lower
}

/// The natural logarithm of a normal number between 0 and 1: equal to `libm::log`, without
/// branches.
///
/// ```text
/// origin: FreeBSD /usr/src/lib/msun/src/e_log.c
///
/// Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved.
///
/// Developed at SunSoft, a Sun Microsystems, Inc. business.
/// Permission to use, copy, modify, and distribute this
/// software is freely granted, provided that this notice
/// is preserved.
/// ```
#[inline(always)]
fn log(x: f64) -> f64 {
    const LN_2: [f64; 2] = [0.6931471803691238, 1.9082149292705877e-10];
    const L1: f64 = 0.6666666666666735;
    const L2: f64 = 0.3999999999940942;
    const L3: f64 = 0.2857142874366239;
    const L4: f64 = 0.22222198432149784;
    const L5: f64 = 0.1818357216161805;
    const L6: f64 = 0.15313837699209373;
    const L7: f64 = 0.14798198605116586;
    /// The upper half of the square root of 1/2.
    const ROOT: u64 = 0x3fe6_a09e << 32;
    /// The difference between 1 and `ROOT`.
    const BELOW_ONE: u64 = (0x3ff0_0000 << 32) - ROOT;
    const TWO_TO_52: u64 = 0x4330 << 48;

    // x = 2^k (1 + f), with 1 + f between the square roots of 1/2 and of 2.
    let shifted = x.to_bits().wrapping_add(BELOW_ONE);
    let k = f64::from_bits(TWO_TO_52 | shifted >> 52) - (4_503_599_627_370_496.0 + 1023.0);
    let f = f64::from_bits((shifted & 0x000f_ffff_ffff_ffff).wrapping_add(ROOT)) - 1.0;

    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (L2 + w * (L4 + w * L6));
    let odd = z * (L1 + w * (L3 + w * (L5 + w * L7)));
    let rest = odd + even;
    s * (half_square + rest) + k * LN_2[1] - half_square + f + k * LN_2[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::StageSeed;

    fn normals(seed: u8) -> Normals {
        Normals::new(ChaCha8Rng::from_seed([seed; 32]))
    }

    #[test]
    fn deviates_are_standard_normal() {
        const COUNT: usize = 200_000;
        let values: Vec<f64> = StageSeed::new(1, 0).normals().take(COUNT).collect();
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / COUNT as f64;
        // Tolerances are about five standard errors of each moment.
        assert!(moment(1).abs() < 0.012, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.016, "variance {}", moment(2));
        assert!(moment(3).abs() < 0.045, "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < 0.11, "fourth moment {}", moment(4));
        let beyond_two = values.iter().filter(|v| v.abs() > 2.0).count() as f64 / COUNT as f64;
        assert!((beyond_two - 0.0455).abs() < 0.0024, "two-sigma tail {beyond_two}");
    }

    #[test]
    fn deviates_do_not_depend_on_vectors_or_batches() {
        // One at a time, with the logarithm of libm.
        let mut rng = ChaCha8Rng::from_seed([9; 32]);
        let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let pairs = std::iter::repeat_with(|| [uniform(), uniform()]).filter_map(|[u, v]| {
            let square = u * u + v * v;
            let scale = (-2.0 * libm::log(square) / square).sqrt();
            (square > 0.0 && square < 1.0).then_some([u * scale, v * scale])
        });
        let expected: Vec<f64> = pairs.flatten().take(100_001).collect();

        assert_eq!(normals(9).take(expected.len()).collect::<Vec<_>>(), expected);

        let mut found = vec![0.0; expected.len()];
        let mut parts = normals(9);
        let (first, rest) = found.split_at_mut(77);
        parts.for_each_value(first, |value, deviate| *value = deviate);
        rest[0] = parts.next().unwrap();
        parts.for_each_value(&mut rest[1..], |value, deviate| *value = deviate);
        assert_eq!(found, expected);

        let mut narrow = normals(9);
        let mut found: Vec<f64> = Vec::new();
        while found.len() < expected.len() {
            narrow.rng.fill_bytes(narrow.bytes.as_flattened_mut());
            let pairs = Draw(&mut narrow).run();
            found.extend_from_slice(narrow.deviates[..pairs].as_flattened());
        }
        assert_eq!(found[..expected.len()], expected);
    }

    #[test]
    fn logarithm_at_the_limits() {
        let smallest = 2f64.powi(-104);
        let root = std::f64::consts::FRAC_1_SQRT_2;
        for x in [smallest, 1.0f64.next_down(), 0.5, 0.5f64.next_down(), root, root.next_up(), 0.25, 1e-300] {
            assert_eq!(log(x).to_bits(), libm::log(x).to_bits(), "{x}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn logarithm_equals_libm(x in f64::MIN_POSITIVE..1.0, exponent in 0i32..105) {
            let x = x * 2f64.powi(-exponent);
            prop_assume!(x.is_normal());
            prop_assert_eq!(log(x).to_bits(), libm::log(x).to_bits());
        }

        #[test]
        fn uniforms_are_exact(bits in any::<u64>()) {
            let expected = (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            prop_assert_eq!(symmetric_uniform(bits).to_bits(), expected.to_bits());
        }
    }
}
