//! The projector of LLaVA-NeXT and LLaVA-OneVision: LLaVA's two linears, and the vector that stands
//! for the end of a row of patches.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::resize::bilinear;
use crate::checkpoint::WeightLoader;
use crate::families::llava::{LlavaConfig, project_features};
use crate::input::ImageLayout;
use crate::layers::Activation;
use crate::lora::{Adapters, Linear};
use crate::processor::TileGrid;
use crate::vlm::{PROJECTOR, PackedFeatures, ids};

/// Maps image features to the language model's width, and arranges them as the image shows them:
/// `pack_image_features` in transformers' `modeling_llava_next.py` and
/// `modeling_llava_onevision.py`.
#[derive(Module, Debug)]
pub struct LlavaNextProjector {
    /// From the vision tower's width to the language model's.
    pub linear_1: Linear,
    /// Within the language model's width.
    pub linear_2: Linear,
    /// The embedding of the end of a row of patches, `[text hidden]`.
    pub image_newline: Param<Tensor<1>>,
    #[module(skip)]
    act: Activation,
}

impl LlavaNextProjector {
    /// Loads the weights.
    pub(super) fn load(weights: &mut WeightLoader, config: &LlavaConfig) -> Self {
        let [linear_1, linear_2] = config.projector_linears(weights);
        let newline = weights.param(&format!("{PROJECTOR}.image_newline"), [config.text_config.hidden_size]);
        Self { linear_1, linear_2, image_newline: newline, act: config.projector_hidden_act }
    }

    /// Projects the features of tiles, and arranges those of each image.
    pub(crate) fn project(
        &self,
        features: &PackedFeatures,
        images: &[&ImageLayout],
        adapters: Adapters,
    ) -> PackedFeatures {
        let tiles = images.iter().map(|image| image.tiles()).sum::<usize>();
        let values = features.values();
        let [rows, width] = values.dims();
        let values = values.reshape([tiles, rows / tiles, width]);
        let values = project_features([&self.linear_1, &self.linear_2], self.act, values, adapters);
        let values = values.flatten::<2>(0, 1);
        let [_, hidden] = values.dims();
        let newline = self.image_newline.val().cast(values.dtype()).reshape([1, hidden]);

        // all features, those that are resized, and the new line
        let mut table = vec![values.clone()];
        let mut used = rows;
        let mut gather = Vec::new();
        let mut newlines = Vec::new();
        for (image, layout) in images.iter().enumerate() {
            let first = features.rows(image).start;
            let grid = layout.tile_grid().unwrap_or(TileGrid::whole(0));
            gather.extend((first..first + grid.patches * grid.patches).map(|row| row as u32));
            let mut shown: Vec<u32> = grid.shown_features().map(|row| (first + row) as u32).collect();
            if let Some([height, width]) = grid.resized {
                let map = values.clone().select(0, ids(&shown, &values.device()));
                let map = bilinear(map.reshape([grid.shown[0], grid.shown[1], hidden]), [height, width]);
                shown = (used..used + height * width).map(|row| row as u32).collect();
                used += height * width;
                table.push(map.flatten(0, 1));
            }
            let [height, width] = grid.resized.unwrap_or(grid.shown);
            for row in 0..height {
                gather.extend(&shown[row * width..(row + 1) * width]);
                newlines.push(gather.len());
                gather.push(0);
            }
        }
        newlines.into_iter().for_each(|place| gather[place] = used as u32);
        table.push(newline);
        let arranged = Tensor::cat(table, 0).select(0, ids(&gather, &values.device()));
        PackedFeatures::new(arranged, images.iter().map(|image| image.tokens()))
    }

    pub(crate) fn linears_mut(&mut self) -> [&mut Linear; 2] {
        [&mut self.linear_1, &mut self.linear_2]
    }
}
