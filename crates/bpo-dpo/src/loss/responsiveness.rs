//! The coefficient of a pair by the responsiveness of the policy to its batch.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

use super::Beta;
use super::tensors::{constant_like, widen, without_tape};

/// The number of pairs from which the responsiveness can differ from 1.
pub(crate) const RESPONSIVE_PAIRS: usize = 3;

/// The smallest coefficient of a pair, as in the authors' code.
const BETA_FLOOR: f64 = 1e-6;

/// The mean of the gaps that is too close to zero to divide by, as in the authors' code.
const TINY_MEAN: f64 = 1e-8;

/// Returns the responsiveness of the policy to a batch, `[1]`, without an autodiff tape.
///
/// ```text
/// n_i = g_i / s,   s = mean(g)             if |mean(g)| > 1e-8
///                  s = max(mean(|g|), 1e-8) otherwise
/// rho = sigmoid(mean of n without its smallest and its largest value) / sigmoid(mean of n)
/// ```
///
/// Where
/// - `g_i`: gap of pair `i`, the difference between the rewards of its chosen and its rejected
///   completion, `beta * (log pi(y_w) - log pi_ref(y_w) - log pi(y_l) + log pi_ref(y_l))`, with the
///   same `beta` for all pairs.
///
/// It is below 1 where the two values that are left out raise the mean of `n`, and above 1 where
/// they lower it. It is 1 for fewer than three pairs, of which none is left out. Equation 8 of HaNoRec (arXiv 2511.18740), as its
/// authors compute it: for each forward pass, over all pairs of that pass.
///
/// # Shapes
/// - `gaps`: `[pairs]`
pub fn responsiveness(gaps: Tensor<1>) -> Tensor<1> {
    let gaps = widen(without_tape(gaps));
    let [pairs] = gaps.dims();
    if pairs < RESPONSIVE_PAIRS {
        return Tensor::ones([1], (&gaps.device(), gaps.dtype()));
    }
    let mean = gaps.clone().mean();
    let is_tiny = mean.clone().abs().lower_equal_elem(TINY_MEAN);
    let scale = mean.mask_where(is_tiny, gaps.clone().abs().mean().clamp_min(TINY_MEAN));
    let gaps = (gaps / scale).sort(0);
    let kept = gaps.clone().narrow(0, 1, pairs - 2);
    sigmoid(kept.mean()) / sigmoid(gaps.mean())
}

/// Returns the coefficients of pairs in a batch with a responsiveness, `[pairs]`, without an
/// autodiff tape.
///
/// ```text
/// beta_i = max(1e-6, rho * beta_0 * h_i)
/// ```
///
/// Where
/// - `rho`: the [responsiveness](responsiveness()) of the batch, `[1]`,
/// - `beta_0 * h_i`: the coefficient of pair `i` in `beta`, which is the
///   [`beta`](bpo_pairs::PreferencePair::beta) of the pair, for example the shared one times the
///   [hardness](crate::hardness) of the pair.
///
/// Equation 11 of HaNoRec (arXiv 2511.18740), with the lower limit of the authors' code.
pub fn responsive_beta(beta: &Beta, responsiveness: Tensor<1>, pairs: usize) -> Tensor<1> {
    let rho = without_tape(responsiveness).expand([pairs]);
    let betas = match beta {
        Beta::Shared(beta) => rho.mul_scalar(*beta),
        Beta::PerPair(beta) => {
            let beta = constant_like(beta, &rho);
            rho * beta
        }
    };
    betas.clamp_min(BETA_FLOOR)
}
