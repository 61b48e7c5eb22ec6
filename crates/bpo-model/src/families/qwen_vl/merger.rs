//! The merger, which is the projector: it turns each square of patches into one image token.

use burn::module::Module;
use burn::tensor::Tensor;

use super::config::QwenVlConfig;
use crate::checkpoint::WeightLoader;
use crate::input::ImageLayout;
use crate::layers::{Activation, Norm, activate};
use crate::lora::{Adapters, Linear};
use crate::vision::QWEN_EPSILON;
use crate::vlm::{PROJECTOR, PackedFeatures};

/// The merger of the last layer's patches, and those of further depths.
#[derive(Module, Debug)]
pub struct QwenMerger {
    norm: Norm,
    linear_fc1: Linear,
    linear_fc2: Linear,
    deepstack_merger_list: Vec<DepthMerger>,
}

/// The merger of a further depth. Its norm is of whole tokens, not of patches.
#[derive(Module, Debug)]
struct DepthMerger {
    norm: Norm,
    linear_fc1: Linear,
    linear_fc2: Linear,
}

impl QwenMerger {
    /// Loads the weights.
    pub(super) fn load(weights: &mut WeightLoader, config: &QwenVlConfig) -> Self {
        let vision = &config.vision_config;
        let (patch, token) = (vision.hidden_size, vision.hidden_size * vision.merged());
        let linears = |weights: &mut WeightLoader, name: &str| {
            [("linear_fc1", token), ("linear_fc2", vision.out_hidden_size)]
                .map(|(part, d_out)| Linear::load(weights, &format!("{name}.{part}"), token, d_out, true))
        };
        let norm = format!("{PROJECTOR}.norm");
        let norm = if vision.gated {
            Norm::rms(weights, &norm, patch, QWEN_EPSILON)
        } else {
            Norm::layer(weights, &norm, patch, QWEN_EPSILON)
        };
        let [linear_fc1, linear_fc2] = linears(weights, PROJECTOR);
        let depth = |number: usize| {
            let name = format!("{PROJECTOR}.deepstack_merger_list.{number}");
            let norm = Norm::layer(weights, &format!("{name}.norm"), token, QWEN_EPSILON);
            let [linear_fc1, linear_fc2] = linears(weights, &name);
            DepthMerger { norm, linear_fc1, linear_fc2 }
        };
        let deepstack_merger_list = (0..vision.deepstack_layers.len()).map(depth).collect();
        Self { norm, linear_fc1, linear_fc2, deepstack_merger_list }
    }

    /// Merges the features of image tokens: `[tokens, patches x vision hidden x depths]` to
    /// `[tokens, text hidden x depths]`.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        _images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        features.map(|values| {
            let [tokens, width] = values.dims();
            let token = width / (1 + self.deepstack_merger_list.len());
            let part = |depth: usize| values.clone().narrow(1, depth * token, token);
            let dtype = values.dtype();
            let patch = self.linear_fc1.weight.lazy_shape()[0] / self.norm_width();
            let normed = self.norm.forward(part(0).reshape([tokens * patch, token / patch]));
            let normed = normed.reshape([tokens, token]);
            let first = merge([&self.linear_fc1, &self.linear_fc2], normed, adapters).cast(dtype);
            let of_depth = |(number, merger): (usize, &DepthMerger)| {
                let normed = merger.norm.forward(part(1 + number));
                merge([&merger.linear_fc1, &merger.linear_fc2], normed, adapters).cast(dtype)
            };
            let further = self.deepstack_merger_list.iter().enumerate().map(of_depth);
            let mut all: Vec<_> = std::iter::once(first).chain(further).collect();
            if all.len() == 1 { all.swap_remove(0) } else { Tensor::cat(all, 1) }
        })
    }

    /// Width of the norm: that of a patch.
    fn norm_width(&self) -> usize {
        match &self.norm {
            Norm::Layer(norm) => norm.gamma.lazy_shape()[0],
            Norm::Rms(norm) => norm.gamma.lazy_shape()[0],
        }
    }

    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let further = self
            .deepstack_merger_list
            .iter_mut()
            .flat_map(|merger| [&mut merger.linear_fc1, &mut merger.linear_fc2]);
        [&mut self.linear_fc1, &mut self.linear_fc2].into_iter().chain(further)
    }
}

/// Two linears with GELU between. A trained copy of a linear is in f32, and may be one of the two.
fn merge([first, second]: [&Linear; 2], x: Tensor<2>, adapters: Adapters) -> Tensor<2> {
    let apply =
        |linear: &Linear, x: Tensor<2>| linear.forward(x.cast(linear.weight.base().dtype()), adapters);
    apply(second, activate(apply(first, x), Activation::Gelu))
}
