//! Inputs of the model: token ids and images, weakened or not.

use std::sync::Arc;

use bpo_distort::features::{FeatureStage, add_noise, masked_tokens};
use bpo_distort::{DistortError, Distortion, Input, StageSeed};
#[cfg(feature = "dpo")]
use image::RgbImage;

use crate::error::ModelError;
use crate::processor::{ImagePreprocessor, PixelValues, TileGrid};
use crate::vision::TokenGrid;

/// A tokenized prompt and its images.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelInput {
    /// Token ids, with the [placeholders](ImageLayout::placeholder) of the images in their order.
    pub ids: Vec<u32>,
    /// The images of the prompt: none, one or several.
    pub images: Vec<ImageInput>,
}

/// The place of an image in a sequence of tokens. It follows from the size of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageLayout {
    /// Shared, because a data set has many images of one size.
    placeholder: Arc<[u32]>,
    tokens: usize,
    tiles: usize,
    /// The grid in which the features of the image lie.
    grid: Option<Grid>,
}

/// The grid in which the features of an image lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grid {
    Tiles(TileGrid),
    Tokens(TokenGrid),
}

/// An image as the vision tower takes it, with what is done to its features.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ImageInput {
    /// Normalized pixels: the image, or the tiles that it is split into.
    pub tiles: Vec<PixelValues>,
    /// The place of the image in a sequence of tokens.
    pub layout: ImageLayout,
    /// Gaussian noise on the vision features, before the projector: standard deviations, relative
    /// to the standard deviation of the features, and seeds.
    pub noise: Vec<(f32, StageSeed)>,
    /// Indices of tokens of the image that no token attends to, from 0. The positions of the other
    /// tokens stay as they are.
    pub hidden: Vec<usize>,
    /// Shares of the tokens of the image to hide, those with the most attention, each with the decoder
    /// layer in which attention is read (from 0, or from the last one as -1).
    /// [`Vlm::generate`](crate::Vlm::generate) reads it at the last token of the prompt, after everything
    /// else that is done to the images, and hides the tokens before it answers.
    pub attended: Vec<(f32, i32)>,
}

impl ModelInput {
    /// Creates an input.
    pub fn new(ids: Vec<u32>, images: Vec<ImageInput>) -> Self {
        Self { ids, images }
    }

    /// The layouts of the images.
    pub(crate) fn layouts(&self) -> Vec<&ImageLayout> {
        self.images.iter().map(|image| &image.layout).collect()
    }

    /// Positions in the prompt that no token attends to.
    pub(crate) fn hidden_places(&self, image_token: Option<u32>) -> Vec<usize> {
        let places = self.image_places(image_token);
        let of_image = |(image, own): (&ImageInput, Vec<usize>)| {
            image.hidden.iter().filter_map(|token| own.get(*token).copied()).collect::<Vec<_>>()
        };
        self.images.iter().zip(places).flat_map(of_image).collect()
    }

    /// Positions of the tokens of each image in the prompt.
    pub(crate) fn image_places(&self, image_token: Option<u32>) -> Vec<Vec<usize>> {
        let of_images = self.ids.iter().enumerate().filter(|(_, id)| Some(**id) == image_token);
        let mut places = of_images.map(|(place, _)| place);
        self.images.iter().map(|image| places.by_ref().take(image.tokens()).collect()).collect()
    }
}

impl ImageLayout {
    /// Creates the layout of an image whose placeholder consists of `tokens` image tokens.
    pub fn plain(image_token: u32, tokens: usize) -> Self {
        Self::with_placeholder(image_token, vec![image_token; tokens], 1)
    }

    /// Creates a layout whose placeholder also has other tokens. Each `image_token` of it stands for
    /// a row that the projector gives for one of the `tiles` of the image.
    pub fn with_placeholder(image_token: u32, placeholder: Vec<u32>, tiles: usize) -> Self {
        let tokens = placeholder.iter().filter(|id| **id == image_token).count();
        Self { placeholder: placeholder.into(), tokens, tiles, grid: None }
    }

    /// Creates the layout of an image whose features lie in a grid of tiles.
    pub(crate) fn of_tiles(image_token: u32, grid: TileGrid) -> Self {
        let placeholder = vec![image_token; grid.tokens()];
        let layout = Self::with_placeholder(image_token, placeholder, grid.tiles());
        Self { grid: Some(Grid::Tiles(grid)), ..layout }
    }

    /// Creates the layout of an image whose tokens are a grid.
    pub fn of_grid(image_token: u32, grid: TokenGrid) -> Self {
        Self { grid: Some(Grid::Tokens(grid)), ..Self::plain(image_token, grid.tokens()) }
    }

    /// The grid of tiles, in families that split images by their resolution.
    pub(crate) fn tile_grid(&self) -> Option<TileGrid> {
        match self.grid {
            Some(Grid::Tiles(grid)) => Some(grid),
            _ => None,
        }
    }

    /// The grid of the tokens, in families whose images have any size.
    pub fn grid(&self) -> Option<TokenGrid> {
        match self.grid {
            Some(Grid::Tokens(grid)) => Some(grid),
            _ => None,
        }
    }

    /// Number of tiles that the vision tower takes.
    pub fn tiles(&self) -> usize {
        self.tiles
    }

    /// The ids that stand for the image in a prompt: an image token for each of its
    /// [tokens](Self::tokens), and tokens of text around them in some families.
    pub fn placeholder(&self) -> &[u32] {
        &self.placeholder
    }

    /// Number of image tokens: rows that the projector gives for the image.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

impl ImageInput {
    /// Creates the input of an image that is not weakened.
    pub fn new(tiles: Vec<PixelValues>, layout: ImageLayout) -> Self {
        Self { tiles, layout, noise: Vec::new(), hidden: Vec::new(), attended: Vec::new() }
    }

    /// Number of image tokens.
    pub fn tokens(&self) -> usize {
        self.layout.tokens()
    }

    /// Prepares an image and applies a distortion. Distortions of images are applied before the
    /// image processor, noise on normalized pixels after it (as in the authors' code), and
    /// distortions of features are left to the model. Returns `None` for a distortion that takes
    /// the image away.
    ///
    /// # Errors
    /// If the image cannot be distorted or processed; [`DistortError::NeedsOther`] if the
    /// distortion needs another image and there is none.
    pub fn weakened(
        processor: &ImagePreprocessor,
        image: Input<'_>,
        distortion: &Distortion,
        seed: u64,
    ) -> Result<Option<Self>, ModelError> {
        let mut stages = Vec::new();
        for (stage, seed) in distortion.feature_stages(seed)? {
            if matches!(stage, FeatureStage::NoImage) {
                return Ok(None);
            }
            stages.push((stage, seed));
        }
        let mut input = processed(processor, image, distortion, seed)?;
        for (stage, seed) in stages {
            match stage {
                FeatureStage::Noise { sigma } => input.noise.push((sigma, seed)),
                FeatureStage::MaskTokens { share } => {
                    input.hidden.extend(masked_tokens(input.layout.tokens(), share, seed));
                }
                FeatureStage::MaskAttended { share, layer } => input.attended.push((share, layer)),
                // a stage that is not known here
                _ => return Err(DistortError::NeedsModel { family: "feature stage" }.into()),
            }
        }
        input.hidden.sort_unstable();
        input.hidden.dedup();
        Ok(Some(input))
    }

    /// Adds the noise to the features of the image, `[rows, width]`, contiguous.
    pub(crate) fn add_noise(&self, features: &mut [f32]) {
        for (sigma, seed) in &self.noise {
            add_noise(features, *sigma, *seed);
        }
    }
}

/// Prepares an image with the stages of a distortion that work on the image and its pixels.
fn processed(
    processor: &ImagePreprocessor,
    image: Input<'_>,
    distortion: &Distortion,
    seed: u64,
) -> Result<ImageInput, ModelError> {
    let mut input = processor.process(&*distortion.on_image(image, seed)?)?;
    if let [only] = input.tiles.as_mut_slice() {
        distortion.on_pixels(&mut only.data, seed)?;
        return Ok(input);
    }
    // the noise of an image is drawn once for all of its tiles
    let mut values: Vec<f32> = input.tiles.iter().flat_map(|tile| tile.data.iter().copied()).collect();
    distortion.on_pixels(&mut values, seed)?;
    let mut rest = values.as_slice();
    for tile in &mut input.tiles {
        let (own, behind) = rest.split_at(tile.data.len());
        tile.data.copy_from_slice(own);
        rest = behind;
    }
    Ok(input)
}

/// An image after a distortion that works on images and pixels only.
///
/// # Errors
/// Those of [`ImageInput::weakened`] and [`check_weakening`].
#[cfg(feature = "dpo")]
pub(crate) fn weakened_pixels(
    processor: &ImagePreprocessor,
    image: &RgbImage,
    distortion: &Distortion,
    seed: u64,
) -> Result<ImageInput, ModelError> {
    check_weakening(distortion)?;
    processed(processor, image.into(), distortion, seed)
}

/// Checks that a distortion works on a single image and its pixels only.
///
/// # Errors
/// [`DistortError::NeedsModel`] for a distortion of features, [`DistortError::NeedsOther`] for one
/// that takes another image.
#[cfg(feature = "dpo")]
pub(crate) fn check_weakening(distortion: &Distortion) -> Result<(), ModelError> {
    for family in distortion.stages().filter_map(Distortion::family) {
        if family.needs_model() {
            return Err(DistortError::NeedsModel { family: family.name() }.into());
        }
        if family.needs_other() {
            return Err(DistortError::NeedsOther { family: family.name() }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u32 = 9;

    #[test]
    fn hidden_tokens_are_those_of_their_image() {
        let image = |tokens, hidden: &[usize]| ImageInput {
            hidden: hidden.to_vec(),
            ..ImageInput::new(Vec::new(), ImageLayout::plain(IMAGE, tokens))
        };
        let ids = vec![1, IMAGE, IMAGE, 2, IMAGE, 3, IMAGE, IMAGE];
        let input = ModelInput::new(ids.clone(), vec![image(2, &[1]), image(3, &[0, 2, 7])]);
        assert_eq!(input.hidden_places(Some(IMAGE)), [2, 4, 7]);
        assert!(ModelInput::new(vec![1, 2], vec![image(2, &[0])]).hidden_places(Some(IMAGE)).is_empty());
    }
}
