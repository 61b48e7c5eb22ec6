//! A decoder layer: attention and a gated feed-forward layer, each after an RMS norm and with a
//! residual connection.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;

use super::attention::Attention;
use super::rope::RopeTables;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::kernels::{rms_norm, swiglu};
use crate::layers::Activation;
use crate::layers::{activate, load_rms_norm};
use crate::lora::{Adapters, Linear};

/// A decoder layer. Fields have the names of transformers, so parameter paths are those of PEFT.
#[derive(Module, Debug)]
pub(super) struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
    /// Whether its tokens attend to the tokens of the sliding window only.
    #[module(skip)]
    pub(super) slides: bool,
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
    /// Loads the layer with a number.
    pub(super) fn load(weights: &mut WeightLoader, number: usize, config: &DecoderConfig) -> Self {
        let name = &format!("language_model.layers.{number}");
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let mlp = |weights: &mut WeightLoader, part: &str, d_in, d_out| {
            Linear::load(weights, &format!("{name}.mlp.{part}"), d_in, d_out, config.has_mlp_bias())
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
            slides: config.window(number).is_some(),
        }
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Mlp { gate_proj, up_proj, down_proj, .. } = &mut self.mlp;
        self.self_attn.linears_mut().into_iter().chain([gate_proj, up_proj, down_proj])
    }

    /// Runs the layer on `[.., hidden]`.
    ///
    /// `attend` takes queries, keys and values and returns the mixed values, all `[tokens, heads,
    /// head_dim]`. For the tokens before `from`, only keys and values are computed. Where `from` is
    /// not 0, `x` is `[tokens, hidden]`, and the output has the tokens from `from` on.
    pub(super) fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        tables: &RopeTables,
        from: usize,
        attend: &mut dyn FnMut([Tensor<3>; 3]) -> Tensor<3>,
        adapters: Adapters,
    ) -> Tensor<D> {
        let normed = rms_norm(x.clone(), &self.input_layernorm);
        let (k, v) = self.self_attn.keys_and_values(normed.clone(), tables, adapters);
        let (x, q) = if from == 0 {
            (x, self.self_attn.queries(normed, tables, adapters))
        } else {
            let behind = |x: Tensor<D>| {
                let tokens = x.dims()[0];
                x.narrow(0, from, tokens - from)
            };
            (behind(x), self.self_attn.queries(behind(normed), &tables.behind(from), adapters))
        };
        let shape = x.dims();
        let x = x + self.self_attn.output(attend([q, k, v]), shape, adapters);
        x.clone() + self.mlp.forward(rms_norm(x, &self.post_attention_layernorm), adapters)
    }
}

impl Mlp {
    fn forward<const D: usize>(&self, x: Tensor<D>, adapters: Adapters) -> Tensor<D> {
        let gate = self.gate_proj.forward(x.clone(), adapters);
        let up = self.up_proj.forward(x, adapters);
        let gated = match self.act {
            Activation::Silu => swiglu(gate, up),
            other => activate(gate, other) * up,
        };
        self.down_proj.forward(gated, adapters)
    }
}
