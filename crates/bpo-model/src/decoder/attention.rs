//! Grouped-query attention with rotary positions.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::Tensor;

use super::rope::RopeTables;
use crate::checkpoint::WeightLoader;
use crate::decoder::DecoderConfig;
use crate::kernels::{rms_norm, rotate};
use crate::layers::load_rms_norm;
use crate::lora::{Adapters, Linear};

/// The projections around `softmax(q k^T / sqrt(d) + mask) v`. Several query heads share one head
/// of keys and values.
#[derive(Module, Debug)]
pub(super) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Norms of each head's queries and keys, in families that have them.
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    #[module(skip)]
    width: usize,
}

impl Attention {
    pub(super) fn load(weights: &mut WeightLoader, name: &str, config: &DecoderConfig) -> Self {
        let (hidden, width) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let mut linear = |part: &str, d_in, d_out| {
            let bias = config.attention_bias || (config.qkv_bias && part != "o_proj");
            Linear::load(weights, &format!("{name}.{part}"), d_in, d_out, bias)
        };
        let [q_proj, k_proj, v_proj, o_proj] = [
            linear("q_proj", hidden, heads * width),
            linear("k_proj", hidden, kv_heads * width),
            linear("v_proj", hidden, kv_heads * width),
            linear("o_proj", heads * width, hidden),
        ];
        let mut norm = |part: &str| {
            let name = format!("{name}.{part}");
            config.qk_norm.then(|| load_rms_norm(weights, &name, width, config.rms_norm_eps))
        };
        Self { q_norm: norm("q_norm"), k_norm: norm("k_norm"), q_proj, k_proj, v_proj, o_proj, width }
    }

    pub(super) fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj]
    }

    /// Queries with rotary positions applied: `[.., hidden]` to `[tokens, heads, head_dim]`, with
    /// the tokens of all rows in one dimension.
    pub(super) fn queries<const D: usize>(
        &self,
        x: Tensor<D>,
        tables: &RopeTables,
        adapters: Adapters,
    ) -> Tensor<3> {
        rotate(head_norm(self.heads(&self.q_proj, x, adapters), self.q_norm.as_ref()), tables)
    }

    /// Keys with rotary positions applied: `[.., hidden]` to `[tokens, kv heads, head_dim]`.
    pub(super) fn keys<const D: usize>(
        &self,
        x: Tensor<D>,
        tables: &RopeTables,
        adapters: Adapters,
    ) -> Tensor<3> {
        rotate(head_norm(self.heads(&self.k_proj, x, adapters), self.k_norm.as_ref()), tables)
    }

    /// Keys with rotary positions applied, and values: `[.., hidden]` to `[tokens, kv heads,
    /// head_dim]` each.
    pub(super) fn keys_and_values<const D: usize>(
        &self,
        x: Tensor<D>,
        tables: &RopeTables,
        adapters: Adapters,
    ) -> (Tensor<3>, Tensor<3>) {
        (self.keys(x.clone(), tables, adapters), self.heads(&self.v_proj, x, adapters))
    }

    /// The output projection of mixed values: `[tokens, heads, head_dim]` to `shape` with the last
    /// dimension replaced by the hidden size.
    pub(super) fn output<const D: usize>(
        &self,
        mixed: Tensor<3>,
        mut shape: [usize; D],
        adapters: Adapters,
    ) -> Tensor<D> {
        let [_, heads, width] = mixed.dims();
        shape[D - 1] = heads * width;
        self.o_proj.forward(mixed.reshape(shape), adapters)
    }

    fn heads<const D: usize>(&self, linear: &Linear, x: Tensor<D>, adapters: Adapters) -> Tensor<3> {
        let tokens = x.dims()[..D - 1].iter().product();
        let y = linear.forward(x, adapters);
        let heads = y.dims()[D - 1] / self.width;
        y.reshape([tokens, heads, self.width])
    }
}

/// Normalizes each head of `[tokens, heads, head_dim]`, where there is a norm.
fn head_norm(x: Tensor<3>, norm: Option<&RmsNorm>) -> Tensor<3> {
    match norm {
        Some(norm) => rms_norm(x, norm),
        None => x,
    }
}
