//! Grouped-query attention with rotary positions.

use burn::module::Module;
use burn::tensor::Tensor;

use super::rope::RopeTables;
use crate::config::TextConfig;
use crate::fused::{attention, rotate};
use crate::lora::{Adapters, Linear};
use crate::weights::WeightLoader;

/// `softmax(q k^T / sqrt(d) + mask) v`, several query heads to each head of keys and values.
#[derive(Module, Debug)]
pub(super) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    width: usize,
}

impl Attention {
    pub(super) fn load(weights: &mut WeightLoader, name: &str, config: &TextConfig) -> Self {
        let (hidden, width) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let mut linear = |part: &str, d_in, d_out| {
            Linear::load(weights, &format!("{name}.{part}"), d_in, d_out, config.attention_bias)
        };
        Self {
            q_proj: linear("q_proj", hidden, heads * width),
            k_proj: linear("k_proj", hidden, kv_heads * width),
            v_proj: linear("v_proj", hidden, kv_heads * width),
            o_proj: linear("o_proj", heads * width, hidden),
            heads,
            kv_heads,
            width,
        }
    }

    pub(super) fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj]
    }

    /// `[rows, tokens, hidden]` to the same; `extend` adds the keys and values of earlier tokens.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        tables: &RopeTables,
        mask: &Tensor<4>,
        extend: &mut dyn FnMut(Tensor<4>, Tensor<4>) -> (Tensor<4>, Tensor<4>),
        adapters: Adapters,
    ) -> Tensor<3> {
        let [rows, tokens, _] = x.dims();
        let q = rotate(self.split(&self.q_proj, self.heads, &x, adapters), tables);
        let (k, v) = self.keys_and_values(x, tables, adapters);
        let (k, v) = extend(k, v);
        let mixed = attention(q, k, v, Some(mask), (self.width as f64).powf(-0.5));
        self.o_proj.forward(mixed.reshape([rows, tokens, self.heads * self.width]), adapters)
    }

    /// Those of `x`, `[rows, tokens, hidden]`. `[rows, kv heads, tokens, head_dim]`
    pub(super) fn keys_and_values(
        &self,
        x: Tensor<3>,
        tables: &RopeTables,
        adapters: Adapters,
    ) -> (Tensor<4>, Tensor<4>) {
        let k = rotate(self.split(&self.k_proj, self.kv_heads, &x, adapters), tables);
        (k, self.split(&self.v_proj, self.kv_heads, &x, adapters))
    }

    /// `[rows, heads, tokens, head_dim]`
    fn split(&self, linear: &Linear, heads: usize, x: &Tensor<3>, adapters: Adapters) -> Tensor<4> {
        let [rows, tokens, _] = x.dims();
        linear.forward(x.clone(), adapters).reshape([rows, tokens, heads, self.width]).swap_dims(1, 2)
    }
}
