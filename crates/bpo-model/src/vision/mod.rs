//! Vision towers.

mod clip;
mod config;
mod encoder;
mod idefics3;
mod internvl;
mod patches;
mod qwen;
mod siglip;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

pub use clip::ClipVision;
pub use config::{VitConfig, VitKind};
pub use idefics3::Idefics3Vision;
pub use internvl::{InternVlNorm, InternVlVision, InternVlVisionConfig};
pub(crate) use qwen::EPSILON as QWEN_EPSILON;
pub use qwen::{QwenVision, QwenVisionConfig, TokenGrid, WindowConfig};
pub use siglip::SiglipVision;

use crate::checkpoint::WeightLoader;
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
    /// SigLIP's.
    Siglip(SiglipVision),
    /// Idefics3's.
    Idefics3(Idefics3Vision),
    /// Qwen-VL's.
    Qwen(QwenVision),
    /// InternVL's.
    InternVl(InternVlVision),
}

module_enum!(VisionTower { Clip, Siglip, Idefics3, Qwen, InternVl });

/// The hidden states of a vision transformer that become image features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FeatureStates {
    /// The states that are concatenated, as numbers of layers that have run.
    pub(crate) layers: Vec<usize>,
    /// Whether the first token, CLIP's class token, is dropped.
    pub(crate) drops_first: bool,
}

impl FeatureStates {
    /// Number of layers that run.
    pub(crate) fn layers_run(&self) -> usize {
        self.layers.iter().copied().max().unwrap_or(0)
    }

    /// Drops the first token if it is not part of the features: `[images, tokens, width]`.
    fn selected(&self, states: Tensor<3>) -> Tensor<3> {
        let tokens = states.dims()[1];
        if self.drops_first { states.narrow(1, 1, tokens - 1) } else { states }
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TowerTokens {
    /// Of every tile.
    PerTile(usize),
    /// Of every image token, in towers that take images or tiles of any size.
    PerImageToken(usize),
}

impl VisionTower {
    /// Loads a vision transformer that gives the chosen hidden states.
    pub(crate) fn load(weights: &mut WeightLoader, vision: &VitConfig, features: FeatureStates) -> Self {
        match vision.model_type {
            VitKind::Clip => Self::Clip(ClipVision::load(weights, vision, features)),
            VitKind::Siglip => Self::Siglip(SiglipVision::load(weights, vision, features)),
        }
    }

    /// The linears of all layers.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let linears: Box<dyn Iterator<Item = &mut Linear>> = match self {
            Self::Clip(tower) => Box::new(tower.linears_mut()),
            Self::Siglip(tower) => Box::new(tower.linears_mut()),
            Self::Idefics3(tower) => Box::new(tower.linears_mut()),
            Self::Qwen(tower) => Box::new(tower.linears_mut()),
            Self::InternVl(tower) => Box::new(tower.linears_mut()),
        };
        linears
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
            Self::Siglip(tower) => {
                of_tiles(images, device, |pixels| tower.forward(pixels.cast(dtype), adapters))
            }
            Self::Idefics3(tower) => {
                of_tiles(images, device, |pixels| tower.forward(pixels.cast(dtype), adapters))
            }
            Self::InternVl(tower) => {
                of_tiles(images, device, |pixels| tower.forward(pixels.cast(dtype), adapters))
            }
        }
    }
}

/// Most values of pixels that a vision tower takes at a time (10 tiles of 512 x 512 pixels). An image
/// may have many tiles, and the tower's memory grows with their number.
const PIXELS_AT_A_TIME: usize = 8 << 20;

/// Computes the features of images whose tiles all have one size. `forward` maps pixels `[tiles,
/// channels, height, width]` to features `[tiles, tokens, width]`.
fn of_tiles(
    images: &[&ImageInput],
    device: &Device,
    forward: impl Fn(Tensor<4>) -> Tensor<3>,
) -> Option<PackedFeatures> {
    let tiles: Vec<_> = images.iter().flat_map(|image| &image.tiles).collect();
    let at_a_time = PIXELS_AT_A_TIME / tiles.first()?.data.len().max(1);
    let pixels = tiles.chunks(at_a_time.max(1)).filter_map(|tiles| pixel_tensor(tiles, device));
    let features = Tensor::cat(pixels.map(forward).collect(), 0);
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
