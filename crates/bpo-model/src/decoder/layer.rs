//! A decoder layer: attention and a gated feed-forward layer, each after an RMS norm and with a
//! residual connection.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Tensor};

use super::attention::Attention;
use super::rope::RopeTables;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::kernels::rms_norm;
use crate::layers::{GatedMlp, load_rms_norm};
use crate::lora::{Adapters, Linear};

/// A decoder layer. Fields have the names of transformers, so parameter paths are those of PEFT.
#[derive(Module, Debug)]
pub(super) struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: GatedMlp,
    /// Whether its tokens attend to the tokens of the sliding window only.
    #[module(skip)]
    pub(super) slides: bool,
}

impl DecoderLayer {
    /// Loads the layer with a number.
    pub(super) fn load(weights: &mut WeightLoader, number: usize, config: &DecoderConfig) -> Self {
        let name = &format!("language_model.layers.{number}");
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        Self {
            input_layernorm: load_rms_norm(weights, &format!("{name}.input_layernorm"), hidden, eps),
            self_attn: Attention::load(weights, &format!("{name}.self_attn"), config),
            post_attention_layernorm: load_rms_norm(
                weights,
                &format!("{name}.post_attention_layernorm"),
                hidden,
                eps,
            ),
            mlp: GatedMlp::load(
                weights,
                &format!("{name}.mlp"),
                [hidden, inner],
                config.mlp_bias,
                config.hidden_act,
            ),
            slides: config.window(number).is_some(),
        }
    }

    pub(super) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.self_attn.linears_mut().into_iter().chain(self.mlp.linears_mut())
    }

    /// The attention of the last token to all tokens, as the mean over heads.
    ///
    /// # Shapes
    /// - `x`: `[tokens, hidden]`
    /// - `mask`: `[1, 1, tokens]`, added to the scores
    /// - output: `[tokens]`, in f32
    pub(super) fn last_attention(
        &self,
        x: Tensor<2>,
        tables: &RopeTables,
        mask: Tensor<3>,
        adapters: Adapters,
    ) -> Tensor<1> {
        let tokens = x.dims()[0];
        let normed = rms_norm(x, &self.input_layernorm);
        let last = normed.clone().narrow(0, tokens - 1, 1);
        let q = self.self_attn.queries(last, &tables.behind(tokens - 1), adapters).cast(DType::F32);
        let k = self.self_attn.keys(normed, tables, adapters).cast(DType::F32);
        let ([_, heads, width], [_, kv_heads, _]) = (q.dims(), k.dims());
        // consecutive heads of queries share a head of keys
        let q = q.reshape([kv_heads, heads / kv_heads, width]);
        let scores = q.matmul(k.permute([1, 2, 0])) * tables.score_scale() + mask;
        softmax(scores, 2).reshape([heads, tokens]).mean_dim(0).reshape([tokens])
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
