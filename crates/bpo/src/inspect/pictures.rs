//! Small copies of images, clean and weakened, for a gallery.

use std::collections::HashMap;
use std::path::PathBuf;

use bpo_distort::features::FeatureStage;
use bpo_distort::resize::{Filter, resize};
use bpo_distort::{DistortError, Distortion, Input, encode_jpeg};
use bpo_pairs::files::write_bytes;
use bpo_pairs::{PreferencePair, Provenance, chain};
use image::RgbImage;

use crate::error::BpoError;
use crate::images::ImageRoot;
use crate::stages::weakening_seed;

/// Longest side of a copy in pixels. Vision towers take images of a similar size, so noise is as
/// visible as for a model.
const SIDE: u32 = 336;
/// libjpeg's quality of the copies.
const QUALITY: u8 = 85;
/// Mean and standard deviation of CLIP's normalization, per channel.
const CLIP: [(f32, f32); 3] =
    [(0.481_454_66, 0.268_629_54), (0.457_827_5, 0.261_302_6), (0.408_210_73, 0.275_777_1)];

/// The name of a copy in the directory of the gallery, or the reason why there is none.
pub(super) type Picture = Result<String, String>;

/// Writes the copies.
pub(super) struct Pictures<'a> {
    root: &'a ImageRoot,
    /// Seed of the run that made the pairs.
    seed: u64,
    dir: PathBuf,
    /// Copies of clean images, by the names of the images.
    clean: HashMap<String, Picture>,
    written: usize,
}

impl<'a> Pictures<'a> {
    /// Writes copies into `dir`.
    pub(super) fn new(root: &'a ImageRoot, seed: u64, dir: PathBuf) -> Self {
        Self { root, seed, dir, clean: HashMap::new(), written: 0 }
    }

    /// Writes the copies of images as they are.
    ///
    /// # Errors
    /// Returns the errors of [`of`](Self::of).
    pub(super) fn clean(&mut self, names: &[String]) -> Result<Vec<Picture>, BpoError> {
        let mut clean = Vec::with_capacity(names.len());
        for name in names {
            if !self.clean.contains_key(name) {
                let copy = match self.load(name)? {
                    Ok(image) => self.write(&shrink(&image))?,
                    Err(reason) => Err(reason),
                };
                self.clean.insert(name.clone(), copy);
            }
            clean.push(self.clean[name].clone());
        }
        Ok(clean)
    }

    /// Writes the copies of the images of a pair. Returns the clean ones, and the weakened ones if
    /// the rejected answer is about weakened images.
    ///
    /// # Errors
    /// Returns an error if the image root is gone or a copy cannot be written. Any other fault of an
    /// image is the reason of a [`Picture`].
    pub(super) fn of(&mut self, pair: &PreferencePair) -> Result<(Vec<Picture>, Vec<Picture>), BpoError> {
        let clean = self.clean(&pair.images)?;
        let mut weakened = Vec::new();
        // an answer with injected errors has a provenance without a distortion
        if let Some(provenance) = pair.provenance.as_ref().filter(|from| !from.distortion.is_empty()) {
            for (place, name) in pair.images.iter().enumerate() {
                let seed = weakening_seed(self.seed, sample_of(&pair.id), provenance.variant, place);
                weakened.push(self.weakened(name, provenance, seed)?);
            }
        }
        Ok((clean, weakened))
    }

    fn weakened(&mut self, name: &str, provenance: &Provenance, seed: u64) -> Result<Picture, BpoError> {
        let distortion: Distortion = match provenance.distortion.parse() {
            Ok(distortion) => distortion,
            Err(error) => return Ok(Err(chain(&error))),
        };
        let takes_image_away = distortion
            .feature_stages(seed)
            .map(|mut stages| stages.any(|(stage, _)| matches!(stage, FeatureStage::NoImage)));
        match takes_image_away {
            Ok(true) => return Ok(Err("the model answered without the image".to_owned())),
            Ok(false) => {}
            Err(error) => return Ok(Err(chain(&error))),
        }
        let image = match self.load(name)? {
            Ok(image) => image,
            Err(reason) => return Ok(Err(reason)),
        };
        let other = match &provenance.other {
            None => None,
            Some(other) => match self.load(other)? {
                Ok(image) => Some(image),
                Err(reason) => return Ok(Err(reason)),
            },
        };
        let input = other.iter().fold(Input::new(&image), |input, other| input.with_other(other));
        match weaken(&distortion, input, seed) {
            Ok(image) => self.write(&image),
            Err(error) => Ok(Err(chain(&error))),
        }
    }

    fn load(&self, name: &str) -> Result<Result<RgbImage, String>, BpoError> {
        match self.root.load(name) {
            Ok(image) => Ok(Ok(image)),
            Err(error) if error.reason().is_none() => Err(error.into()),
            Err(error) => Ok(Err(chain(&error))),
        }
    }

    fn write(&mut self, image: &RgbImage) -> Result<Picture, BpoError> {
        let bytes = match encode_jpeg(image, QUALITY) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(chain(&error))),
        };
        let name = format!("image-{}.jpg", self.written);
        write_bytes(&self.dir.join(&name), &bytes)?;
        self.written += 1;
        Ok(Ok(name))
    }
}

/// Returns the id of the sample of a pair, whose id is `{sample}:{i}>{j}`. Pairs from elsewhere have
/// other ids, which are those of their samples.
fn sample_of(pair: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match pair.rsplit_once(':') {
        Some((sample, places))
            if places.split_once('>').is_some_and(|(i, j)| is_number(i) && is_number(j)) =>
        {
            sample
        }
        _ => pair,
    }
}

/// Weakens an image as a model does before its vision tower: stages of images on the whole image,
/// and noise on the pixels that are normalized after the resize. Stages of features are left out.
fn weaken(distortion: &Distortion, input: Input<'_>, seed: u64) -> Result<RgbImage, DistortError> {
    let mut image = shrink(&*distortion.on_image(input, seed)?);
    let normalize =
        |(level, (mean, deviation)): (&u8, &(f32, f32))| (f32::from(*level) / 255.0 - mean) / deviation;
    let mut pixels: Vec<f32> = image.as_raw().iter().zip(CLIP.iter().cycle()).map(normalize).collect();
    distortion.on_pixels(&mut pixels, seed)?;
    for ((level, pixel), (mean, deviation)) in image.iter_mut().zip(pixels).zip(CLIP.iter().cycle()) {
        // clamped: noise leads out of the range of levels
        *level = ((pixel * deviation + mean) * 255.0).round().clamp(0.0, 255.0) as u8;
    }
    Ok(image)
}

/// Shrinks an image to [`SIDE`]. A smaller one is unchanged.
fn shrink(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    if longest <= SIDE {
        return image.clone();
    }
    let scaled = |side: u32| (u64::from(side) * u64::from(SIDE)).div_ceil(u64::from(longest)).max(1) as u32;
    resize(image, scaled(width), scaled(height), Filter::Bicubic)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn samples_are_found_in_ids_of_pairs() {
        assert_eq!(sample_of("cat:0>2"), "cat");
        assert_eq!(sample_of("a:b:10>2"), "a:b");
        for id in ["cat", "cat:1", "cat:>2", "cat:0>x"] {
            assert_eq!(sample_of(id), id);
        }
    }

    #[test]
    fn copies_are_small_and_keep_their_shape() {
        let wide = RgbImage::from_pixel(2000, 3, Rgb([9, 9, 9]));
        assert_eq!(shrink(&wide).dimensions(), (SIDE, 1));
        let small = RgbImage::from_pixel(20, 30, Rgb([9, 9, 9]));
        assert_eq!(shrink(&small), small);
    }

    #[test]
    fn noise_is_seen_in_the_copy() {
        let image = RgbImage::from_fn(600, 400, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 90]));
        let weakened = |text: &str| weaken(&text.parse().unwrap(), Input::new(&image), 7).unwrap();
        let difference = |weakened: &RgbImage| -> u64 {
            shrink(&image).iter().zip(weakened.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum()
        };
        let (little, much) = (weakened("diffusion-noise:step=200"), weakened("diffusion-noise:step=900"));
        assert!(0 < difference(&little) && difference(&little) < difference(&much));
        // without a stage before the model's features, only rounding could differ
        assert_eq!(difference(&weakened("mask-tokens:share=0.9")), 0);
    }
}
