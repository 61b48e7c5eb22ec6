//! Noise on the factors of adapters in training.

use burn::module::LoraAdapter;
use burn::tensor::{Distribution, Tensor};

use super::Adapters;
use crate::error::ModelError;
use crate::vlm::Vlm;

/// Noise on the factors of an adapter, for one forward pass. It is on no tape.
#[derive(Clone, Debug)]
pub(crate) struct FactorNoise {
    /// `[d_in, r]`
    a: Tensor<2>,
    /// `[r, d_out]`
    b: Tensor<2>,
}

impl FactorNoise {
    /// Draws noise with a standard deviation. The device draws; the trainer sets its seed.
    fn draw(lora: &LoraAdapter, deviation: f64) -> Self {
        let [a, b] = [&lora.a, &lora.b].map(|factor| {
            let factor = factor.val();
            let factor = if factor.is_autodiff() { factor.inner() } else { factor };
            factor.random_like(Distribution::Normal(0.0, deviation))
        });
        Self { a, b }
    }

    /// Adds the noise to the factors. Gradients reach the factors as they are at the sums.
    pub(crate) fn add_to(&self, [a, b]: [Tensor<2>; 2]) -> [Tensor<2>; 2] {
        let sum = |factor: Tensor<2>, noise: &Tensor<2>| {
            let noise = noise.clone();
            let noise = if factor.is_autodiff() { Tensor::from_inner(noise) } else { noise };
            factor + noise
        };
        [sum(a, &self.a), sum(b, &self.b)]
    }
}

impl Vlm {
    /// Sets the standard deviation of the Gaussian noise that each forward pass in training adds to
    /// the factors of the adapters: see [`LoraConfig::lora_noise`](super::LoraConfig::lora_noise).
    ///
    /// # Errors
    /// [`ModelError::Setting`] for a deviation that is negative or that f32 cannot hold, or if the
    /// model has no adapters.
    pub fn with_lora_noise(mut self, lora_noise: f64) -> Result<Self, ModelError> {
        check(lora_noise)?;
        if lora_noise > 0.0 && super::count_adapters(&self) == 0 {
            let (key, expected) = ("lora_noise", "0 for a model without adapters");
            return Err(ModelError::Setting { key, expected, found: lora_noise.to_string() });
        }
        self.set_lora_noise(lora_noise);
        Ok(self)
    }

    /// The model with noise for one forward pass; `None` where there is none: outside training,
    /// which is on devices without autodiff, and with adapters off.
    ///
    /// The noise is drawn once and kept in the layers, so that gradient checkpointing recomputes
    /// them with the same noise.
    pub(crate) fn perturbed(&self, adapters: Adapters) -> Option<Self> {
        let deviation = self.lora_noise();
        if deviation == 0.0 || adapters == Adapters::Off || !self.device().is_autodiff() {
            return None;
        }
        // a clone shares the weights
        let mut model = self.clone();
        for linear in model.linears_mut() {
            linear.noise = linear.weight.adapter().map(|lora| Box::new(FactorNoise::draw(lora, deviation)));
        }
        Some(model)
    }
}

/// Checks a standard deviation.
///
/// # Errors
/// [`ModelError::Setting`].
pub(super) fn check(lora_noise: f64) -> Result<(), ModelError> {
    let usable = lora_noise == 0.0 || lora_noise > 0.0 && (lora_noise as f32).is_normal();
    let (key, expected) = ("lora_noise", "0, or a number above it that f32 can hold (1.2e-38 to 3.4e38)");
    if usable { Ok(()) } else { Err(ModelError::Setting { key, expected, found: lora_noise.to_string() }) }
}
