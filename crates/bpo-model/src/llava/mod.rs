//! LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744): CLIP's image features, projected, spliced into Llama's input.

mod causal;
mod merge;
mod score;
mod unfreeze;

pub use causal::causal_mask;
pub use merge::{Splice, splice};
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

/// The model. Fields have transformers' names, so that parameter paths are those of PEFT.
#[derive(Module, Debug)]
pub struct Llava {
    /// The image encoder.
    pub vision_tower: ClipVision,
    /// The projector, as it was loaded where there is a trained copy.
    pub multi_modal_projector: Projector,
    /// The projector that is trained, beside the original as in PEFT's `modules_to_save`, so that switching adapters
    /// off gives the whole reference back.
    pub trained_projector: Option<Projector>,
    /// The language model, with adapters if it is trained.
    pub language_model: Llama,
    /// The head; `None` where it is the embedding.
    pub lm_head: Option<Linear>,
    /// The head that is trained, beside the original.
    pub trained_head: Option<Linear>,
    #[module(skip)]
    config: LlavaConfig,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    gradient_checkpointing: bool,
}

/// How a checkpoint is loaded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Type of weights and activations. Norms, softmax and log-probabilities are computed in f32 whatever it is.
    pub dtype: FloatDType,
}

impl Default for LoadOptions {
    /// f32
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
    /// `model.safetensors.index.json`, in f32, f16 or bf16. All parameters come frozen.
    ///
    /// # Errors
    /// If the configuration asks for what is not supported, or weights are missing, misshapen or not those of a LLaVA-1.5 model (all
    /// are listed).
    pub fn from_pretrained(dir: &Path, options: &LoadOptions, device: &Device) -> Result<Self, ModelError> {
        let span = tracing::info_span!("model.load", dir = %dir.display());
        let _entered = span.enter();
        let config = LlavaConfig::from_dir(dir)?;
        let mut weights = WeightLoader::open(dir, options.dtype, device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.is_unused(name))?;
        Ok(model)
    }

    /// Checks that a checkpoint has all its weights in their shapes, without reading them. Single numbers stand in for them
    /// on the device.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    pub fn check_weights(dir: &Path, device: &Device) -> Result<(), ModelError> {
        let config = LlavaConfig::from_dir(dir)?;
        let mut weights = WeightLoader::check(dir, device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.is_unused(name))
    }

    /// A model of the given shape with random weights, for tests and benchmarks. All parameters come frozen.
    pub fn random(config: LlavaConfig, seed: u64, options: &LoadOptions, device: &Device) -> Self {
        Self::load(&mut WeightLoader::random(seed, options.dtype, device), config)
    }

    /// The same with weights that the device draws itself, and as transformers draws them: much faster, and another model on each
    /// device.
    pub fn random_of_device(config: LlavaConfig, seed: u64, options: &LoadOptions, device: &Device) -> Self {
        Self::load(&mut WeightLoader::random_of_device(seed, options.dtype, device), config)
    }

    fn load(weights: &mut WeightLoader, config: LlavaConfig) -> Self {
        let text = &config.text_config;
        // some checkpoints say nothing about tying and simply have no head
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

    /// Has the backward pass compute each layer of the language model again, instead of keeping what it needs of the forward pass:
    /// much less memory for about a quarter more time. Results are the same. Of a backend whose feature of this crate is off (`flex`,
    /// `tch`, `cube`) nothing is computed again.
    ///
    /// # Errors
    /// [`ModelError::Setting`] with dropout, which would not be the same the second time.
    pub fn with_gradient_checkpointing(mut self, gradient_checkpointing: bool) -> Result<Self, ModelError> {
        self.gradient_checkpointing = gradient_checkpointing;
        let dropout = self.language_model.linears_mut().map(|linear| linear.dropout).fold(0.0, f64::max);
        self.check_recompute(dropout)?;
        Ok(self)
    }

    /// What is random would not be the same the second time.
    pub(crate) fn check_recompute(&self, dropout: f64) -> Result<(), ModelError> {
        match self.gradient_checkpointing && dropout > 0.0 {
            true => {
                let (key, expected) = ("gradient_checkpointing", "false where there is dropout");
                Err(ModelError::Setting { key, expected, found: "true".into() })
            }
            false => Ok(()),
        }
    }

    pub(crate) fn uses_gradient_checkpointing(&self) -> bool {
        self.gradient_checkpointing
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &LlavaConfig {
        &self.config
    }

    /// Where the weights are; with autodiff when the model is in training.
    pub fn device(&self) -> Device {
        self.language_model.embed_tokens.val().device()
    }

    /// Type of weights and activations.
    pub fn dtype(&self) -> FloatDType {
        self.language_model.embed_tokens.val().dtype().into()
    }

    /// Whether there is anything that [`Adapters::Off`] switches off.
    pub fn has_adapters(&self) -> bool {
        self.trained_projector.is_some()
            || self.trained_head.is_some()
            || crate::lora::count_adapters(self) > 0
    }

    /// Image features, `[images, channels, side, side]` normalized pixels to `[images, tokens, vision hidden]`.
    pub fn encode_images(&self, pixels: Tensor<4>, adapters: Adapters) -> Tensor<3> {
        self.vision_tower.forward(pixels.cast(self.dtype()), adapters)
    }

    /// Image features in the language model's width, `[images, tokens, text hidden]`.
    pub fn project(&self, features: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let trained = self.trained_projector.as_ref().filter(|_| adapters == Adapters::On);
        trained.unwrap_or(&self.multi_modal_projector).forward(features, adapters)
    }

    /// Logits over the vocabulary in f32: `[.., hidden]` to `[.., vocab]`.
    pub fn head<const D: usize>(&self, hidden: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let trained = self.trained_head.as_ref().filter(|_| adapters == Adapters::On);
        let logits = match trained.or(self.lm_head.as_ref()) {
            Some(head) => head.forward(hidden.cast(head.weight.base().dtype()), adapters),
            None => product(hidden, self.language_model.embed_tokens.val().transpose()),
        };
        logits.cast(DType::F32)
    }

    /// Input of the language model: embeddings of right-padded rows, image features where the image tokens are.
    ///
    /// # Shapes
    /// - `rows`: token ids, all of one length
    /// - `image_of_row`: which row of `features` belongs to each row
    /// - `features`: `[images, tokens, hidden]`, projected
    /// - output: `[rows, tokens, hidden]`
    ///
    /// # Errors
    /// If a row's image tokens are not as many as its image has features.
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

/// A host list of indices as a tensor.
pub(crate) fn ids(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| i64::from(*value)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Normalized pixels of images of one size as a tensor, `[images, channels, height, width]`.
pub(crate) fn pixel_tensor(images: &[&crate::processor::PixelValues], device: &Device) -> Option<Tensor<4>> {
    let first = images.first()?;
    let shape = [images.len(), first.channels, first.height, first.width];
    let values: Vec<f32> = images.iter().flat_map(|image| image.data.iter().copied()).collect();
    Some(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
}
