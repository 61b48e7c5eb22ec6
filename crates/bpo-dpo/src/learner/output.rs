//! What a step gives to burn's metrics.

use std::sync::Arc;

use bpo_pairs::error::chain;
use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use burn::train::ItemLazy;
use burn::train::metric::{Adaptor, LossInput};

use crate::error::DpoError;
use crate::figures::Figures;
use crate::metrics::StepMetrics;

/// Figures of a batch, or why there are none. All values are on the host already.
#[derive(Clone, Debug)]
pub struct PairOutput {
    losses: Vec<f64>,
    metrics: StepMetrics,
    error: Option<Arc<DpoError>>,
}

impl PairOutput {
    pub(super) fn new(figures: Figures) -> Self {
        Self { metrics: figures.metrics(), losses: figures.losses, error: None }
    }

    pub(super) fn failed(error: Arc<DpoError>) -> Self {
        Self { error: Some(error), ..Self::new(Figures::default()) }
    }

    /// The loss of each pair.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// Means over the pairs, under TRL's names. What is of an optimizer step (its number, learning rate and norm) is 0.
    pub fn metrics(&self) -> &StepMetrics {
        &self.metrics
    }

    /// Why the batch could not be computed.
    pub fn error(&self) -> Option<&DpoError> {
        self.error.as_deref()
    }
}

impl ItemLazy for PairOutput {
    /// Fails with the error of the batch: this is how burn's loops hear of it and stop.
    fn sync(self) -> Result<Self, ExecutionError> {
        match &self.error {
            None => Ok(self),
            Some(error) => Err(ExecutionError::with_context(chain(error))),
        }
    }
}

impl Adaptor<LossInput> for PairOutput {
    fn adapt(&self) -> LossInput {
        let data = TensorData::new(self.losses.clone(), [self.losses.len()]);
        LossInput::new(Tensor::from_data(data, &Device::flex()))
    }
}

impl Adaptor<StepMetrics> for PairOutput {
    fn adapt(&self) -> StepMetrics {
        self.metrics.clone()
    }
}
