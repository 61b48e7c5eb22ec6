//! [`Vlm`] as a policy of bpo-dpo's trainer.

use bpo_dpo::{Adapters, Policy, TokenDivergences, TokenLogps, TokenStatistics};
use burn::tensor::{Int, Tensor};

use super::ScoreBatch;
use crate::kernels::{log_softmax, token_statistics};
use crate::vlm::Vlm;

impl Policy for Vlm {
    type Batch = ScoreBatch;

    fn token_logps(&self, batch: &ScoreBatch, adapters: Adapters) -> TokenLogps {
        let (logps, mask) = self.completion_logps(batch, adapters.into()).expect(COLLATED);
        TokenLogps { logps, mask }
    }

    fn token_statistics(
        &self,
        batch: &ScoreBatch,
        adapters: Adapters,
    ) -> (TokenLogps, Option<TokenStatistics>) {
        let of = |logits: Tensor<2>, targets: Tensor<2, Int>| {
            let logps = log_softmax(logits.clone());
            let statistics = token_statistics(logits, logps.clone(), targets.clone());
            [logps.gather(1, targets), statistics]
        };
        let ([logps, statistics], mask) =
            self.at_completion_tokens(batch, adapters.into(), of).expect(COLLATED);
        let logps = logps.squeeze_dim::<2>(2);
        (TokenLogps { logps, mask }, Some(TokenStatistics::unpack(statistics)))
    }

    /// The width of the head.
    fn vocabulary(&self) -> Option<usize> {
        Some(self.config().decoder().vocab_size)
    }

    fn token_divergences(
        &self,
        batch: &ScoreBatch,
        reference: &Self,
        adapters: Adapters,
        statistics: bool,
    ) -> Option<TokenDivergences> {
        let of = (reference, adapters.into());
        Some(self.completion_divergences(batch, of, statistics).expect(COLLATED))
    }

    /// Whether adapters have dropout or noise.
    fn draws(&self) -> bool {
        self.dropout() > 0.0 || self.lora_noise() > 0.0
    }

    /// The batch with the features of its images, unless the vision tower is trained or adapted.
    fn shared(&self, batch: &ScoreBatch) -> Option<ScoreBatch> {
        self.with_features(batch)
    }
}

const COLLATED: &str = "a collated batch has as many image tokens as image features";
