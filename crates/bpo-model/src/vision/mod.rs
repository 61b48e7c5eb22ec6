//! Vision towers.

mod clip;
mod qwen;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

pub use clip::{ClipConfig, ClipVision};
pub(crate) use qwen::EPSILON as QWEN_EPSILON;
pub use qwen::{QwenVision, QwenVisionConfig, TokenGrid, WindowConfig};

use crate::input::ImageInput;
use crate::lora::{Adapters, Linear};
use crate::processor::PixelValues;
use crate::vlm::{PackedFeatures, module_enum};

/// The vision tower of a model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VisionTower {
    /// CLIP's.
    Clip(ClipVision),
    /// Qwen-VL's.
    Qwen(QwenVision),
}

module_enum!(VisionTower { Clip, Qwen });

/// Sizes of a vision tower that decide on its memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TowerSizes {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) heads: usize,
    /// Layers that run.
    pub(crate) layers: usize,
    /// Tokens of a tile within the tower.
    pub(crate) tokens: TowerTokens,
    /// Width of the features that the tower gives.
    pub(crate) features: usize,
}

/// Numbers of tokens within a vision tower.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TowerTokens {
    /// Of every tile.
    PerTile(usize),
    /// Of every image token, in towers that take images of any size.
    PerImageToken(usize),
}

impl VisionTower {
    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> Box<dyn Iterator<Item = &mut Linear> + '_> {
        match self {
            Self::Clip(tower) => Box::new(tower.linears_mut()),
            Self::Qwen(tower) => Box::new(tower.linears_mut()),
        }
    }

    /// Computes the features of images, before the projector. Returns `None` without images.
    pub(crate) fn encode(
        &self,
        images: &[&ImageInput],
        dtype: FloatDType,
        device: &Device,
        adapters: Adapters,
    ) -> Option<PackedFeatures> {
        match self {
            Self::Clip(tower) => {
                of_tiles(images, device, |pixels| tower.forward(pixels.cast(dtype), adapters))
            }
            Self::Qwen(tower) => tower.encode(images, dtype, device, adapters),
        }
    }
}

/// Computes the features of images whose tiles all have one size. `forward` maps pixels `[tiles,
/// channels, height, width]` to features `[tiles, tokens, width]`.
fn of_tiles(
    images: &[&ImageInput],
    device: &Device,
    forward: impl FnOnce(Tensor<4>) -> Tensor<3>,
) -> Option<PackedFeatures> {
    let tiles: Vec<_> = images.iter().flat_map(|image| &image.tiles).collect();
    let features = forward(pixel_tensor(&tiles, device)?);
    let [tiles, tokens, width] = features.dims();
    let rows = images.iter().map(|image| image.tiles.len() * tokens);
    Some(PackedFeatures::new(features.reshape([tiles * tokens, width]), rows))
}

/// Creates a tensor of normalized pixels of one size, `[tiles, channels, height, width]`.
fn pixel_tensor(tiles: &[&PixelValues], device: &Device) -> Option<Tensor<4>> {
    let first = tiles.first()?;
    let shape = [tiles.len(), first.channels, first.height, first.width];
    let values: Vec<f32> = tiles.iter().flat_map(|tile| tile.data.iter().copied()).collect();
    Some(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
}
