//! One decoder layer: attention and a gated feed-forward, each behind an RMS norm and around a residual.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::rope::RopeTables;
use crate::config::{Activation, TextConfig};
use crate::fused::{rms_norm, swiglu};
use crate::lora::{Adapters, Linear};
use crate::nn::{activate, load_rms_norm};
use crate::weights::WeightLoader;

/// The layer. Its parts have transformers' names, so that parameter paths are those of PEFT.
#[derive(Module, Debug)]
pub(super) struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

/// SwiGLU: `down(act(gate(x)) * up(x))`.
#[derive(Module, Debug)]
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    #[module(skip)]
    act: Activation,
}

impl DecoderLayer {
    pub(super) fn load(weights: &mut WeightLoader, name: &str, config: &TextConfig) -> Self {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let mlp = |weights: &mut WeightLoader, part: &str, d_in, d_out| {
            Linear::load(weights, &format!("{name}.mlp.{part}"), d_in, d_out, config.mlp_bias)
        };
        Self {
            input_layernorm: load_rms_norm(weights, &format!("{name}.input_layernorm"), hidden, eps),
            self_attn: Attention::load(weights, &format!("{name}.self_attn"), config),
            post_attention_layernorm: load_rms_norm(
                weights,
                &format!("{name}.post_attention_layernorm"),
                hidden,
                eps,
            ),
            mlp: Mlp {
                gate_proj: mlp(weights, "gate_proj", hidden, inner),
                up_proj: mlp(weights, "up_proj", hidden, inner),
                down_proj: mlp(weights, "down_proj", inner, hidden),
                act: config.hidden_act,
            },
        }
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Mlp { gate_proj, up_proj, down_proj, .. } = &mut self.mlp;
        self.self_attn.linears_mut().into_iter().chain([gate_proj, up_proj, down_proj])
    }

    /// `[rows, tokens, hidden]` to the same.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        tables: &RopeTables,
        mask: &Tensor<4>,
        extend: &mut dyn FnMut(Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<4>),
        adapters: Adapters,
    ) -> Tensor<3> {
        let attended = self.self_attn.forward(
            rms_norm(x.clone(), &self.input_layernorm),
            tables,
            mask,
            extend,
            adapters,
        );
        let x = x + attended;
        x.clone() + self.mlp.forward(rms_norm(x, &self.post_attention_layernorm), adapters)
    }

    /// Of `x` the keys and values alone, `[rows, kv heads, tokens, head_dim]`: all that later tokens want of the last layer.
    pub(super) fn keys_and_values(
        &self,
        x: Tensor<3>,
        tables: &RopeTables,
        adapters: Adapters,
    ) -> (Tensor<4>, Tensor<4>) {
        self.self_attn.keys_and_values(rms_norm(x, &self.input_layernorm), tables, adapters)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>, adapters: Adapters) -> Tensor<3> {
        let gate = self.gate_proj.forward(x.clone(), adapters);
        let up = self.up_proj.forward(x, adapters);
        let gated = match self.act {
            Activation::Silu => swiglu(gate, up),
            other => activate(gate, other) * up,
        };
        self.down_proj.forward(gated, adapters)
    }
}
