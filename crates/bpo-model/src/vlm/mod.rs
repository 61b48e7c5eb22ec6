//! A vision-language model of any family: image features are projected and take the places of image
//! tokens in the language model's input. A language model without images has the same type.

mod features;
mod module_enum;
mod options;
mod part;
mod splice;
mod unfreeze;

pub use features::PackedFeatures;
pub(crate) use module_enum::module_enum;
pub use options::LoadOptions;
pub use part::ModelPart;
pub(crate) use part::{DECODER, HEAD, PROJECTOR, VISION_TOWER};
use splice::splice;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use crate::checkpoint::WeightLoader;
use crate::decoder::{Decoder, Deepstack, Rope};
use crate::error::ModelError;
use crate::families::{Projector, VlmConfig};
use crate::input::{ImageInput, ImageLayout};
use crate::kernels::product;
use crate::lora::{Adapters, Linear};
use crate::vision::VisionTower;

/// A vision-language model whose image features stand among the tokens of its language model
/// (early fusion). The parts have the same names in every family; see
/// [`FamilySpec`](crate::FamilySpec). A language model without images is one without a vision tower
/// and a projector, which takes prompts without images.
#[derive(Module, Debug)]
pub struct Vlm {
    /// The image encoder. `None` in a language model without images.
    pub vision_tower: Option<VisionTower>,
    /// The projector as it was loaded. `None` in a language model without images.
    pub multi_modal_projector: Option<Projector>,
    /// A copy of the projector that is trained, where `modules_to_save` names it. The original
    /// stays, so [`Adapters::Off`] gives the reference model.
    pub trained_projector: Option<Projector>,
    /// The language model, with its adapters if it has any.
    pub language_model: Decoder,
    /// The head. `None` where the embedding is the head.
    pub lm_head: Option<Linear>,
    /// A copy of the head that is trained, where `modules_to_save` names it.
    pub trained_head: Option<Linear>,
    #[module(skip)]
    config: VlmConfig,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    gradient_checkpointing: bool,
    #[module(skip)]
    lora_noise: f64,
}

impl Vlm {
    /// Loads a Hugging Face directory: `config.json` and `model.safetensors`, or shards with
    /// `model.safetensors.index.json`, in f32, f16 or bf16. All parameters are frozen.
    ///
    /// # Errors
    /// If the configuration is not supported, or weights are missing, misshapen or not those of a
    /// model of its family. One error lists all such weights.
    pub fn from_pretrained(dir: &Path, options: &LoadOptions, device: &Device) -> Result<Self, ModelError> {
        Self::of_config(dir, VlmConfig::from_dir(dir)?, options, device)
    }

    /// Loads a directory as [`from_pretrained`](Self::from_pretrained) does, to answer texts without
    /// images. It may also be that of a language model without images: Llama, Mistral, Qwen2 or
    /// Qwen3.
    ///
    /// # Errors
    /// Those of [`from_pretrained`](Self::from_pretrained).
    pub fn from_pretrained_for_text(
        dir: &Path,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Self::of_config(dir, VlmConfig::from_dir_for_text(dir)?, options, device)
    }

    fn of_config(
        dir: &Path,
        config: VlmConfig,
        options: &LoadOptions,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let span = tracing::info_span!("model.load", dir = %bpo_pairs::UntrustedPath(dir));
        let _entered = span.enter();
        let mut weights = WeightLoader::open(dir, config.spec(), options.dtype, device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.family().is_unused(name))?;
        Ok(model)
    }

    /// Checks that a checkpoint has all its weights in their shapes, without reading them. Scalars
    /// stand in for them on the device.
    ///
    /// # Errors
    /// Those of [`from_pretrained`](Self::from_pretrained).
    pub fn check_weights(dir: &Path, device: &Device) -> Result<(), ModelError> {
        let config = VlmConfig::from_dir(dir)?;
        let mut weights = WeightLoader::check(dir, config.spec(), device)?;
        let model = Self::load(&mut weights, config);
        weights.finish(|name| model.config.family().is_unused(name))
    }

    /// Creates a model with random weights, for tests and benchmarks. The same seed gives the same
    /// model on every device. All parameters are frozen.
    pub fn random(config: impl Into<VlmConfig>, seed: u64, options: &LoadOptions, device: &Device) -> Self {
        Self::load(&mut WeightLoader::random(seed, options.dtype, device), config.into())
    }

    /// Creates a model with random weights that the device draws, with the distribution of
    /// transformers. This is much faster than [`random`](Self::random), and each device gives
    /// another model.
    pub fn random_of_device(
        config: impl Into<VlmConfig>,
        seed: u64,
        options: &LoadOptions,
        device: &Device,
    ) -> Self {
        Self::load(&mut WeightLoader::random_of_device(seed, options.dtype, device), config.into())
    }

    fn load(weights: &mut WeightLoader, config: VlmConfig) -> Self {
        let (family, text) = (config.family(), config.decoder());
        // some checkpoints do not set the key and have no head
        let tied = config.is_tied() && !weights.has("lm_head.weight");
        Self {
            vision_tower: family.vision_tower(weights),
            multi_modal_projector: family.projector(weights),
            trained_projector: None,
            language_model: Decoder::load(weights, text),
            lm_head: (!tied)
                .then(|| Linear::load(weights, "lm_head", text.hidden_size, text.vocab_size, false)),
            trained_head: None,
            rope: Rope::new(text),
            gradient_checkpointing: false,
            lora_noise: 0.0,
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
        self.check_gradient_checkpointing(self.dropout())?;
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

    /// The standard deviation of the noise on adapters in training.
    pub(crate) fn lora_noise(&self) -> f64 {
        self.lora_noise
    }

    pub(crate) fn set_lora_noise(&mut self, lora_noise: f64) {
        self.lora_noise = lora_noise;
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &VlmConfig {
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

    /// Computes the features of images, before the projector. Returns `None` without images, or
    /// without a vision tower.
    ///
    /// # Panics
    /// If the model does not take the images: see [`VlmConfig::check_input`].
    pub fn encode_images(&self, images: &[&ImageInput], adapters: Adapters) -> Option<PackedFeatures> {
        self.vision_tower.as_ref()?.encode(images, self.dtype(), &self.device(), adapters)
    }

    /// Projects the features of images with the given layouts to the language model's width, one
    /// row for each image token.
    ///
    /// # Panics
    /// If the features are not those of images with these layouts. A model without a vision tower
    /// has no features.
    pub fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        let trained = self.trained_projector.as_ref().filter(|_| adapters == Adapters::On);
        let projector = trained.or(self.multi_modal_projector.as_ref());
        projector
            .expect("features come from a vision tower, and a model has a projector if it has one")
            .project(features, images, adapters)
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

    /// Embeds right-padded rows, with image features at the image tokens, and returns what is added
    /// to the image tokens behind the first layers.
    ///
    /// # Shapes
    /// - `rows`: token ids, all of one length
    /// - `images_of_row`: the images of each row, as indices into `features`
    /// - `features`: projected, `[image tokens, hidden x (1 + layers)]`; features of further layers
    ///   follow those of the embedding
    /// - output: `[rows, tokens, hidden]`
    ///
    /// # Errors
    /// [`ModelError::ImageTokens`] if a row has another number of image tokens than its images have
    /// features.
    pub(crate) fn embed(
        &self,
        rows: &[Vec<u32>],
        images_of_row: &[&[usize]],
        features: Option<&PackedFeatures>,
    ) -> Result<(Tensor<3>, Deepstack), ModelError> {
        let device = self.device();
        let of_images: Vec<_> =
            features.iter().flat_map(|packed| (0..packed.images()).map(|image| packed.rows(image))).collect();
        let plan = splice(rows, images_of_row, self.config.image_token(), &of_images)?;
        let mut table = self.language_model.embed(ids(&plan.text_ids, &device));
        let hidden = table.dims()[1];
        let mut deepstack = Deepstack::default();
        if let Some(features) = features {
            let values = features.values();
            let further = values.dims()[1] / hidden - 1;
            if further > 0 {
                let (places, own): (Vec<u32>, Vec<u32>) = plan.features().unzip();
                let values = values.clone().select(0, ids(&own, &device));
                let of_layer = |layer| values.clone().narrow(1, (1 + layer) * hidden, hidden);
                deepstack = Deepstack::new(ids(&places, &device), (0..further).map(of_layer).collect());
            }
            table = Tensor::cat(vec![table, values.narrow(1, 0, hidden)], 0);
        }
        let width = rows.first().map_or(0, Vec::len);
        let x = table.select(0, ids(&plan.gather, &device)).reshape([rows.len(), width, hidden]);
        Ok((x, deepstack))
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
