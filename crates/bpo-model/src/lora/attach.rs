//! Puts adapters on the language model's linears.

use std::collections::BTreeMap;

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::LoraConfig;
use crate::llava::Llava;

/// Where the factors of a new adapter come from.
pub(super) enum Factors {
    /// As PEFT starts: A Kaiming-uniform with a = sqrt(5), which is U(-1/sqrt(d_in), 1/sqrt(d_in)), and B zero.
    /// Drawn on the host, per module, so that the same seed gives the same adapter on every device.
    Fresh { seed: u64 },
    /// By module name, A `[d_in, r]` and B `[r, d_out]`.
    Given(BTreeMap<String, (Tensor<2>, Tensor<2>)>),
}

/// A [`Reparameterizer`] that puts burn's adapters where a [`LoraConfig`] says.
pub(super) struct Attach<'a> {
    pub config: &'a LoraConfig,
    pub factors: Factors,
    pub device: Device,
}

impl Reparameterizer for Attach<'_> {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let Some(module) =
            path.strip_suffix(".weight").filter(|_| D == 2 && path.starts_with("language_model.layers."))
        else {
            return (param, None);
        };
        let shape = param.base().dims();
        let factors = match &mut self.factors {
            Factors::Fresh { seed } => {
                let leaf = module.rsplit('.').next().unwrap_or(module);
                self.config.target_modules.names().contains(&leaf).then(|| {
                    let (d_in, d_out, r) = (shape[0], shape[1], self.config.r);
                    let a = kaiming(*seed, module, d_in, r);
                    let options = (&self.device, DType::F32);
                    (Tensor::from_data(a, options), Tensor::zeros([r, d_out], options))
                })
            }
            Factors::Given(factors) => factors.remove(module),
        };
        let adapter = factors.map(|(a, b)| LoraAdapter {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            scale: self.config.scale(),
        });
        (param, adapter)
    }
}

fn kaiming(seed: u64, module: &str, d_in: usize, r: usize) -> TensorData {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream(module));
    let bound = 1.0 / (d_in as f32).sqrt();
    let values: Vec<f32> = (0..d_in * r).map(|_| rng.random_range(-bound..bound)).collect();
    TensorData::new(values, [d_in, r])
}

/// FNV-1a: an own random stream for each module, whatever else is adapted.
fn stream(module: &str) -> u64 {
    module
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Llava {
    /// Adds fresh adapters, and a trained copy of the projector if the settings want one.
    ///
    /// Nothing changes in what the model computes until it is trained. Adapters and projector copy alone require
    /// gradients.
    ///
    /// # Panics
    /// If the model has adapters already: they do not nest, merge them first.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Self {
        self.attach(config, Factors::Fresh { seed })
    }

    pub(super) fn attach(mut self, config: &LoraConfig, factors: Factors) -> Self {
        assert!(!self.has_adapters(), "the model has adapters already; merge them first");
        if config.train_projector {
            self.trained_projector = Some(self.multi_modal_projector.clone().trainable());
        }
        let device = self.device();
        self.apply_reparameterization(Attach { config, factors, device })
    }
}
