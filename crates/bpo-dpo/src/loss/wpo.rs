//! Weighted preference optimization.

use burn::tensor::Tensor;

use super::{PairLogps, PairRows, TokenLogps, TokenStatistics};

/// Returns the factors of the losses in WPO, which measure how likely the policy is to generate
/// both completions. They reduce the difference between data of another model and data of the
/// policy.
///
/// ```text
/// w(y) = exp(1 / |y| * sum_t (log p_t(y_t) - log sum_v p_t(v)^2))
/// weight = w(y_w) * w(y_l)
/// ```
///
/// Where
/// - `p_t`: the policy's distribution at token `t`,
/// - `y_w`, `y_l`: the chosen and the rejected completion, `|y|` their numbers of tokens.
///
/// Zhou et al., "WPO: Enhancing RLHF with Weighted Preference Optimization" (arXiv 2406.11827),
/// equation 2 with the sampled alignment. TRL's `use_weighting`.
///
/// # Shapes
/// - output: `[pairs]`, without an autodiff tape
pub fn wpo_weights(tokens: &TokenLogps, statistics: &TokenStatistics, rows: &PairRows) -> Tensor<1> {
    let counts = tokens.counts();
    let own = tokens.detached_sum().cast(counts.dtype());
    let squares = statistics.log_sum_squares.clone().sum_dim(1).squeeze_dim::<1>(1).cast(counts.dtype());
    let weights = ((own - squares) / counts.clamp_min(1.0)).exp();
    let pairs = PairLogps::select(weights, rows);
    pairs.chosen * pairs.rejected
}
