//! Loops over rows of f32, compiled for the vector registers of the processor.
//!
//! Sums are computed in [`LANES`] parts whatever the width of the registers, multiplication and
//! addition are not fused, and a row is never split between threads. So results are the same to the
//! bit on every x86-64 processor and for any number of threads.

use super::rows::{Changed, rows, rows_made_of, rows_of_two};

const LANES: usize = 16;

/// Computes `exp(x)` for `x <= 0`, within two units in the last place; 0 below -87.3, before
/// results become subnormal. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // rounds to the nearest integer by adding a number without a fraction
    const NO_FRACTION: f32 = 12_582_912.0;
    // the first part has few enough digits for exact products
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Cephes' polynomial for (exp(r) - 1 - r) / r^2, |r| <= ln 2 / 2
    const P: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let shifted = x * std::f32::consts::LOG2_E + NO_FRACTION;
    let n = shifted - NO_FRACTION;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let p = ((((P[0] * r + P[1]) * r + P[2]) * r + P[3]) * r + P[4]) * r + P[5];
    let power = shifted.to_bits().wrapping_sub(NO_FRACTION.to_bits()).wrapping_add(127) << 23;
    let e = (p * r * r + r + 1.0) * f32::from_bits(power);
    if x < -87.3 { 0.0 } else { e }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    (if x >= 0.0 { 1.0 } else { e }) / (1.0 + e)
}

/// `x * sigmoid(beta * x)`.
#[inline(always)]
fn swish(x: f32, beta: f32) -> f32 {
    x * sigmoid(beta * x)
}

/// The derivative of `x * sigmoid(beta * x)`.
#[inline(always)]
fn swish_slope(x: f32, beta: f32) -> f32 {
    let s = sigmoid(beta * x);
    s + beta * x * s * (1.0 - s)
}

/// The tanh approximation of GELU is `x * sigmoid(z)` for `z = BETA (x + CUBIC x^3)`, because
/// `1 + tanh(z / 2)` is `2 sigmoid(z)`. `BETA` is `2 sqrt(2 / pi)`.
const BETA: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;
/// Where the sigmoid is 0 or 1 in f32. The cube of a larger value may be infinite.
const FLAT: f32 = 20.0;

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let at = x.clamp(-FLAT, FLAT);
    x * sigmoid(BETA * (at + CUBIC * at * at * at))
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let at = x.clamp(-FLAT, FLAT);
    let s = sigmoid(BETA * (at + CUBIC * at * at * at));
    s + at * s * (1.0 - s) * BETA * (1.0 + 3.0 * CUBIC * at * at)
}

/// Sums `of(i)` for `i` below `count` in `LANES` parts, in f64, so that zeros of padding do not
/// change the result.
#[inline(always)]
fn sum(count: usize, of: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = count / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f64::from(of(start + lane));
        }
    }
    (whole..count).fold(lanes.iter().sum::<f64>(), |sum, i| sum + f64::from(of(i))) as f32
}

#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = row.split_at(row.len() / LANES * LANES);
    for chunk in whole.chunks_exact(LANES) {
        for (max, x) in lanes.iter_mut().zip(chunk) {
            *max = if *x > *max { *x } else { *max };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max })
}

/// Computes `softmax(scores + mask)` by rows of `width`, in place. `mask_of` gives the mask of a
/// row.
pub(super) fn masked_softmax<'a>(
    scores: impl Into<Changed<'a>>,
    width: usize,
    mask_of: impl Fn(usize) -> &'a [f32] + Sync,
) {
    rows(
        scores,
        width,
        #[inline(always)]
        |row, scores| {
            for (score, mask) in scores.iter_mut().zip(mask_of(row)) {
                *score += mask;
            }
            let max = max(scores);
            for score in scores.iter_mut() {
                *score = exp(*score - max);
            }
            let scale = 1.0 / sum(width, |i| scores[i]);
            for score in scores.iter_mut() {
                *score *= scale;
            }
        },
    );
}

/// Computes the gradient of softmax's input from that of its output, in place: `y * (g - sum(y
/// g))`.
pub(super) fn softmax_backward<'a>(grad: impl Into<Changed<'a>>, y: &[f32], width: usize) {
    rows(
        grad,
        width,
        #[inline(always)]
        |row, grad| {
            let y = &y[row * width..][..width];
            let along = sum(width, |i| grad[i] * y[i]);
            for (grad, y) in grad.iter_mut().zip(y) {
                *grad = (*grad - along) * y;
            }
        },
    );
}

/// Computes `x - log(sum(exp(x)))` by rows, in place.
pub(super) fn log_softmax<'a>(x: impl Into<Changed<'a>>, width: usize) {
    rows(
        x,
        width,
        #[inline(always)]
        |_, x| {
            let max = max(x);
            let log = sum(width, |i| exp(x[i] - max)).ln();
            for x in x.iter_mut() {
                // two subtractions of values of different size keep precision
                *x = *x - max - log;
            }
        },
    );
}

/// Computes the gradient of its input, in place: `g - exp(y) sum(g)`.
pub(super) fn log_softmax_backward<'a>(grad: impl Into<Changed<'a>>, y: &[f32], width: usize) {
    rows(
        grad,
        width,
        #[inline(always)]
        |row, grad| {
            let y = &y[row * width..][..width];
            let all = sum(width, |i| grad[i]);
            for (grad, y) in grad.iter_mut().zip(y) {
                *grad -= exp(*y) * all;
            }
        },
    );
}

/// Computes for each row of a distribution its entropy, the mean of its logits, `log sum_v p_v^2`,
/// and the index of the largest logit: `[rows, 4]`.
#[cfg(feature = "dpo")]
pub(super) fn statistics(out: &mut [f32], logits: &[f32], logps: &[f32], vocab: usize) {
    rows_made_of(
        vocab,
        out,
        4,
        #[inline(always)]
        |row, out| {
            let [logits, logps] = [logits, logps].map(|x| &x[row * vocab..][..vocab]);
            let entropy = -sum(vocab, |i| exp(logps[i]) * logps[i]);
            let mean = sum(vocab, |i| logits[i]) / vocab as f32;
            let squares = sum(vocab, |i| exp(logps[i]) * exp(logps[i]));
            out.copy_from_slice(&[entropy, mean, squares.ln(), place(logits, max(logits)) as f32]);
        },
    );
}

/// The first index of a value, or 0 if there is none.
#[cfg(feature = "dpo")]
#[inline(always)]
fn place(row: &[f32], value: f32) -> usize {
    // a chunk is not left early, so it vectorizes
    let in_chunk = |chunk: &[f32]| chunk.iter().fold(false, |found, x| found | (*x == value));
    let start = row.chunks(LANES).position(in_chunk).unwrap_or(0) * LANES;
    start + row[start..].iter().position(|x| *x == value).unwrap_or(0)
}

/// Computes `x * sigmoid(beta * x)`, in place.
pub(super) fn swish_all<'a>(x: impl Into<Changed<'a>>, beta: f32) {
    let x = x.into();
    let width = x.piece();
    rows(
        x,
        width,
        #[inline(always)]
        |_, x| {
            for x in x {
                *x = swish(*x, beta);
            }
        },
    );
}

/// Computes the gradient of its input, in place.
pub(super) fn swish_backward<'a>(grad: impl Into<Changed<'a>>, x: &[f32], beta: f32) {
    let grad = grad.into();
    let width = grad.piece();
    rows(
        grad,
        width,
        #[inline(always)]
        |row, grad| {
            for (grad, x) in grad.iter_mut().zip(&x[row * width..]) {
                *grad *= swish_slope(*x, beta);
            }
        },
    );
}

/// Computes the tanh approximation of GELU, in place.
pub(super) fn gelu_tanh_all<'a>(x: impl Into<Changed<'a>>) {
    let x = x.into();
    let width = x.piece();
    rows(
        x,
        width,
        #[inline(always)]
        |_, x| {
            for x in x {
                *x = gelu_tanh(*x);
            }
        },
    );
}

/// Computes the gradient of its input, in place.
pub(super) fn gelu_tanh_backward<'a>(grad: impl Into<Changed<'a>>, x: &[f32]) {
    let grad = grad.into();
    let width = grad.piece();
    rows(
        grad,
        width,
        #[inline(always)]
        |row, grad| {
            for (grad, x) in grad.iter_mut().zip(&x[row * width..]) {
                *grad *= gelu_tanh_slope(*x);
            }
        },
    );
}

/// Computes `silu(gate) * up`, in place of `gate`.
pub(super) fn swiglu<'a>(gate: impl Into<Changed<'a>>, up: &[f32], width: usize) {
    rows(
        gate,
        width,
        #[inline(always)]
        |row, gate| {
            for (gate, up) in gate.iter_mut().zip(&up[row * width..][..width]) {
                *gate = swish(*gate, 1.0) * up;
            }
        },
    );
}

/// Computes the gradients of its inputs, in place of the inputs.
pub(super) fn swiglu_backward(gate: &mut [f32], up: &mut [f32], grad: &[f32], width: usize) {
    rows_of_two(
        gate,
        up,
        width,
        #[inline(always)]
        |row, gate, up| {
            for ((gate, up), grad) in gate.iter_mut().zip(up).zip(&grad[row * width..][..width]) {
                let (g, u) = (*gate, *up);
                *gate = grad * u * swish_slope(g, 1.0);
                *up = grad * swish(g, 1.0);
            }
        },
    );
}

/// Computes `x / sqrt(mean(x^2) + epsilon) * gamma` by rows, in place.
pub(super) fn rms_norm<'a>(x: impl Into<Changed<'a>>, gamma: &[f32], epsilon: f32) {
    let width = gamma.len();
    rows(
        x,
        width,
        #[inline(always)]
        |_, x| {
            let scale = rms_scale(x, epsilon);
            for (x, gamma) in x.iter_mut().zip(gamma) {
                *x = *x * scale * gamma;
            }
        },
    );
}

/// Computes the gradient of its input, in place: with the scale `s` and `h = g gamma`, `s h - x s^3
/// mean(h x)`.
pub(super) fn rms_norm_backward<'a>(grad: impl Into<Changed<'a>>, x: &[f32], gamma: &[f32], epsilon: f32) {
    let width = gamma.len();
    rows(
        grad,
        width,
        #[inline(always)]
        |row, grad| {
            let x = &x[row * width..][..width];
            let scale = rms_scale(x, epsilon);
            let along = sum(width, |i| grad[i] * gamma[i] * x[i]) / width as f32 * scale * scale;
            for ((grad, x), gamma) in grad.iter_mut().zip(x).zip(gamma) {
                *grad = (*grad * gamma - x * along) * scale;
            }
        },
    );
}

#[inline(always)]
fn rms_scale(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum(x.len(), |i| x[i] * x[i]) / x.len() as f32 + epsilon).sqrt()
}

/// Applies rotary positions to heads of tokens: `x cos + swapped sin`, where the sines of the first
/// half are negative. The tables have one row per token.
pub(super) fn rotate(out: &mut [f32], x: &[f32], [cos, sin]: [&[f32]; 2], [heads, width]: [usize; 2]) {
    let half = width / 2;
    rows(
        out,
        width,
        #[inline(always)]
        |row, out| {
            let (first, second) = x[row * width..][..width].split_at(half);
            let [cos, sin] = [cos, sin].map(|table| table[row / heads * width..][..width].split_at(half));
            let (low, high) = out.split_at_mut(half);
            for i in 0..half {
                low[i] = first[i] * cos.0[i] + second[i] * sin.0[i];
                high[i] = second[i] * cos.1[i] + first[i] * sin.1[i];
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rows::WORTH_A_THREAD;
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn exp_is_that_of_f64(x in -100f32..=0.0) {
            let expected = f64::from(x).exp();
            let found = f64::from(exp(x));
            if x < -87.3 {
                prop_assert_eq!(found, 0.0);
            } else {
                prop_assert!((found - expected).abs() <= 2.4e-7 * expected, "{} {}", found, expected);
            }
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!((exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY)), (1.0, 1.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    /// Results do not depend on the parts that threads take, nor on the remainder after the last
    /// whole vector.
    #[test]
    fn rows_are_alone() {
        for width in [1, 7, 16, 33, 1000] {
            let count = 3 * WORTH_A_THREAD / width + 2;
            let x: Vec<f32> = (0..count * width).map(|i| ((i % 1013) as f32 * 0.37).sin() * 3.0).collect();
            let mut all = x.clone();
            log_softmax(all.as_mut_slice(), width);
            for row in [0, 1, count / 2, count - 1] {
                let mut alone = x[row * width..][..width].to_vec();
                log_softmax(alone.as_mut_slice(), width);
                assert_eq!(alone, all[row * width..][..width], "row {row} of {width}");
            }
        }
    }
}
