//! Divergences between the distributions of a model and its reference at completion tokens.

use std::sync::Arc;

use bpo_dpo::{TokenDivergences, TokenLogps, TokenStatistics, token_divergence};
use burn::tensor::kind::Autodiff;
use burn::tensor::{Int, Tensor};

use super::ScoreBatch;
use crate::error::ModelError;
use crate::gradient_checkpointing::recomputed;
use crate::kernels::{log_softmax, token_statistics};
use crate::lora::{Adapters, Linear};
use crate::pool::in_pool;
use crate::vlm::Vlm;

impl Vlm {
    /// Computes the log-probability of every completion token under this model and under its
    /// reference, and the [divergence](token_divergence) between their distributions. With
    /// `statistics`, also those of this model.
    ///
    /// Both heads are applied in chunks. The backward pass computes the logits of a chunk again, so
    /// the tape keeps the hidden states of the tokens and no distribution, unless an adapter of the
    /// head has dropout. In training, adapters of this model have
    /// [noise](crate::LoraConfig::lora_noise), and those of the reference have none.
    ///
    /// # Errors
    /// Those of [`completion_logps`](Self::completion_logps).
    pub(crate) fn completion_divergences(
        &self,
        batch: &ScoreBatch,
        (reference, adapters): (&Self, Adapters),
        statistics: bool,
    ) -> Result<TokenDivergences, ModelError> {
        let states =
            |model: &Self, adapters| in_pool(&model.device(), || model.completion_states(batch, adapters));
        let perturbed = self.perturbed(Adapters::On);
        let model = perturbed.as_ref().unwrap_or(self);
        let of_reference = states(reference, adapters)?;
        let own = states(model, Adapters::On)?;
        let ([columns], mask) =
            model.map_states(batch, [own, of_reference], |[own, of_reference], targets| {
                let chunk = Chunk {
                    reference: reference.clone(),
                    adapters,
                    states: of_reference,
                    targets,
                    statistics,
                };
                let forward = move |model: &Self, states: Tensor<2>| chunk.columns(model, states);
                // another mask would be drawn for the second forward pass
                let drops = |head: &Linear| head.dropout > 0.0 && head.weight.adapter().is_some();
                let draws = model.lm_head.as_ref().is_some_and(drops);
                [if draws { forward(model, own) } else { recomputed(model, own, Arc::new(forward)) }]
            });
        let column = |at: usize| columns.clone().narrow(2, at, 1).squeeze_dim::<2>(2);
        let statistics = statistics.then(|| {
            TokenStatistics::unpack(off_tape(columns.clone().narrow(2, COLUMNS, TokenStatistics::COUNT)))
        });
        Ok(TokenDivergences {
            policy: TokenLogps { logps: column(0), mask: mask.clone() },
            statistics,
            reference: TokenLogps { logps: off_tape(column(2)), mask },
            divergences: column(1),
        })
    }
}

/// Number of columns of [`Chunk::columns`] without statistics.
const COLUMNS: usize = 3;

/// The completion tokens that the heads are applied to at once. All tensors but the states are off
/// the tape.
struct Chunk {
    reference: Vlm,
    /// Those of the reference.
    adapters: Adapters,
    /// Hidden states of the reference. `[n, hidden]`
    states: Tensor<2>,
    /// The tokens that follow. `[n, 1]`
    targets: Tensor<2, Int>,
    statistics: bool,
}

impl Chunk {
    /// Computes the log-probability of each target under the model, the divergence from the
    /// reference, the log-probability under the reference, and the statistics: `[n, 3]` or `[n, 7]`,
    /// given hidden states of the model, `[n, hidden]`.
    fn columns(&self, model: &Vlm, states: Tensor<2>) -> Tensor<2> {
        let Self { reference, adapters, states: of_reference, targets, statistics } = self;
        let logits = model.head(states, Adapters::On);
        let logps = log_softmax(logits.clone());
        let on_tape = |x: Tensor<2>| if logps.is_autodiff() { Tensor::from_inner(x) } else { x };
        let of_reference = off_tape(log_softmax(reference.head(of_reference.clone(), *adapters)));
        let own_targets =
            if logps.is_autodiff() { Tensor::from_inner(targets.clone()) } else { targets.clone() };
        let mut columns = vec![
            logps.clone().gather(1, own_targets),
            token_divergence(of_reference.clone(), logps.clone()),
            on_tape(of_reference.gather(1, targets.clone())),
        ];
        if *statistics {
            let (logits, logps) = (off_tape(logits), off_tape(logps.clone()));
            columns.push(on_tape(token_statistics(logits, logps, targets.clone())));
        }
        Tensor::cat(columns, 1)
    }
}

fn off_tape<const D: usize, K: Autodiff>(x: Tensor<D, K>) -> Tensor<D, K> {
    if x.is_autodiff() { x.inner() } else { x }
}
