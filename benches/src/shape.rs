//! Models and batches that are measured, all of random weights.

use bpo::model::{DecoderConfig, ImageInput, LlavaConfig, PixelValues};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Dimensions of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 17 million parameters, 112 px.
    Small,
    /// SmolLM2-135M's dimensions and a vision tower of 12 layers, 224 px.
    Base135,
    /// LLaVA-1.5-7B's, 336 px.
    Llava7b,
}

impl Preset {
    /// By its name.
    ///
    /// # Errors
    /// With the names there are.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "small" => Ok(Self::Small),
            "base135" => Ok(Self::Base135),
            "7b" => Ok(Self::Llava7b),
            _ => Err(format!("{name:?} is not small, base135 or 7b")),
        }
    }

    /// As a checkpoint's `config.json` has them.
    pub fn json(self) -> Value {
        // hidden size, layers, heads, feed-forward; of the language model also heads of keys and values
        let ([width, layers, heads, inner], side, [hidden, depth, queries, keys, gated], vocab, theta, tied) =
            match self {
                Self::Small => ([256, 8, 8, 1024], 112, [256, 8, 8, 4, 704], 8192, 1e4, false),
                Self::Base135 => ([384, 12, 6, 1536], 224, [576, 30, 9, 3, 1536], 49152, 1e5, true),
                Self::Llava7b => ([1024, 24, 16, 4096], 336, [4096, 32, 32, 32, 11008], 32064, 1e4, false),
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

    /// A file of it, for a peer. The folder goes when it is dropped.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(self) -> (TempDir, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        std::fs::write(&file, self.json().to_string()).expect("written");
        (dir, file.display().to_string())
    }

    /// The same, read.
    ///
    /// # Panics
    /// If our own settings are wrong.
    pub fn config(self) -> LlavaConfig {
        serde_json::from_value(self.json()).expect("a valid configuration")
    }
}

/// Side of a patch, in pixels.
const PATCH: usize = 14;
/// The token that begins a prompt.
pub const BOS: u32 = 1;
/// The one that ends an answer.
pub const EOS: u32 = 2;

/// Ids of a prompt: its image and `text` tokens.
pub fn prompt(config: &LlavaConfig, text: usize) -> Vec<u32> {
    let image = config.layout();
    let image = image.placeholder().iter().copied();
    std::iter::once(BOS).chain(image).chain((1..text as u32).map(|place| 300 + place)).collect()
}

/// Ids of one of the answers to it, its end among them.
pub fn answer(number: usize, tokens: usize) -> Vec<u32> {
    let words = (1..tokens).map(|place| 400 + ((37 * number + 11 * place) % 3000) as u32);
    words.chain([EOS]).collect()
}

/// One of the images for a model that are in no file.
pub fn image(config: &LlavaConfig, number: usize) -> ImageInput {
    let side = config.vision_config.image_size;
    let value = |at: usize| ((at * 7 + number * 13) as f32 * 0.01).sin();
    let data = (0..3 * side * side).map(value).collect();
    config.input(PixelValues { data, channels: 3, height: side, width: side })
}

/// Multiplications and additions of a training step, as the shapes ask for them.
#[derive(Clone, Copy, Debug)]
pub struct StepCost {
    /// Of a forward pass, adapters left out.
    forward: f64,
    /// Of that, what no gradient flows through.
    vision: f64,
    /// Of the adapters in a forward pass.
    adapters: f64,
}

impl StepCost {
    /// Of `groups` prompts with `text` tokens beside their image and answers of `answer` tokens, with adapters of rank `r`.
    pub fn new(
        config: &LlavaConfig,
        groups: usize,
        text: usize,
        answers: usize,
        answer: usize,
        r: usize,
    ) -> Self {
        let (language, vision) = (&config.text_config, &config.vision_config);
        let linears = linears(language);
        let [(hidden, queries), (_, keys), ..] = linears;
        let weights: f64 = linears.iter().map(|(d_in, d_out)| d_in * d_out).sum();
        let factors: f64 = linears.iter().map(|(d_in, d_out)| (d_in + d_out) * r as f64).sum();
        let layers = language.num_hidden_layers as f64;

        let (groups, rows, answer) = (groups as f64, (groups * answers) as f64, answer as f64);
        let prefix = (config.image_tokens() + text) as f64 - 1.0;
        let tokens = groups * prefix + rows * answer;
        // keys that tokens see, half of those of their own row; of a prefix's last layer nothing but keys and values
        let attended = groups * prefix * prefix / 2.0 + rows * answer * (prefix + answer / 2.0);
        let unused = groups * prefix * (weights - 2.0 * hidden * keys + prefix * queries);
        let head = rows * answer * hidden * language.vocab_size as f64;

        let patches = (vision.image_size / vision.patch_size).pow(2) as f64 + 1.0;
        let width = vision.hidden_size as f64;
        let layer = 4.0 * width * width + 2.0 * width * vision.intermediate_size as f64;
        let tower =
            (vision.num_hidden_layers - 1) as f64 * (patches * layer + 2.0 * patches * patches * width);
        let vision = 2.0 * groups * tower;
        Self {
            forward: 2.0 * (layers * (tokens * weights + 2.0 * attended * queries) - unused + head) + vision,
            vision,
            adapters: 2.0 * layers * tokens * factors,
        }
    }

    /// A forward pass without adapters.
    pub fn scoring(&self) -> f64 {
        self.forward
    }

    /// Policy forward, backward to activations and adapters, and the reference unless it is cached.
    pub fn operations(&self, cached: bool) -> f64 {
        // images are encoded once for both
        let reference = if cached { 0.0 } else { self.forward - self.vision };
        // frozen weights have no gradient of their own, adapters have
        reference + self.forward + self.adapters + (self.forward - self.vision) + 2.0 * self.adapters
    }
}

/// Bytes that a step of decoding reads at least: each weight of the language model once, and the keys and values of `context` tokens of
/// each row. `size` is that of a value.
pub fn decoded_bytes(config: &LlavaConfig, rows: usize, context: usize, size: usize) -> f64 {
    let language = &config.text_config;
    let linears = linears(language);
    let [(hidden, _), (_, keys), ..] = linears;
    let weights: f64 = linears.iter().map(|(d_in, d_out)| d_in * d_out).sum();
    let cached = 2.0 * (rows * context) as f64 * keys;
    let head = hidden * language.vocab_size as f64;
    size as f64 * (language.num_hidden_layers as f64 * (weights + cached) + head)
}

/// Inputs and outputs of a layer's linears: of queries, keys, values and their output, and of the feed-forward part.
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
