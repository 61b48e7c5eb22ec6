//! Models and batches of the benchmarks, with random weights.

use bpo::model::{DecoderConfig, ImageInput, LlavaConfig, PixelValues, ScoreBatch, VlmConfig};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Dimensions of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 17 million parameters, images of 112 px.
    Small,
    /// SmolLM2-135M and a vision tower of 12 layers, images of 224 px.
    Base135,
    /// LLaVA-1.5-7B, images of 336 px.
    Llava7b,
    /// SmolVLM-256M, tiles of 512 px. Only `train` measures it.
    SmolVlm256m,
    /// The widths of Qwen2.5-VL-3B with two vision layers and two layers of the language model. Only
    /// `train` measures it.
    Qwen25Vl,
}

impl Preset {
    /// Returns the preset of a name.
    ///
    /// # Errors
    /// Returns a message with the known names.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "small" => Ok(Self::Small),
            "base135" => Ok(Self::Base135),
            "7b" => Ok(Self::Llava7b),
            "smolvlm-256m" => Ok(Self::SmolVlm256m),
            "qwen2.5-vl" => Ok(Self::Qwen25Vl),
            _ => Err(format!("{name:?} is not small, base135, 7b, smolvlm-256m or qwen2.5-vl")),
        }
    }

    /// Whether the model is a LLaVA, which needs no files.
    pub fn is_llava(self) -> bool {
        !matches!(self, Self::SmolVlm256m | Self::Qwen25Vl)
    }

    /// Returns the `config.json` of a LLaVA with these dimensions.
    ///
    /// # Panics
    /// Panics for a preset of another family.
    pub fn json(self) -> Value {
        // vision: hidden size, layers, heads, feed-forward size; text: the same with key-value
        // heads before the feed-forward size
        let ([width, layers, heads, inner], side, [hidden, depth, queries, keys, gated], vocab, theta, tied) =
            match self {
                Self::Small => ([256, 8, 8, 1024], 112, [256, 8, 8, 4, 704], 8192, 1e4, false),
                Self::Base135 => ([384, 12, 6, 1536], 224, [576, 30, 9, 3, 1536], 49152, 1e5, true),
                Self::Llava7b => ([1024, 24, 16, 4096], 336, [4096, 32, 32, 32, 11008], 32064, 1e4, false),
                Self::SmolVlm256m | Self::Qwen25Vl => panic!("only the benchmark `train` measures {self:?}"),
            };
        json!({
            "model_type": "llava",
            "vision_config": {
                "model_type": "clip_vision_model", "hidden_size": width, "num_hidden_layers": layers,
                "num_attention_heads": heads, "intermediate_size": inner, "projection_dim": width,
                "image_size": side, "patch_size": PATCH,
            },
            "text_config": {
                "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": depth,
                "num_attention_heads": queries, "num_key_value_heads": keys, "intermediate_size": gated,
                "vocab_size": vocab, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
                "tie_word_embeddings": tied, "rope_parameters": { "rope_type": "default", "rope_theta": theta },
                "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": vocab - 63,
            },
            "image_token_index": vocab - 64, "image_seq_length": (side / PATCH) * (side / PATCH),
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
            "projector_hidden_act": "gelu", "tie_word_embeddings": tied,
        })
    }

    /// Writes `config.json` for a peer, and returns its path and the guard of its temporary
    /// directory.
    ///
    /// # Panics
    /// Panics if the file cannot be written.
    pub fn file(self) -> (TempDir, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        std::fs::write(&file, self.json().to_string()).expect("written");
        (dir, file.display().to_string())
    }

    /// Returns the configuration.
    ///
    /// # Panics
    /// Panics if the settings are invalid.
    pub fn config(self) -> LlavaConfig {
        serde_json::from_value(self.json()).expect("a valid configuration")
    }
}

/// Side of a patch, in pixels.
const PATCH: usize = 14;
/// Token id that starts a prompt.
pub const BOS: u32 = 1;
/// Token id that ends an answer.
pub const EOS: u32 = 2;

/// Returns the token ids of a prompt: its image tokens and `text` other tokens.
pub fn prompt(config: &LlavaConfig, text: usize) -> Vec<u32> {
    let image = config.layout();
    let image = image.placeholder().iter().copied();
    std::iter::once(BOS).chain(image).chain((1..text as u32).map(|place| 300 + place)).collect()
}

/// Returns the token ids of answer `number`: `tokens` ids, the last of which is [`EOS`].
pub fn answer(number: usize, tokens: usize) -> Vec<u32> {
    let words = (1..tokens).map(|place| 400 + ((37 * number + 11 * place) % 3000) as u32);
    words.chain([EOS]).collect()
}

/// Returns the input of synthetic image `number`.
pub fn image(config: &LlavaConfig, number: usize) -> ImageInput {
    let side = config.vision_config.image_size;
    let value = |at: usize| ((at * 7 + number * 13) as f32 * 0.01).sin();
    let data = (0..3 * side * side).map(value).collect();
    config.input(PixelValues { data, channels: 3, height: side, width: side })
}

/// Arithmetic of a training step, computed from its shapes. A multiplication and an addition are
/// two operations.
#[derive(Clone, Copy, Debug)]
pub struct StepCost {
    /// Operations of a forward pass without adapters.
    forward: f64,
    /// The part of `forward` that needs no backward pass: the vision tower.
    vision: f64,
    /// Operations of the adapters in a forward pass.
    adapters: f64,
}

impl StepCost {
    /// Computes the cost of `groups` prompts, each with an image, `text` other tokens and `answers`
    /// answers of `answer` tokens, with adapters of rank `r`.
    pub fn new(
        config: &LlavaConfig,
        groups: usize,
        text: usize,
        answers: usize,
        answer: usize,
        r: usize,
    ) -> Self {
        let vision = &config.vision_config;
        let patches = (vision.image_size / vision.patch_size).pow(2) as f64 + 1.0;
        let width = vision.hidden_size as f64;
        let layer = 4.0 * width * width + 2.0 * width * vision.intermediate_size as f64;
        let tower =
            (vision.num_hidden_layers - 1) as f64 * (patches * layer + 2.0 * patches * patches * width);
        let prompt = (config.image_tokens() + text) as f64;
        Self::of_parts(
            &config.text_config,
            2.0 * groups as f64 * tower,
            groups,
            prompt,
            groups * answers,
            answer as f64,
            r,
        )
    }

    /// Computes the cost of a batch, with adapters of rank `r` on the linears of the language model.
    /// Returns `None` for a family whose tower is not known here.
    pub fn of_batch(config: &VlmConfig, batch: &ScoreBatch, r: usize) -> Option<Self> {
        let towers: Option<f64> = batch.images().iter().map(|image| tower(config, image)).sum();
        let vision = 2.0 * towers?;
        let (groups, rows) = (batch.shape().prompts, batch.len());
        let answer = batch.completion_tokens() as f64 / rows as f64;
        let prompt = batch.lengths().sum::<usize>() as f64 / rows as f64 - answer;
        Some(Self::of_parts(config.decoder(), vision, groups, prompt, rows, answer, r))
    }

    /// Computes the cost of `groups` prompts of `prompt` tokens with `rows` answers of `answer`
    /// tokens, and of a vision tower with `vision` operations.
    fn of_parts(
        language: &DecoderConfig,
        vision: f64,
        groups: usize,
        prompt: f64,
        rows: usize,
        answer: f64,
        r: usize,
    ) -> Self {
        let linears = linears(language);
        let [(hidden, queries), (_, keys), ..] = linears;
        let weights: f64 = linears.iter().map(|(d_in, d_out)| d_in * d_out).sum();
        let factors: f64 = linears.iter().map(|(d_in, d_out)| (d_in + d_out) * r as f64).sum();
        let layers = language.num_hidden_layers as f64;

        let (groups, rows) = (groups as f64, rows as f64);
        let prefix = prompt - 1.0;
        let tokens = groups * prefix + rows * answer;
        // Query-key pairs under the causal mask: half of those within a sequence. The last layer of
        // a prefix only needs keys and values.
        let attended = groups * prefix * prefix / 2.0 + rows * answer * (prefix + answer / 2.0);
        let unused = groups * prefix * (weights - 2.0 * hidden * keys + prefix * queries);
        let head = rows * answer * hidden * language.vocab_size as f64;
        Self {
            forward: 2.0 * (layers * (tokens * weights + 2.0 * attended * queries) - unused + head) + vision,
            vision,
            adapters: 2.0 * layers * tokens * factors,
        }
    }

    /// Returns the operations of a forward pass without adapters.
    pub fn scoring(&self) -> f64 {
        self.forward
    }

    /// Returns the operations of a step: the policy's forward pass, its backward pass to
    /// activations and adapters, and the forward pass of the reference unless it is cached.
    pub fn operations(&self, cached: bool) -> f64 {
        // images are encoded once for policy and reference
        let reference = if cached { 0.0 } else { self.forward - self.vision };
        // adapters have weight gradients, frozen weights have none
        reference + self.forward + self.adapters + (self.forward - self.vision) + 2.0 * self.adapters
    }
}

/// Returns the multiplications of the vision tower for an image: those of linears and of attention.
fn tower(config: &VlmConfig, image: &ImageInput) -> Option<f64> {
    let layers = |count: usize, patches: f64, linears: f64, keys: f64, width: f64| {
        count as f64 * patches * (linears + 2.0 * keys * width)
    };
    let tile = &image.tiles[0];
    let patches = |side: usize| (tile.height / side * (tile.width / side)) as f64;
    match config {
        VlmConfig::SmolVlm(config) => {
            let vision = &config.vision_config;
            let (width, patches) = (vision.hidden_size as f64, patches(vision.patch_size));
            let linears = 4.0 * width * width + 2.0 * width * vision.intermediate_size as f64;
            let tile = layers(vision.num_hidden_layers, patches, linears, patches, width);
            Some(image.tiles.len() as f64 * tile)
        }
        VlmConfig::QwenVl(config) => {
            let vision = &config.vision_config;
            let (width, patches) = (vision.hidden_size as f64, patches(vision.patch_size));
            let products = if vision.gated { 3.0 } else { 2.0 };
            let linears = 4.0 * width * width + products * width * vision.intermediate_size as f64;
            let window = vision.windows.as_ref().map(|windows| windows.side.pow(2) * vision.merged());
            let full = vision.windows.as_ref().map_or(vision.depth, |windows| windows.full_layers.len());
            let windowed = layers(vision.depth - full, patches, linears, window.unwrap_or(0) as f64, width);
            Some(layers(full, patches, linears, patches, width) + windowed)
        }
        _ => None,
    }
}

/// Returns the minimum number of bytes that a decoding step reads: each weight of the language
/// model once, and the keys and values of `context` tokens per row. `size` is the size of a value
/// in bytes.
pub fn decoded_bytes(config: &LlavaConfig, rows: usize, context: usize, size: usize) -> f64 {
    let language = &config.text_config;
    let linears = linears(language);
    let [(hidden, _), (_, keys), ..] = linears;
    let weights: f64 = linears.iter().map(|(d_in, d_out)| d_in * d_out).sum();
    let cached = 2.0 * (rows * context) as f64 * keys;
    let head = hidden * language.vocab_size as f64;
    size as f64 * (language.num_hidden_layers as f64 * (weights + cached) + head)
}

/// Returns input and output widths of the linear layers of a decoder layer: queries, keys, values,
/// attention output, and the three of the feed-forward part.
fn linears(language: &DecoderConfig) -> [(f64, f64); 7] {
    let hidden = language.hidden_size as f64;
    let queries = (language.num_attention_heads * language.head_dim()) as f64;
    let keys = (language.kv_heads() * language.head_dim()) as f64;
    let inner = language.intermediate_size as f64;
    [
        (hidden, queries),
        (hidden, keys),
        (hidden, keys),
        (queries, hidden),
        (hidden, inner),
        (hidden, inner),
        (inner, hidden),
    ]
}
