//! The layers of vision transformers. Fields have the names of transformers.

use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use crate::checkpoint::WeightLoader;
use crate::kernels::attention;
use crate::layers::{Activation, activate, layer_norm, normed};
use crate::lora::{Adapters, Linear};
use crate::vision::VitConfig;

/// The layers that run, in order.
#[derive(Module, Debug)]
pub(super) struct Encoder {
    layers: Vec<EncoderLayer>,
}

/// Attention and a feed-forward layer, each after a layer norm and with a residual connection.
#[derive(Module, Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

/// Two linears with an activation between.
#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    act: Activation,
}

/// Attention of every patch to every patch.
#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Encoder {
    /// Loads the first `count` layers of the tower.
    pub(super) fn load(weights: &mut WeightLoader, config: &VitConfig, count: usize) -> Self {
        let layer = |i| EncoderLayer::load(weights, &format!("vision_tower.encoder.layers.{i}"), config);
        Self { layers: (0..count).map(layer).collect() }
    }

    /// Number of layers.
    pub(super) fn layers_run(&self) -> usize {
        self.layers.len()
    }

    /// The linears of all layers.
    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(EncoderLayer::linears_mut)
    }

    /// Returns the hidden states after the given numbers of layers, concatenated.
    ///
    /// # Shapes
    /// - `x`: `[images, tokens, hidden]`
    /// - output: `[images, tokens, hidden x states]`
    ///
    /// # Panics
    /// If a layer that is asked for was not loaded.
    pub(super) fn states(&self, mut x: Tensor<3>, wanted: &[usize], adapters: Adapters) -> Tensor<3> {
        let mut states = vec![(0, x.clone())];
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, adapters);
            if wanted.contains(&(i + 1)) {
                states.push((i + 1, x.clone()));
            }
        }
        let picked = |layer: &usize| {
            let state = states.iter().find(|(i, _)| i == layer).map(|(_, state)| state.clone());
            state.expect("every state that is asked for has been computed")
        };
        Tensor::cat(wanted.iter().map(picked).collect(), 2)
    }
}

impl EncoderLayer {
    fn load(weights: &mut WeightLoader, name: &str, config: &VitConfig) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let square = |weights: &mut WeightLoader, part: &str| {
            Linear::load(weights, &format!("{name}.self_attn.{part}"), hidden, hidden, true)
        };
        Self {
            layer_norm1: layer_norm(weights, &format!("{name}.layer_norm1"), hidden, config.layer_norm_eps),
            self_attn: Attention {
                q_proj: square(weights, "q_proj"),
                k_proj: square(weights, "k_proj"),
                v_proj: square(weights, "v_proj"),
                out_proj: square(weights, "out_proj"),
                heads: config.num_attention_heads,
            },
            layer_norm2: layer_norm(weights, &format!("{name}.layer_norm2"), hidden, config.layer_norm_eps),
            mlp: Mlp {
                fc1: Linear::load(weights, &format!("{name}.mlp.fc1"), hidden, inner, true),
                fc2: Linear::load(weights, &format!("{name}.mlp.fc2"), inner, hidden, true),
                act: config.hidden_act,
            },
        }
    }

    fn linears_mut(&mut self) -> [&mut Linear; 6] {
        let (Attention { q_proj, k_proj, v_proj, out_proj, .. }, Mlp { fc1, fc2, .. }) =
            (&mut self.self_attn, &mut self.mlp);
        [q_proj, k_proj, v_proj, out_proj, fc1, fc2]
    }

    /// Runs the layer on `[images, tokens, hidden]`.
    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(normed(&self.layer_norm1, x), adapters);
        x.clone() + self.mlp.forward(normed(&self.layer_norm2, x), adapters)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let inner = self.fc1.forward(x, adapters);
        self.fc2.forward(activate(inner, self.act), adapters)
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let [images, tokens, hidden] = x.dims();
        let width = hidden / self.heads;
        let split = |linear: &Linear| {
            linear.forward(x.clone(), adapters).reshape([images, tokens, self.heads, width]).swap_dims(1, 2)
        };
        let [q, k, v] = [&self.q_proj, &self.k_proj, &self.v_proj].map(split);
        let mixed = attention(q, k, v, None, (width as f64).powf(-0.5));
        self.out_proj.forward(mixed.reshape([images, tokens, hidden]), adapters)
    }
}
