//! A layer of the vision tower.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::QwenVisionConfig;
use super::grid::Run;
use crate::checkpoint::WeightLoader;
use crate::decoder::RopeTables;
use crate::kernels::{attention, rotate};
use crate::layers::{Activation, GatedMlp, Norm, activate};
use crate::lora::{Adapters, Linear};
use crate::vlm::module_enum;

/// Epsilon of all norms.
pub(crate) const EPSILON: f64 = 1e-6;

/// Attention and a feed-forward layer, each after a norm and with a residual connection. Fields
/// have the names of transformers.
#[derive(Module, Debug)]
pub(super) struct Block {
    norm1: Norm,
    norm2: Norm,
    attn: Attention,
    mlp: Mlp,
}

/// Attention within segments.
#[derive(Module, Debug)]
struct Attention {
    /// Queries, keys and values of all heads, in this order.
    qkv: Linear,
    proj: Linear,
    #[module(skip)]
    heads: usize,
}

/// The feed-forward layer.
#[derive(Clone, Debug)]
enum Mlp {
    /// Qwen2-VL's.
    Plain(PlainMlp),
    /// Qwen2.5-VL's.
    Gated(GatedMlp),
    /// Qwen3-VL's, as the first with other names.
    Named(NamedMlp),
}

module_enum!(Mlp { Plain, Gated, Named });

/// Two linears with an activation between.
#[derive(Module, Debug)]
struct PlainMlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    act: Activation,
}

/// Two linears with an activation between.
#[derive(Module, Debug)]
struct NamedMlp {
    linear_fc1: Linear,
    linear_fc2: Linear,
    #[module(skip)]
    act: Activation,
}

impl Block {
    pub(super) fn load(weights: &mut WeightLoader, name: &str, config: &QwenVisionConfig) -> Self {
        let hidden = config.hidden_size;
        let mut norm = |part: &str| {
            let name = format!("{name}.{part}");
            if config.gated {
                Norm::rms(weights, &name, hidden, EPSILON)
            } else {
                Norm::layer(weights, &name, hidden, EPSILON)
            }
        };
        Self {
            norm1: norm("norm1"),
            norm2: norm("norm2"),
            attn: Attention {
                qkv: Linear::load(weights, &format!("{name}.attn.qkv"), hidden, 3 * hidden, true),
                proj: Linear::load(weights, &format!("{name}.attn.proj"), hidden, hidden, true),
                heads: config.num_heads,
            },
            mlp: Mlp::load(weights, &format!("{name}.mlp"), config),
        }
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.attn.qkv, &mut self.attn.proj].into_iter().chain(self.mlp.linears_mut())
    }

    /// Runs the layer on `[patches, hidden]`. Patches attend to those of their segment.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        tables: &RopeTables,
        segments: &[Run],
        adapters: Adapters,
    ) -> Tensor<2> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x), tables, segments, adapters);
        x.clone() + self.mlp.forward(self.norm2.forward(x), adapters)
    }
}

impl Attention {
    fn forward(&self, x: Tensor<2>, tables: &RopeTables, segments: &[Run], adapters: Adapters) -> Tensor<2> {
        let ([patches, hidden], dtype) = (x.dims(), x.dtype());
        let width = hidden / self.heads;
        let qkv = self.qkv.forward(x, adapters);
        let part = |at: usize| -> Tensor<3> {
            qkv.clone().narrow(1, at * hidden, hidden).reshape([patches, self.heads, width])
        };
        // rotary positions are applied in the type of the tables, f32, as in transformers
        let turned = |x: Tensor<3>| rotate(x.cast(tables.cos.dtype()), tables).cast(dtype);
        let qkv = [turned(part(0)), turned(part(1)), part(2)];
        let scale = (width as f64).powf(-0.5);
        let of_run = |run: &Run| -> Tensor<2> {
            let [q, k, v] = [&qkv[0], &qkv[1], &qkv[2]].map(|x| -> Tensor<4> {
                let own = x.clone().narrow(0, run.start, run.count * run.len);
                own.reshape([run.count, run.len, self.heads, width]).swap_dims(1, 2)
            });
            attention(q, k, v, None, scale).reshape([run.count * run.len, hidden])
        };
        let mut mixed: Vec<_> = segments.iter().map(of_run).collect();
        let mixed = if mixed.len() == 1 { mixed.swap_remove(0) } else { Tensor::cat(mixed, 0) };
        self.proj.forward(mixed, adapters)
    }
}

impl Mlp {
    fn load(weights: &mut WeightLoader, name: &str, config: &QwenVisionConfig) -> Self {
        let (hidden, inner, act) = (config.hidden_size, config.intermediate_size, config.hidden_act);
        if config.gated {
            return Self::Gated(GatedMlp::load(weights, name, [hidden, inner], true, act));
        }
        let mut two = |first: &str, second: &str| {
            [(first, hidden, inner), (second, inner, hidden)].map(|(part, d_in, d_out)| {
                Linear::load(weights, &format!("{name}.{part}"), d_in, d_out, true)
            })
        };
        if config.position_side.is_some() {
            let [linear_fc1, linear_fc2] = two("linear_fc1", "linear_fc2");
            return Self::Named(NamedMlp { linear_fc1, linear_fc2, act });
        }
        let [fc1, fc2] = two("fc1", "fc2");
        Self::Plain(PlainMlp { fc1, fc2, act })
    }

    fn linears_mut(&mut self) -> std::vec::IntoIter<&mut Linear> {
        match self {
            Self::Plain(mlp) => vec![&mut mlp.fc1, &mut mlp.fc2],
            Self::Gated(mlp) => mlp.linears_mut().into(),
            Self::Named(mlp) => vec![&mut mlp.linear_fc1, &mut mlp.linear_fc2],
        }
        .into_iter()
    }

    fn forward(&self, x: Tensor<2>, adapters: Adapters) -> Tensor<2> {
        let plain = |first: &Linear, act, second: &Linear, x| {
            second.forward(activate(first.forward(x, adapters), act), adapters)
        };
        match self {
            Self::Plain(mlp) => plain(&mlp.fc1, mlp.act, &mlp.fc2, x),
            Self::Gated(mlp) => mlp.forward(x, adapters),
            Self::Named(mlp) => plain(&mlp.linear_fc1, mlp.act, &mlp.linear_fc2, x),
        }
    }
}
