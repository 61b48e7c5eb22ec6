//! Log-probabilities of tokens, and statistics of each token's distribution.

use burn::tensor::{Bool, Int, Tensor};

use super::tensors::{widen, without_tape};

/// Log-probabilities of completion tokens.
///
/// Rows are the completions of all groups in order, starting with those of the first group.
#[derive(Clone, Debug)]
pub struct TokenLogps {
    /// Log-probability of each token given all earlier ones, in nats, `[completions, tokens]`. Zero
    /// where `mask` is false.
    pub logps: Tensor<2>,
    /// True at tokens of the completion, including its end token, and false at padding,
    /// `[completions, tokens]`.
    pub mask: Tensor<2, Bool>,
}

impl TokenLogps {
    /// Returns the sum over the tokens of each completion, in nats, `[completions]`. The sum of
    /// log-probabilities in half precision is in f32.
    pub fn sum(&self) -> Tensor<1> {
        widen(self.logps.clone()).sum_dim(1).squeeze_dim::<1>(1)
    }

    /// Returns the number of rows.
    pub(crate) fn completions(&self) -> usize {
        self.logps.dims()[0]
    }

    /// Returns [`sum`](Self::sum) without an autodiff tape, `[completions]`.
    pub(crate) fn detached_sum(&self) -> Tensor<1> {
        without_tape(self.sum())
    }

    /// Returns the number of tokens of each completion, `[completions]`, without an autodiff tape.
    pub fn counts(&self) -> Tensor<1> {
        without_tape(self.mask.clone().float().sum_dim(1).squeeze_dim::<1>(1))
    }
}

/// Statistics of the distribution over the vocabulary at each token. All tensors are `[completions,
/// tokens]` in f32, as the [`TokenLogps`] of the same pass, zero at padding, and without an
/// autodiff tape.
#[derive(Clone, Debug)]
pub struct TokenStatistics {
    /// `-sum_v p_v log p_v`, in nats.
    pub entropy: Tensor<2>,
    /// Mean of the logits.
    pub mean_logit: Tensor<2>,
    /// `log sum_v p_v^2`, which WPO needs.
    pub log_sum_squares: Tensor<2>,
    /// 1 if the token has the highest probability, otherwise 0.
    pub top1: Tensor<2>,
}

impl TokenStatistics {
    /// Number of statistics.
    pub const COUNT: usize = 4;

    /// Computes the statistics of tokens, in the order of the fields.
    ///
    /// # Shapes
    /// - `logits`: `[tokens, vocab]`
    /// - `logps`: `[tokens, vocab]`, the log-probabilities of the whole vocabulary
    /// - `targets`: `[tokens, 1]`
    /// - output: `[tokens, 4]`, without an autodiff tape
    pub fn of_logps(logits: Tensor<2>, logps: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<2> {
        let (logits, logps) = (widen(without_tape(logits)), widen(without_tape(logps)));
        let targets = without_tape(targets);
        let p = logps.clone().exp();
        let entropy = (p.clone() * logps).sum_dim(1).neg();
        let squares = p.square().sum_dim(1).log();
        let top1 = logits.clone().argmax(1).equal(targets).float().cast(logits.dtype());
        Tensor::cat(vec![entropy, logits.mean_dim(1), squares, top1], 1)
    }

    /// Splits a tensor of statistics, `[completions, tokens, 4]`, into the fields.
    pub fn unpack(statistics: Tensor<3>) -> Self {
        let part = |at: usize| statistics.clone().narrow(2, at, 1).squeeze_dim::<2>(2);
        Self { entropy: part(0), mean_logit: part(1), log_sum_squares: part(2), top1: part(3) }
    }
}

/// The log-probabilities of a policy and its reference, with the divergence between their
/// distributions at each token.
#[derive(Clone, Debug)]
pub struct TokenDivergences {
    /// Log-probabilities of the policy.
    pub policy: TokenLogps,
    /// Statistics of the distributions of the policy, if they were asked for.
    pub statistics: Option<TokenStatistics>,
    /// Log-probabilities of the reference, without an autodiff tape.
    pub reference: TokenLogps,
    /// [`token_divergence`] at each token, `[completions, tokens]` in f32, zero at padding, on the
    /// autodiff tape of the policy.
    pub divergences: Tensor<2>,
}

/// Computes the divergence of the distribution of the policy from that of the reference at each
/// token, in nats.
///
/// ```text
/// KL(p_ref || p) = sum_v p_ref(v) (log p_ref(v) - log p(v))
/// ```
///
/// Where
/// - `p`, `p_ref`: the distributions of policy and reference over the vocabulary.
///
/// Its sum over the tokens of a completion is the sequential divergence of Zeng et al., "Token-level
/// Direct Preference Optimization" (arXiv 2404.11999).
///
/// # Shapes
/// - `reference`, `policy`: log-probabilities of the whole vocabulary, `[tokens, vocab]`. The
///   reference gets no gradient.
/// - output: `[tokens, 1]` in f32
pub fn token_divergence(reference: Tensor<2>, policy: Tensor<2>) -> Tensor<2> {
    let (reference, policy) = (widen(without_tape(reference)), widen(policy));
    let p = reference.clone().exp();
    let [p, reference] = [p, reference].map(|x| if policy.is_autodiff() { Tensor::from_inner(x) } else { x });
    (p * (reference - policy)).sum_dim(1)
}
