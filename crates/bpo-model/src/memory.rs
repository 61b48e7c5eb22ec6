//! Estimates of the memory of a training step, before it runs.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use serde::Serialize;

use crate::kernels::{has_code, has_turns, is_fused};
use crate::vision::TowerTokens;
use crate::vlm::Vlm;

const F32: u64 = 4;
/// Rows of logits that are computed at a time.
const HEAD_CHUNK: usize = crate::scoring::HEAD_CHUNK;

/// Sizes of a [`ScoreBatch`](crate::ScoreBatch), which decide on its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchShape {
    /// Images.
    pub images: usize,
    /// Tiles of all images together.
    pub tiles: usize,
    /// Image tokens of all images together.
    pub image_tokens: usize,
    /// Prompts.
    pub prompts: usize,
    /// Tokens of the longest prompt, image tokens included.
    pub prompt_tokens: usize,
    /// Completions.
    pub completions: usize,
    /// Tokens of the longest completion's row.
    pub completion_tokens: usize,
    /// Completion tokens of all completions together.
    pub targets: usize,
}

/// Memory of a model in training: numbers of parameters, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Footprint {
    /// Number of trained parameters.
    pub trained: u64,
    /// Number of frozen parameters.
    pub frozen: u64,
    /// Bytes of all parameters.
    pub weights: u64,
    /// Bytes of the gradients of trained parameters.
    pub gradients: u64,
    /// Bytes of Adam's two moments of each trained parameter, in f32.
    pub optimizer: u64,
}

impl Vlm {
    /// Counts parameters, their gradients and Adam's moments of a model in training state. Nothing
    /// is computed.
    pub fn footprint(&self) -> Footprint {
        #[derive(Default)]
        struct Count(Footprint);
        impl ModuleVisitor for Count {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let value = param.base();
                let (count, bytes) = (value.shape().num_elements() as u64, value.dtype().size() as u64);
                self.0.weights += count * bytes;
                if param.is_require_grad() {
                    self.0.trained += count;
                    self.0.gradients += count * bytes;
                    self.0.optimizer += 2 * count * F32;
                } else {
                    self.0.frozen += count;
                }
            }
        }
        let mut count = Count::default();
        self.visit(&mut count);
        count.0
    }

    /// Estimates the most bytes that autodiff holds in one training step over a batch, for a model
    /// in training state with adapters of rank `r`.
    ///
    /// The estimate adds up what the backward pass of each operation needs, in the order of the
    /// code. A test compares it with the bytes that are allocated on the CPU (0.8 to 1.2 times).
    /// Backends that fuse operations need less.
    pub fn activation_bytes(&self, shape: &BatchShape, r: usize) -> u64 {
        let config = self.config();
        let (text, vision) = (config.decoder(), config.family().tower_sizes());
        let f = DType::from(self.dtype()).size() as u64;
        let weight = self.language_model.embed_tokens.val();
        let (fused, scores_fused) = (is_fused(&weight), has_code(&weight));
        let tower = Layer {
            hidden: text.hidden_size as u64,
            queries: (text.num_attention_heads * text.head_dim()) as u64,
            keys: (text.kv_heads() * text.head_dim()) as u64,
            heads: text.num_attention_heads as u64,
            // gate, up and their product; in a chain of operations also the sigmoid of the gate,
            // and SiLU
            inner: if fused { 3 } else { 5 } * text.intermediate_size as u64,
            rank: r as u64,
            norm: if fused || f == F32 { 0 } else { F32 },
            f,
            // the result of softmax, in f32 and in the model's type; in a chain of operations also
            // the exponentials
            score: match (fused, scores_fused) {
                (true, _) => 0,
                (false, true) => F32 + f,
                (false, false) => 2 * F32 + f,
            },
        };
        let keys = shape.prompt_tokens + shape.completion_tokens;
        let count = text.num_hidden_layers as u64;
        let of_prompts = tower.bytes(shape.prompts, shape.prompt_tokens, shape.prompt_tokens);
        let of_completions = tower.bytes(shape.completions, shape.completion_tokens, keys);
        // each completion has its own copies of its prompt's keys and values; in the fused
        // operation they are made again, for one layer at a time
        let copies = (shape.completions * shape.prompt_tokens) as u64 * 2 * f * tower.keys;
        let (of_completions, working) =
            if fused { (of_completions - copies, 2 * copies) } else { (of_completions, 0) };
        let prompt_tokens = (shape.prompts * shape.prompt_tokens) as u64;
        let tokens = prompt_tokens + (shape.completions * shape.completion_tokens) as u64;
        let layers = if self.uses_gradient_checkpointing() {
            // the inputs of all layers, and one layer at a time
            count * tokens * f * tower.hidden + of_prompts + of_completions
        } else {
            // the last layer of prompts has keys and values only
            count.saturating_sub(1) * of_prompts + count * of_completions
        };
        let turns = if has_turns(&weight) { tokens * f * (text.head_dim() as u64).pow(2) } else { 0 };
        let layers = layers + working + turns;
        let images = if self.changes_vision() {
            let width = vision.hidden as u64;
            let tower = Layer {
                hidden: width,
                queries: width,
                keys: width,
                heads: vision.heads as u64,
                // the results of the first linear and of the activation; in a chain also the
                // sigmoid
                inner: if fused { 2 } else { 3 } * vision.intermediate as u64,
                ..tower
            };
            let tokens = match vision.tokens {
                TowerTokens::PerTile(tokens) => tokens,
                // of an image of average size
                TowerTokens::PerImageToken(count) => {
                    (shape.image_tokens * count).div_ceil(shape.tiles.max(1))
                }
            };
            vision.layers as u64 * tower.bytes(shape.tiles, tokens, tokens)
        } else {
            0
        };
        let features = shape.image_tokens as u64 * F32 * (vision.features as u64 + 3 * tower.hidden);
        let vocabulary = text.vocab_size as u64 * F32;
        // while a chunk is computed: logits, and what statistics and gradients need; in a chain of
        // operations also the shifted logits
        let copies = if scores_fused { 2 } else { 3 };
        let head = (shape.targets as u64 + copies * shape.targets.min(HEAD_CHUNK) as u64) * vocabulary;
        // the noise, and the sums of factors and noise
        let noise = if self.lora_noise() > 0.0 { 2 * F32 * self.adapter_parameters() } else { 0 };
        layers + images + features + head + noise
    }
}

/// Sizes of a layer of a tower. `hidden`, `queries`, `keys` and `inner` are values per token;
/// `norm`, `score` and `f` are bytes per value.
#[derive(Clone, Copy)]
struct Layer {
    hidden: u64,
    queries: u64,
    keys: u64,
    heads: u64,
    /// Values between the feed-forward's linears, together.
    inner: u64,
    rank: u64,
    /// Bytes of the norm's f32 copy of a value.
    norm: u64,
    f: u64,
    /// Bytes that attention keeps for each score.
    score: u64,
}

impl Layer {
    /// Bytes that the backward pass needs for rows of tokens that attend to `keys` keys each.
    fn bytes(&self, rows: usize, tokens: usize, keys: usize) -> u64 {
        let (rows, tokens, keys) = (rows as u64, tokens as u64, keys as u64);
        let Self { hidden, queries, rank, f, .. } = *self;
        // residual stream and result of the norm, twice; queries, and the mixed values
        let values = 4 * hidden + 2 * queries + self.inner;
        let token = f * (values + 7 * rank) + self.norm * 2 * hidden;
        rows * (tokens * token + keys * 2 * f * self.keys + self.heads * tokens * keys * self.score)
    }
}
