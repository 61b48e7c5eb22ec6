//! A layer of InternVL's vision transformer. Fields have the names of transformers.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{InternVlNorm, InternVlVisionConfig};
use crate::checkpoint::WeightLoader;
use crate::kernels::attention;
use crate::layers::{Activation, Norm, activate};
use crate::lora::{Adapters, Linear};

/// Epsilon of the norms of queries and keys. No file has this key.
const QK_EPSILON: f64 = 1e-6;

/// Attention and a feed-forward layer, each after a norm, with a learned scale of its output and a
/// residual connection.
#[derive(Module, Debug)]
pub(super) struct Layer {
    attention: Attention,
    mlp: Mlp,
    layernorm_before: Norm,
    layernorm_after: Norm,
    /// Scale of the output of attention, `[hidden]`.
    lambda_1: Param<Tensor<1>>,
    /// Scale of the output of the feed-forward layer, `[hidden]`.
    lambda_2: Param<Tensor<1>>,
}

/// Attention of every token to every token of its tile.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    projection_layer: Linear,
    /// Normalizes the queries of all heads together.
    q_norm: Option<Norm>,
    /// Normalizes the keys of all heads together.
    k_norm: Option<Norm>,
    #[module(skip)]
    heads: usize,
}

/// Two linears with an activation between.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    act: Activation,
}

impl Layer {
    pub(super) fn load(weights: &mut WeightLoader, name: &str, vision: &InternVlVisionConfig) -> Self {
        let (hidden, inner, epsilon) = (vision.hidden_size, vision.intermediate_size, vision.layer_norm_eps);
        let norm = |weights: &mut WeightLoader, part: &str| {
            let name = format!("{name}.{part}");
            match vision.norm_type {
                InternVlNorm::LayerNorm => Norm::layer(weights, &name, hidden, epsilon),
                InternVlNorm::RmsNorm => Norm::rms(weights, &name, hidden, epsilon),
            }
        };
        Self {
            attention: Attention::load(weights, &format!("{name}.attention"), vision),
            mlp: Mlp {
                fc1: Linear::load(weights, &format!("{name}.mlp.fc1"), hidden, inner, true),
                fc2: Linear::load(weights, &format!("{name}.mlp.fc2"), inner, hidden, true),
                act: vision.hidden_act,
            },
            layernorm_before: norm(weights, "layernorm_before"),
            layernorm_after: norm(weights, "layernorm_after"),
            lambda_1: weights.param(&format!("{name}.lambda_1"), [hidden]),
            lambda_2: weights.param(&format!("{name}.lambda_2"), [hidden]),
        }
    }

    pub(super) fn linears_mut(&mut self) -> [&mut Linear; 6] {
        let (Attention { q_proj, k_proj, v_proj, projection_layer, .. }, Mlp { fc1, fc2, .. }) =
            (&mut self.attention, &mut self.mlp);
        [q_proj, k_proj, v_proj, projection_layer, fc1, fc2]
    }

    /// Runs the layer on `[tiles, tokens, hidden]`.
    pub(super) fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let mixed = self.attention.forward(self.layernorm_before.forward(x.clone()), adapters);
        let x = x + mixed * self.lambda_1.val().unsqueeze::<3>();
        let inner = self.mlp.forward(self.layernorm_after.forward(x.clone()), adapters);
        x + inner * self.lambda_2.val().unsqueeze::<3>()
    }
}

impl Attention {
    fn load(weights: &mut WeightLoader, name: &str, vision: &InternVlVisionConfig) -> Self {
        let hidden = vision.hidden_size;
        let square = |weights: &mut WeightLoader, part: &str, bias| {
            Linear::load(weights, &format!("{name}.{part}"), hidden, hidden, bias)
        };
        let norm = |weights: &mut WeightLoader, part: &str| {
            vision.use_qk_norm.then(|| Norm::rms(weights, &format!("{name}.{part}"), hidden, QK_EPSILON))
        };
        Self {
            q_proj: square(weights, "q_proj", vision.attention_bias),
            k_proj: square(weights, "k_proj", vision.attention_bias),
            v_proj: square(weights, "v_proj", vision.attention_bias),
            projection_layer: square(weights, "projection_layer", true),
            q_norm: norm(weights, "q_norm"),
            k_norm: norm(weights, "k_norm"),
            heads: vision.num_attention_heads,
        }
    }

    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let [tiles, tokens, hidden] = x.dims();
        let width = hidden / self.heads;
        let split = |linear: &Linear, norm: &Option<Norm>| {
            let projected = linear.forward(x.clone(), adapters);
            let projected = match norm {
                Some(norm) => norm.forward(projected),
                None => projected,
            };
            projected.reshape([tiles, tokens, self.heads, width]).swap_dims(1, 2)
        };
        let q = split(&self.q_proj, &self.q_norm);
        let k = split(&self.k_proj, &self.k_norm);
        let v = split(&self.v_proj, &None);
        let mixed = attention(q, k, v, None, (width as f64).powf(-0.5));
        self.projection_layer.forward(mixed.reshape([tiles, tokens, hidden]), adapters)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let inner = self.fc1.forward(x, adapters);
        self.fc2.forward(activate(inner, self.act), adapters)
    }
}
