//! Attaches adapters to linears.

use std::collections::BTreeMap;

use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Linear;
use super::config::LoraConfig;
use super::linears::linear_shapes;
use super::names::{original, stream};
use super::patterns::Ranks;
use super::whole::trainable;
use crate::error::ModelError;
use crate::families::Projector;
use crate::vlm::{HEAD, ModelPart, PROJECTOR, Vlm};

/// Factors by module name.
pub(super) type Factors = BTreeMap<String, Factored>;

/// The factors of an adapter.
pub(super) struct Factored {
    /// `[d_in, r]`
    pub a: Tensor<2>,
    /// `[r, d_out]`
    pub b: Tensor<2>,
    /// The factor of their product.
    pub scale: f64,
}

/// A [`Reparameterizer`] that attaches burn's adapters.
struct Attach {
    factors: Factors,
    /// Whether the projector has a copy, which gets the adapters.
    copied_projector: bool,
}

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let is_replaced = self.copied_projector && ModelPart::of_path(path) == Some(ModelPart::Projector);
        let module = original(path).unwrap_or_else(|| path.to_owned());
        let factors = module.strip_suffix(".weight").filter(|_| !is_replaced);
        let adapter = factors.and_then(|module| self.factors.remove(module)).map(|factored| LoraAdapter {
            a: Param::from_tensor(factored.a),
            b: Param::from_tensor(factored.b),
            scale: factored.scale,
        });
        (param, adapter)
    }
}

/// PEFT's initialization of `A`: U(-1/sqrt(d_in), 1/sqrt(d_in)), which is Kaiming-uniform with a =
/// sqrt(5). It is drawn on the host with a random stream per module, so the same seed gives the
/// same adapter on every device.
fn kaiming(seed: u64, module: &str, d_in: usize, r: usize) -> TensorData {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream(module));
    let bound = 1.0 / (d_in as f32).sqrt();
    let values: Vec<f32> = (0..d_in * r).map(|_| rng.random_range(-bound..bound)).collect();
    TensorData::new(values, [d_in, r])
}

/// Creates an adapter that adds zero.
pub(super) fn fresh(
    module: &str,
    [d_in, d_out]: [usize; 2],
    ranks: &Ranks<'_>,
    seed: u64,
    device: &Device,
) -> Result<Factored, ModelError> {
    let (r, _) = ranks.of(module)?;
    let options = (device, DType::F32);
    let a = Tensor::from_data(kaiming(seed, module, d_in, r), options);
    Ok(Factored { a, b: Tensor::zeros([r, d_out], options), scale: ranks.scale(module)? })
}

impl Vlm {
    /// Adds new adapters, and trained copies of the modules in `modules_to_save`.
    ///
    /// The output of the model does not change until they are trained. Only adapters and copies
    /// require gradients. Where the head is the embedding, an adapter on the head leaves the
    /// embedding as it is.
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`] if the model has adapters already; [`ModelError::Setting`] for
    /// settings that cannot be used; [`ModelError::TargetPattern`], [`ModelError::NotAdaptable`] or
    /// [`ModelError::NoTarget`] for targets that select no linear that can be adapted.
    pub fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, ModelError> {
        self.check_plain()?;
        let spec = self.config().spec();
        config.validate()?;
        config.check_modules(spec)?;
        self.check_gradient_checkpointing(config.lora_dropout)?;
        let shapes = linear_shapes(&self);
        let adaptable = || shapes.keys().map(String::as_str).filter(|name| !config.is_whole(name, spec));
        let ranks = Ranks::new(config, spec, false)?;
        let modules = config.target_modules.select(adaptable(), spec)?;
        ranks.warn_of_unused(&modules)?;
        let mut factors = Factors::new();
        for module in modules {
            let factored = fresh(&module, shapes[&module], &ranks, seed, &self.device())?;
            factors.insert(module, factored);
        }
        Ok(self.attach(config, factors))
    }

    /// Returns the largest dropout of the adapters' input in training.
    pub(crate) fn dropout(&self) -> f64 {
        // a clone shares the weights
        self.clone().linears_mut().map(|linear| linear.dropout).fold(0.0, f64::max)
    }

    /// Returns the number of parameters of all adapters.
    pub(crate) fn adapter_parameters(&self) -> u64 {
        let of = |linear: &mut Linear| {
            let lora = linear.weight.adapter()?;
            Some([&lora.a, &lora.b].map(|factor| factor.shape().num_elements() as u64).iter().sum::<u64>())
        };
        // a clone shares the weights
        self.clone().linears_mut().filter_map(of).sum()
    }

    /// Sets the dropout of the adapters' input in training, in place of the dropout that an adapter
    /// was loaded with.
    ///
    /// # Errors
    /// [`ModelError::Setting`] with gradient checkpointing, which would drop other values in the
    /// second forward pass.
    pub fn with_lora_dropout(mut self, dropout: f64) -> Result<Self, ModelError> {
        self.check_gradient_checkpointing(dropout)?;
        self.linears_mut().for_each(|linear| linear.dropout = dropout);
        Ok(self)
    }

    /// Attaches factors to a model without adapters, and copies of the modules that are trained in
    /// full.
    fn attach(self, config: &LoraConfig, factors: Factors) -> Self {
        let whole: Vec<_> = config.whole(self.config().spec()).collect();
        let projector = self
            .multi_modal_projector
            .clone()
            .filter(|_| whole.iter().any(|module| *module != HEAD))
            .map(|projector| trainable(projector, PROJECTOR, &whole));
        let head = whole.contains(&HEAD).then(|| self.own_head().trainable());
        self.attach_copies(config, factors, projector, head)
    }

    /// Attaches factors and copies that are trained in full to a model without adapters.
    pub(super) fn attach_copies(
        mut self,
        config: &LoraConfig,
        factors: Factors,
        projector: Option<Projector>,
        head: Option<Linear>,
    ) -> Self {
        if factors.contains_key(HEAD) {
            self.lm_head = Some(self.own_head());
        }
        (self.trained_projector, self.trained_head) = (projector, head);
        let copied_projector = self.trained_projector.is_some();
        let mut model = self.apply_reparameterization(Attach { factors, copied_projector });
        model.linears_mut().for_each(|linear| linear.dropout = config.lora_dropout);
        model.set_lora_noise(config.lora_noise);
        model
    }

    /// The head as a linear of its own, also where it is the embedding.
    fn own_head(&self) -> Linear {
        match &self.lm_head {
            Some(head) => head.clone(),
            None => Linear::frozen(self.language_model.embed_tokens.val().transpose()),
        }
    }

    /// Checks that the model has no adapters. Adapters cannot be stacked, and the weights of an
    /// adapted model are not those of its checkpoint.
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`].
    pub(crate) fn check_plain(&self) -> Result<(), ModelError> {
        if self.has_adapters() { Err(ModelError::HasAdapters) } else { Ok(()) }
    }
}
