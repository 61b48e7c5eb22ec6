//! Implicit rewards.

use burn::tensor::Tensor;

use super::tensors::{constant_like, without_tape};
use super::{Contrasted, PairLengths};

/// Implicit rewards of both completions of each pair, `r = beta * f'(pi(y) / pi_ref(y))`, which is
/// `beta * (log pi(y) - log pi_ref(y))` for the reverse KL divergence (arXiv 2305.18290; arXiv
/// 2309.16240 for others).
///
/// Most losses are functions of the rewards. [`Objective::forward`](super::Objective::forward)
/// computes them.
#[derive(Clone, Debug)]
pub struct Rewards {
    /// Rewards of the chosen completions, `[pairs]`.
    pub chosen: Tensor<1>,
    /// Rewards of the rejected completions, `[pairs]`.
    pub rejected: Tensor<1>,
    /// Rewards of the chosen completions for the weakened image, `[pairs]` for each weakened form of
    /// the images, for losses that need them; otherwise empty.
    pub weakened: Vec<Tensor<1>>,
    /// Rewards of the contrast of each pair, all `[pairs]`, for losses that need them.
    pub contrast: Option<Contrasted<Tensor<1>>>,
}

impl Rewards {
    /// Creates rewards without weakened images and contrasts. Both tensors are `[pairs]`.
    pub fn new(chosen: Tensor<1>, rejected: Tensor<1>) -> Self {
        Self { chosen, rejected, weakened: Vec::new(), contrast: None }
    }

    /// Returns the differences between the rewards of the chosen and the rejected completions.
    /// `[pairs]`
    pub fn margins(&self) -> Tensor<1> {
        self.chosen.clone() - self.rejected.clone()
    }

    /// Returns the margins of the [contrast](Self::contrast) of each pair, `[pairs]`, or `None` if there
    /// is none: how much higher the reward of the right answer is than that of the answer for the other
    /// images, first for the images of the pair, then for those of the contrast.
    pub fn contrast_margins(&self) -> Option<[Tensor<1>; 2]> {
        let Contrasted { answer, images, both } = self.contrast.clone()?;
        Some([self.chosen.clone() - answer, both - images])
    }

    /// Returns the mean of the rewards for the [weakened](Self::weakened) images of each pair,
    /// `[pairs]`, or `None` if there are none.
    pub fn mean_weakened(&self) -> Option<Tensor<1>> {
        mean_of(self.weakened.iter().cloned())
    }

    /// Returns the rewards of the chosen and the rejected completions, and of the chosen ones for
    /// weakened images, divided by the numbers of tokens.
    pub fn per_token(&self, lengths: &PairLengths) -> Self {
        let mean =
            |rewards: &Tensor<1>, lengths: &Tensor<1>| rewards.clone() / constant_like(lengths, rewards);
        Self {
            chosen: mean(&self.chosen, &lengths.chosen),
            rejected: mean(&self.rejected, &lengths.rejected),
            weakened: self.weakened.iter().map(|rewards| mean(rewards, &lengths.chosen)).collect(),
            contrast: None,
        }
    }

    /// Returns the same values without an autodiff tape.
    pub fn inner(self) -> Self {
        self.map(without_tape)
    }

    /// Applies a function to each tensor.
    pub(super) fn map(self, of: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            chosen: of(self.chosen),
            rejected: of(self.rejected),
            weakened: self.weakened.into_iter().map(&of).collect(),
            contrast: self.contrast.map(|contrast| contrast.map(&of)),
        }
    }
}

/// Returns the mean of tensors, `[pairs]`. Returns a single tensor as it is, and `None` for none.
pub(super) fn mean_of(values: impl ExactSizeIterator<Item = Tensor<1>>) -> Option<Tensor<1>> {
    let count = values.len();
    let sum = values.reduce(|sum, value| sum + value)?;
    Some(if count == 1 { sum } else { sum.div_scalar(count as f64) })
}
