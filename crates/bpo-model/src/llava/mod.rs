//! LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744): CLIP's image features are projected and take the
//! places of image tokens in Llama's input.

mod causal;
mod merge;
mod score;
mod unfreeze;

pub(crate) use causal::causal_mask;
use merge::splice;
pub(crate) use score::HEAD_CHUNK;
pub use score::ScoreBatch;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::clip::ClipVision;
use crate::config::LlavaConfig;
use crate::error::ModelError;
use crate::kernels::product;
use crate::llama::{Llama, Rope};
use crate::lora::{Adapters, Linear};
use crate::projector::Projector;
use crate::weights::WeightLoader;

/// A LLaVA-1.5 model. Fields have the names of transformers, so parameter paths are those of PEFT.
#[derive(Module, Debug)]
pub struct Llava {
    /// The image encoder.
    pub vision_tower: ClipVision,
    /// The projector as it was loaded.
    pub multi_modal_projector: Projector,
    /// A copy of the projector that is trained, where `modules_to_save` names it. The original
    /// stays, so [`Adapters::Off`] gives the reference model.
    pub trained_projector: Option<Projector>,
    /// The language model, with its adapters if it has any.
    pub language_model: Llama,
    /// The head. `None` where the embedding is the head.
    pub lm_head: Option<Linear>,
    /// A copy of the head that is trained, where `modules_to_save` names it.
    pub trained_head: Option<Linear>,
    #[module(skip)]
    config: LlavaConfig,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    gradient_checkpointing: bool,
}

/// Options for loading a checkpoint.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Type of weights and activations. Norms, softmax and log-probabilities are always computed in
    /// f32.
    pub dtype: FloatDType,
}

impl Default for LoadOptions {
    /// The default type is f32.
    fn default() -> Self {
        Self { dtype: FloatDType::F32 }
    }
}

impl LoadOptions {
    /// Sets the type of weights and activations.
    pub fn with_dtype(mut self, dtype: FloatDType) -> Self {
        self.dtype = dtype;
        self
    }
}

impl Llava {
    /// Loads a Hugging Face directory: `config.json` and `model.safetensors`, or shards with
    /// `model.safetensors.index.json`, in f32, f16 or bf16. All parameters are frozen.
    ///
    /// # Errors
    /// If the configuration is not supported, or weights are missing, misshapen or not those of a
    /// LLaVA-1.5 model. One error lists all such weights.
    pub fn from_pretrained(dir: &Path, options: &LoadOptions, device: &Device) -> Result<Self, ModelError> {
        let span = tracing::info_span!("model.load", dir = %bpo_pairs::UntrustedPath(dir));
        let _entered = span.enter();
        let config = LlavaConfig::from_dir(dir)?;
        let mut weights = WeightLoader::open(dir, options.dtype, device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.is_unused(name))?;
        Ok(model)
    }

    /// Checks that a checkpoint has all its weights in their shapes, without reading them. Scalars
    /// stand in for them on the device.
    ///
    /// # Errors
    /// Those of [`from_pretrained`](Self::from_pretrained).
    pub fn check_weights(dir: &Path, device: &Device) -> Result<(), ModelError> {
        let config = LlavaConfig::from_dir(dir)?;
        let mut weights = WeightLoader::check(dir, device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.is_unused(name))
    }

    /// Creates a model with random weights, for tests and benchmarks. The same seed gives the same
    /// model on every device. All parameters are frozen.
    pub fn random(config: LlavaConfig, seed: u64, options: &LoadOptions, device: &Device) -> Self {
        Self::load(&mut WeightLoader::random(seed, options.dtype, device), config)
    }

    /// Creates a model with random weights that the device draws, with the distribution of
    /// transformers. This is much faster than [`random`](Self::random), and each device gives
    /// another model.
    pub fn random_of_device(config: LlavaConfig, seed: u64, options: &LoadOptions, device: &Device) -> Self {
        Self::load(&mut WeightLoader::random_of_device(seed, options.dtype, device), config)
    }

    fn load(weights: &mut WeightLoader, config: LlavaConfig) -> Self {
        let text = &config.text_config;
        // some checkpoints do not set the key and have no head
        let tied = config.is_tied() && !weights.has("lm_head.weight");
        Self {
            vision_tower: ClipVision::load(weights, &config),
            multi_modal_projector: Projector::load(weights, "multi_modal_projector", &config),
            trained_projector: None,
            language_model: Llama::load(weights, text),
            lm_head: (!tied)
                .then(|| Linear::load(weights, "lm_head", text.hidden_size, text.vocab_size, false)),
            trained_head: None,
            rope: Rope::new(text),
            gradient_checkpointing: false,
            config,
        }
    }

    /// Sets whether the backward pass recomputes each layer of the language model, instead of
    /// keeping what it needs of the forward pass. This takes much less memory and about a quarter
    /// more time. Results are the same. It has no effect on a backend whose feature of this crate
    /// (`flex`, `tch`, `cube`) is off.
    ///
    /// # Errors
    /// [`ModelError::Setting`] with dropout, which would drop other values in the second forward
    /// pass.
    pub fn with_gradient_checkpointing(mut self, gradient_checkpointing: bool) -> Result<Self, ModelError> {
        self.gradient_checkpointing = gradient_checkpointing;
        let dropout = self.language_model.linears_mut().map(|linear| linear.dropout).fold(0.0, f64::max);
        self.check_gradient_checkpointing(dropout)?;
        Ok(self)
    }

    /// Refuses dropout with gradient checkpointing: the second forward pass would drop other
    /// values.
    pub(crate) fn check_gradient_checkpointing(&self, dropout: f64) -> Result<(), ModelError> {
        if self.gradient_checkpointing && dropout > 0.0 {
            let (key, expected) = ("gradient_checkpointing", "false where there is dropout");
            return Err(ModelError::Setting { key, expected, found: "true".into() });
        }
        Ok(())
    }

    pub(crate) fn uses_gradient_checkpointing(&self) -> bool {
        self.gradient_checkpointing
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &LlavaConfig {
        &self.config
    }

    /// The device of the weights; with autodiff if the model is in training state.
    pub fn device(&self) -> Device {
        self.language_model.embed_tokens.val().device()
    }

    /// Type of weights and activations.
    pub fn dtype(&self) -> FloatDType {
        self.language_model.embed_tokens.val().dtype().into()
    }

    /// Whether [`Adapters::Off`] makes a difference.
    pub fn has_adapters(&self) -> bool {
        self.trained_projector.is_some()
            || self.trained_head.is_some()
            || crate::lora::count_adapters(self) > 0
    }

    /// Encodes images: normalized pixels `[images, channels, side, side]` to features `[images,
    /// tokens, vision hidden]`.
    pub fn encode_images(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        self.vision_tower.forward(pixels.cast(self.dtype()), adapters)
    }

    /// Projects image features to the language model's width: `[images, tokens, text hidden]`.
    pub fn project(&self, features: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let trained = self.trained_projector.as_ref().filter(|_| adapters == Adapters::On);
        trained.unwrap_or(&self.multi_modal_projector).forward(features, adapters)
    }

    /// Computes logits over the vocabulary in f32: `[.., hidden]` to `[.., vocab]`.
    pub fn head<const D: usize>(&self, hidden: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let trained = self.trained_head.as_ref().filter(|_| adapters == Adapters::On);
        let logits = match trained.or(self.lm_head.as_ref()) {
            Some(head) => head.forward(hidden.cast(head.weight.base().dtype()), adapters),
            None => product(hidden, self.language_model.embed_tokens.val().transpose()),
        };
        logits.cast(DType::F32)
    }

    /// Embeds right-padded rows, with image features at the image tokens.
    ///
    /// # Shapes
    /// - `rows`: token ids, all of one length
    /// - `image_of_row`: which row of `features` belongs to each row
    /// - `features`: `[images, tokens, hidden]`, projected
    /// - output: `[rows, tokens, hidden]`
    ///
    /// # Errors
    /// [`ModelError::ImageTokens`] if a row has another number of image tokens than its image has
    /// features.
    pub(crate) fn embed(
        &self,
        rows: &[Vec<u32>],
        image_of_row: &[Option<usize>],
        features: Option<&Tensor<3>>,
    ) -> Result<Tensor<3>, ModelError> {
        let device = self.device();
        let per_image = features.map_or(0, |features| features.dims()[1]);
        let plan = splice(rows, image_of_row, self.config.image_token(), per_image)?;
        let mut table = self.language_model.embed(ids(&plan.text_ids, &device));
        let hidden = table.dims()[1];
        if let Some(features) = features {
            let [images, tokens, _] = features.dims();
            table = Tensor::cat(vec![table, features.clone().reshape([images * tokens, hidden])], 0);
        }
        let width = rows.first().map_or(0, Vec::len);
        Ok(table.select(0, ids(&plan.gather, &device)).reshape([rows.len(), width, hidden]))
    }

    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }
}

/// Creates a tensor of indices.
pub(crate) fn ids(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Creates a tensor of the normalized pixels of images of one size, `[images, channels, height,
/// width]`.
pub(crate) fn pixel_tensor(images: &[&crate::processor::PixelValues], device: &Device) -> Option<Tensor<4>> {
    let first = images.first()?;
    let shape = [images.len(), first.channels, first.height, first.width];
    let values: Vec<f32> = images.iter().flat_map(|image| image.data.iter().copied()).collect();
    Some(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
}
