//! The vision transformers of Qwen2-VL (Wang et al., 2024, arXiv 2409.12191), Qwen2.5-VL (Bai et
//! al., 2025, arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631), as transformers 5.23 runs them in
//! `qwen2_vl/modeling_qwen2_vl.py`, `qwen2_5_vl/modeling_qwen2_5_vl.py` and
//! `qwen3_vl/modeling_qwen3_vl.py`.
//!
//! They take images of any size as patches, which are packed: patches of all images are rows of one
//! tensor, and attend to those of their image or window. Each step of time attends to itself.

mod block;
mod config;
mod grid;
mod patches;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};

pub(crate) use block::EPSILON;
pub use config::{QwenVisionConfig, WindowConfig};
pub use grid::TokenGrid;

use crate::checkpoint::WeightLoader;
use crate::decoder::Rope;
use crate::input::ImageInput;
use crate::kernels::product;
use crate::lora::{Adapters, Linear};
use crate::vlm::{PackedFeatures, ids};
use block::Block;
use grid::{Order, Run};

/// The image encoder without its merger, which is the projector.
#[derive(Module, Debug)]
pub struct QwenVision {
    patch_embed: PatchEmbed,
    pos_embed: Option<PositionTable>,
    blocks: Vec<Block>,
    #[module(skip)]
    config: QwenVisionConfig,
    #[module(skip)]
    rope: Rope,
}

/// The embedding of patches.
#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Convolution,
}

/// A convolution whose stride is its kernel size, which is a matrix product.
#[derive(Module, Debug)]
struct Convolution {
    /// `[hidden, channels, frames, side, side]`
    weight: Param<Tensor<5>>,
    /// `[hidden]`
    bias: Option<Param<Tensor<1>>>,
}

/// A learned table of positions of a square of patches, row by row.
#[derive(Module, Debug)]
struct PositionTable {
    /// `[side x side, hidden]`
    weight: Param<Tensor<2>>,
}

impl QwenVision {
    /// Loads the weights.
    pub(crate) fn load(weights: &mut WeightLoader, config: &QwenVisionConfig) -> Self {
        let (hidden, side) = (config.hidden_size, config.patch_size);
        let kernel = [hidden, 3, config.temporal_patch_size, side, side];
        let has_table = config.position_side.is_some();
        Self {
            patch_embed: PatchEmbed {
                proj: Convolution {
                    weight: weights.param("vision_tower.patch_embed.proj.weight", kernel),
                    bias: has_table.then(|| weights.param("vision_tower.patch_embed.proj.bias", [hidden])),
                },
            },
            pos_embed: config.position_side.map(|side| PositionTable {
                weight: weights.param("vision_tower.pos_embed.weight", [side * side, hidden]),
            }),
            blocks: (0..config.depth)
                .map(|layer| Block::load(weights, &format!("vision_tower.blocks.{layer}"), config))
                .collect(),
            rope: Rope::of_grid(config.rope_theta, hidden / config.num_heads),
            config: config.clone(),
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut)
    }

    /// Computes the features of images, before the projector: one row for each image token, with
    /// the hidden states of its patches, then those of each further depth. Returns `None` without
    /// images.
    ///
    /// # Panics
    /// If the layout of an image has no grid, or its tiles have another size.
    pub(crate) fn encode(
        &self,
        images: &[&ImageInput],
        dtype: FloatDType,
        device: &Device,
        adapters: Adapters,
    ) -> Option<PackedFeatures> {
        if images.is_empty() {
            return None;
        }
        let config = &self.config;
        let grid = |image: &&ImageInput| image.layout.grid().expect("a checked image has a grid");
        let grids: Vec<_> = images.iter().map(grid).collect();
        let order = Order::new(&grids, config.windows.as_ref());
        let patches = patches::patches(&grids, &order, config.spatial_merge_size);
        let mut x = self.patch_embed.proj.forward(patches::pixels(images, &patches, config, device), dtype);
        if let (Some(table), Some(side)) = (&self.pos_embed, config.position_side) {
            let neighbours = patches::neighbours(&patches, &grids, config.spatial_merge_size, side, device);
            x = x + table.between(neighbours).cast(dtype);
        }
        let tables = self.rope.tables(&[patches::positions(&patches)], FloatDType::F32, device);
        let of_patches = |runs: &[Run]| -> Vec<Run> {
            let merged = config.merged();
            let run = |run: &Run| Run { start: run.start * merged, count: run.count, len: run.len * merged };
            runs.iter().map(run).collect()
        };
        let (all, windows) = (of_patches(&order.images), of_patches(&order.windows));

        let mut states = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            let in_windows =
                config.windows.as_ref().is_some_and(|windows| !windows.full_layers.contains(&layer));
            x = block.forward(x, &tables, if in_windows { &windows } else { &all }, adapters);
            if config.deepstack_layers.contains(&layer) {
                states.push(x.clone());
            }
        }
        states.insert(0, x);
        let (tokens, width) = (order.tokens.len(), config.merged() * config.hidden_size);
        let mut states: Vec<Tensor<2>> =
            states.into_iter().map(|state| state.reshape([tokens, width])).collect();
        let features = if states.len() == 1 { states.swap_remove(0) } else { Tensor::cat(states, 1) };
        let features = match order.back() {
            Some(back) => features.select(0, ids(&back, device)),
            None => features,
        };
        Some(PackedFeatures::new(features, grids.iter().map(TokenGrid::tokens)))
    }
}

impl Convolution {
    /// Embeds patches, `[patches, channels x frames x side x side]` in f32, in the model's type.
    fn forward(&self, patches: Tensor<2>, dtype: FloatDType) -> Tensor<2> {
        let kernel = self.weight.val();
        let hidden = kernel.dims()[0];
        let inner = patches.dims()[1];
        let y = product(patches.cast(dtype), kernel.reshape([hidden, inner]).transpose());
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }
}

impl PositionTable {
    /// Interpolates between four entries, in f32.
    fn between(&self, neighbours: [(Tensor<1, burn::tensor::Int>, Tensor<2>); 4]) -> Tensor<2> {
        let table = self.weight.val();
        let [first, rest @ ..] =
            neighbours.map(|(entries, weights)| table.clone().select(0, entries).cast(DType::F32) * weights);
        rest.into_iter().fold(first, |sum, part| sum + part)
    }
}
