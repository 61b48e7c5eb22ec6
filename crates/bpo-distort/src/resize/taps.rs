//! Weights of the input pixels for each output pixel.

use std::ops::Range;

use super::passes::PRECISION;
use super::{Axis, Filter};

/// The weights of the input pixels for each output pixel.
pub(super) struct Taps {
    firsts: Vec<usize>,
    /// Number of weights of each output pixel, padded with zeros.
    count: usize,
    weights: Vec<i32>,
}

impl Taps {
    /// Fixed-point weights (`precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow).
    pub(super) fn new(from: usize, axis: &Axis, filter: Filter) -> Self {
        let scale = from as f64 / axis.to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let center = |place: usize| (place as f64 + 0.5) * scale;
        // Truncated towards zero, as in C.
        let reach = |place: usize| {
            let first = (center(place) - support + 0.5).max(0.0) as usize;
            first..((center(place) + support + 0.5) as usize).min(from)
        };
        let count = axis.keep.clone().map(|place| reach(place).len()).max().unwrap_or(0);

        let mut taps = Self {
            firsts: Vec::with_capacity(axis.keep.len()),
            count,
            weights: Vec::with_capacity(axis.keep.len() * count),
        };
        let mut raw = Vec::with_capacity(count);
        for place in axis.keep.clone() {
            let reach = reach(place);
            raw.clear();
            raw.extend(
                reach.clone().map(|at| filter.weight((at as f64 - center(place) + 0.5) * (1.0 / stretch))),
            );
            let sum: f64 = raw.iter().sum();
            let fixed = |weight: &f64| {
                let weight = if sum == 0.0 { *weight } else { weight / sum } * f64::from(1 << PRECISION);
                (weight + 0.5f64.copysign(weight)) as i32
            };
            let first = reach.start.min(from - count);
            taps.firsts.push(first);
            taps.weights.resize(taps.weights.len() + reach.start - first, 0);
            taps.weights.extend(raw.iter().map(fixed));
            taps.weights.resize(taps.firsts.len() * count, 0);
        }
        taps
    }

    /// Number of output pixels.
    pub(super) fn len(&self) -> usize {
        self.firsts.len()
    }

    /// Range of the input pixels that are read. There is at least one output pixel.
    pub(super) fn reach(&self) -> Range<usize> {
        self.firsts[0]..self.firsts[self.len() - 1] + self.count
    }

    /// The first input pixel and the weights, for each output pixel.
    #[inline(always)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.firsts.iter().copied().zip(self.weights.chunks_exact(self.count))
    }
}

/// The nearest input pixel for each output pixel. Pillow accumulates the step, so the rounding of
/// the sum matters.
pub(super) fn nearest(from: usize, axis: &Axis) -> Vec<usize> {
    let step = from as f64 / axis.to as f64;
    let mut at = step * 0.5;
    let mut all = Vec::with_capacity(axis.keep.len());
    for place in 0..axis.keep.end {
        if place >= axis.keep.start {
            all.push((at as usize).min(from - 1));
        }
        at += step;
    }
    all
}
