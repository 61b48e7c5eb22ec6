//! Puts adapters on linears.

use std::collections::BTreeMap;

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{DType, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::LoraConfig;
use super::linears::linear_shapes;
use super::names::stream;
use crate::error::ModelError;
use crate::llava::Llava;

/// By module name, A `[d_in, r]` and B `[r, d_out]`.
pub(super) type Factors = BTreeMap<String, (Tensor<2>, Tensor<2>)>;

/// A [`Reparameterizer`] that puts burn's adapters where there are factors.
struct Attach {
    factors: Factors,
    scale: f64,
}

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let factors = path.strip_suffix(".weight").and_then(|module| self.factors.remove(module));
        let adapter = factors.map(|(a, b)| LoraAdapter {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            scale: self.scale,
        });
        (param, adapter)
    }
}

/// As PEFT starts: U(-1/sqrt(d_in), 1/sqrt(d_in)), which is Kaiming-uniform with a = sqrt(5). Drawn on the host, per
/// module, so that the same seed gives the same adapter on every device.
fn kaiming(seed: u64, module: &str, d_in: usize, r: usize) -> TensorData {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream(module));
    let bound = 1.0 / (d_in as f32).sqrt();
    let values: Vec<f32> = (0..d_in * r).map(|_| rng.random_range(-bound..bound)).collect();
    TensorData::new(values, [d_in, r])
}

impl Llava {
    /// Adds fresh adapters, and a trained copy of the projector if the settings want one.
    ///
    /// Nothing changes in what the model computes until it is trained. Adapters and projector copy alone require
    /// gradients.
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`] if there are some: they do not nest. [`ModelError::Setting`] for settings that cannot
    /// work; [`ModelError::TargetPattern`], [`ModelError::NotAdaptable`] or [`ModelError::NoTarget`] for targets that
    /// select nothing that could be adapted.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, ModelError> {
        self.check_plain()?;
        config.validate()?;
        self.check_recompute(config.lora_dropout)?;
        let shapes = linear_shapes(&self);
        let adaptable = || shapes.keys().map(String::as_str).filter(|name| !config.is_whole(name));
        let options = (&self.device(), DType::F32);
        let mut factors = Factors::new();
        for module in config.target_modules.select(adaptable())? {
            let [d_in, d_out] = shapes[&module];
            let a = Tensor::from_data(kaiming(seed, &module, d_in, config.r), options);
            factors.insert(module, (a, Tensor::zeros([config.r, d_out], options)));
        }
        Ok(self.attach(config, factors))
    }

    /// Sets the dropout of the adapters' input in training, in place of that which an adapter was loaded with.
    ///
    /// # Errors
    /// [`ModelError::Setting`] with recomputation, which would drop other values the second time.
    pub fn with_lora_dropout(mut self, dropout: f64) -> Result<Self, ModelError> {
        self.check_recompute(dropout)?;
        self.linears_mut().for_each(|linear| linear.dropout = dropout);
        Ok(self)
    }

    /// Puts factors on a model that has none.
    pub(super) fn attach(mut self, config: &LoraConfig, factors: Factors) -> Self {
        if config.train_projector {
            self.trained_projector = Some(self.multi_modal_projector.clone().trainable());
        }
        let mut model = self.apply_reparameterization(Attach { factors, scale: config.scale() });
        model.linears_mut().for_each(|linear| linear.dropout = config.lora_dropout);
        model
    }

    /// Adapters do not nest, and what is adapted is not the checkpoint that it was loaded from.
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`].
    pub(crate) fn check_plain(&self) -> Result<(), ModelError> {
        if self.has_adapters() { Err(ModelError::HasAdapters) } else { Ok(()) }
    }
}

impl LoraConfig {
    /// Whether a module is trained in full, and so has no adapter.
    pub(super) fn is_whole(&self, module: &str) -> bool {
        self.train_projector && module.starts_with("multi_modal_projector.")
    }
}
