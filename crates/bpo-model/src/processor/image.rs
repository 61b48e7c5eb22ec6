//! The image processor: resizes, crops, rescales and normalizes RGB images for the vision tower.
//!
//! The results equal those of `CLIPImageProcessor` and `SiglipImageProcessor` of transformers with the
//! Pillow backend (`models/clip/image_processing_pil_clip.py` and
//! `models/siglip/image_processing_pil_siglip.py`), which LLaVA was trained with.

mod settings;
mod split;

use std::ops::Range;
use std::path::Path;

use bpo_distort::resize::{Axis, Filter, for_each_row};
use image::{Rgb, RgbImage};
use serde_json::Value;

use super::ProcessorError;
use super::image_files::{ImageFile, check_std, first_settings, image_settings};
use crate::json::from_value;
use settings::{Config, Exact, Size, Target, base_class, with_defaults};

/// Most pixels of a resized image without a crop (our choice: 800 MB of bytes).
const MAX_PIXELS: usize = bpo_pairs::Limits::DEFAULT.resized_pixels;
/// Red, green and blue.
const CHANNELS: usize = 3;

/// How an image that is not square is fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aspect {
    /// Resize as the checkpoint says, then crop the middle, as CLIP and the checkpoints of llava-hf
    /// do.
    #[default]
    ShortestEdgeCrop,
    /// Pad to a square with the mean colour first: LLaVA's `image_aspect_ratio = "pad"` (its
    /// `expand2square`).
    PadToSquare,
}

/// Normalized pixels of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    /// Values, `[channels, height, width]`, row by row.
    pub data: Vec<f32>,
    /// Always 3: red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// Converts images to pixel values, with the settings in a checkpoint's `processor_config.json` or
/// `preprocessor_config.json`.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    resize: Option<Target>,
    /// Height and width of the square that `size` asks for, or of its exact size.
    size: [usize; 2],
    crop: Option<(usize, usize)>,
    resample: Filter,
    aspect: Aspect,
    background: Rgb<u8>,
    levels: Levels,
}

/// The value of each byte, per channel: rescaled in f64 and rounded to f32, then normalized in f32,
/// as in transformers.
#[derive(Clone, Debug)]
pub(crate) struct Levels(Box<[[f32; 256]; CHANNELS]>);

impl Levels {
    /// Computes the values of bytes that are multiplied with `rescale`, then normalized with a mean
    /// and a standard deviation.
    pub(crate) fn new(rescale: Option<f64>, normalize: Option<([f64; CHANNELS], [f64; CHANNELS])>) -> Self {
        let mut levels = Box::new([[0.0; 256]; CHANNELS]);
        for (channel, levels) in levels.iter_mut().enumerate() {
            for (byte, level) in levels.iter_mut().enumerate() {
                *level = rescale.map_or(byte as f32, |factor| (byte as f64 * factor) as f32);
                if let Some((mean, std)) = normalize {
                    *level = (*level - mean[channel] as f32) / std[channel] as f32;
                }
            }
        }
        Self(levels)
    }

    /// The values of a rectangle of an image.
    pub(crate) fn pixels(&self, image: &RgbImage, rows: Range<usize>, columns: Range<usize>) -> PixelValues {
        let (height, width) = (rows.len(), columns.len());
        let mut data = vec![0.0; CHANNELS * height * width];
        let stride = image.width() as usize;
        let (pixels, _) = image.as_raw().as_chunks::<CHANNELS>();
        for (plane, (channel, levels)) in
            data.chunks_exact_mut((height * width).max(1)).zip(self.0.iter().enumerate())
        {
            for (values, row) in plane.chunks_exact_mut(width).zip(rows.clone()) {
                let pixels = &pixels[row * stride + columns.start..row * stride + columns.end];
                values
                    .iter_mut()
                    .zip(pixels)
                    .for_each(|(value, pixel)| *value = levels[usize::from(pixel[channel])]);
            }
        }
        PixelValues { data, channels: CHANNELS, height, width }
    }
}

impl ImageProcessor {
    /// Reads the `image_processor` of `processor_config.json`, or `preprocessor_config.json` where
    /// there is none. A warning says where both exist and differ.
    ///
    /// Unknown keys are ignored, because they differ between versions of transformers. A
    /// `LlavaImageProcessor` with `do_pad` pads to a square; all others crop; see
    /// [`aspect`](Self::aspect).
    ///
    /// # Errors
    /// [`ProcessorError::NoImageProcessor`] if neither is there; [`ProcessorError::Json`] if what
    /// is there cannot be used.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        Self::of_class(dir.as_ref(), "CLIPImageProcessor")
    }

    /// Reads the settings as [`from_dir`](Self::from_dir) does. `class` is the class of the image
    /// processor where the files name none.
    ///
    /// # Errors
    /// Those of [`from_dir`](Self::from_dir).
    pub(crate) fn of_class(dir: &Path, class: &str) -> Result<Self, ProcessorError> {
        let read = |settings, file: &ImageFile| {
            from_value::<Config>(&with_defaults(settings, class), &file.path, file.at)
        };
        let (config, file) = first_settings(dir, read, Config::differences)?;
        Self::new(config, &file)
    }

    fn new(config: Config, file: &ImageFile) -> Result<Self, ProcessorError> {
        let target = Target::from(config.size);
        let crop = match config.crop_size {
            Size::Edge(edge) => (edge, edge),
            Size::Pair([height, width]) | Size::Exact(Exact { height, width }) => (height, width),
            Size::Shortest(size) => {
                let found = format!("{{\"shortest_edge\":{}}}", size.shortest_edge);
                return Err(file.wrong("crop_size", "height and width", found));
            }
        };
        let resize = config.do_resize.then_some(target);
        let crop = config.do_center_crop.then_some(crop);
        if matches!(
            resize,
            Some(Target::Shortest(0) | Target::Exact { height: 0, .. } | Target::Exact { width: 0, .. })
        ) {
            let found = match target {
                Target::Shortest(edge) => edge.to_string(),
                Target::Exact { height, width } => format!("a height of {height} and a width of {width}"),
            };
            return Err(file.wrong("size", "at least one pixel", found));
        }
        if let Some((height, width)) = crop
            && (height == 0 || width == 0 || height.saturating_mul(width) > MAX_PIXELS)
        {
            return Err(file.wrong(
                "crop_size",
                "at least one pixel and no more than 2^28",
                format!("a height of {height} and a width of {width}"),
            ));
        }
        if config.do_normalize {
            check_std(file, &config.image_std)?;
        }
        Ok(Self {
            resize,
            size: target.square(),
            crop,
            resample: config.resample,
            aspect: if config.pads() { Aspect::PadToSquare } else { Aspect::ShortestEdgeCrop },
            background: Rgb(config.image_mean.map(|mean| (mean * 255.0) as u8)),
            levels: Levels::new(
                config.rescale(),
                config.do_normalize.then_some((config.image_mean, config.image_std)),
            ),
        })
    }

    /// Sets how images that are not square are fitted.
    pub(crate) fn with_aspect(mut self, aspect: Aspect) -> Self {
        self.aspect = aspect;
        self
    }

    /// How images that are not square are fitted.
    #[must_use]
    pub fn aspect(&self) -> Aspect {
        self.aspect
    }

    /// Resizes, crops (with black around an image that is too small), rescales and normalizes an
    /// image.
    ///
    /// # Shapes
    /// - output: `[3, height, width]`, of the `crop_size` unless `do_center_crop` is off
    ///
    /// # Errors
    /// [`ProcessorError::EmptyImage`]; [`ProcessorError::ImageTooLarge`] if there is no crop and
    /// the resized image has too many pixels.
    pub fn process(&self, image: &RgbImage) -> Result<PixelValues, ProcessorError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(ProcessorError::EmptyImage { width, height });
        }
        if self.aspect == Aspect::PadToSquare && width != height {
            return self.fit(&pad_to_square(image, self.background)?);
        }
        self.fit(image)
    }

    fn fit(&self, image: &RgbImage) -> Result<PixelValues, ProcessorError> {
        let from = (image.height() as usize, image.width() as usize);
        let to = self.resize.map_or(from, |target| target.of(from.0, from.1));
        let out = self.crop.unwrap_or(to);
        check_pixels(out)?;
        let (rows, columns) = (Window::centered(to.0, out.0), Window::centered(to.1, out.1));
        let x = Axis { to: to.1, keep: columns.start..columns.start + columns.len };
        let y = Axis { to: to.0, keep: rows.start..rows.start + rows.len };

        let mut data = vec![0.0; CHANNELS * out.0 * out.1];
        if (rows.len, columns.len) != out {
            for (plane, levels) in data.chunks_exact_mut(out.0 * out.1).zip(&*self.levels.0) {
                plane.fill(levels[0]);
            }
        }
        let mut at = rows.offset * out.1 + columns.offset;
        for_each_row(image, &x, &y, self.resample, |pixels| {
            for (channel, levels) in self.levels.0.iter().enumerate() {
                let row = &mut data[channel * out.0 * out.1 + at..];
                for (value, pixel) in row.iter_mut().zip(pixels) {
                    *value = levels[usize::from(pixel[channel])];
                }
            }
            at += out.1;
        });
        Ok(PixelValues { data, channels: CHANNELS, height: out.0, width: out.1 })
    }
}

/// The part of a dimension that a center crop keeps, and its place in the result.
struct Window {
    start: usize,
    len: usize,
    offset: usize,
}

impl Window {
    /// `center_crop` of transformers: the odd pixel is at the end when cropping, and in front when
    /// padding.
    fn centered(have: usize, want: usize) -> Self {
        if have >= want {
            Self { start: (have - want) / 2, len: want, offset: 0 }
        } else {
            Self { start: 0, len: have, offset: (want - have).div_ceil(2) }
        }
    }
}

/// Pads as LLaVA's `expand2square` does: the image is in the middle, and the odd pixel after it.
fn pad_to_square(image: &RgbImage, background: Rgb<u8>) -> Result<RgbImage, ProcessorError> {
    let (width, height) = image.dimensions();
    let side = width.max(height);
    check_pixels((side as usize, side as usize))?;
    let mut square = RgbImage::from_pixel(side, side, background);
    image::imageops::replace(
        &mut square,
        image,
        i64::from((side - width) / 2),
        i64::from((side - height) / 2),
    );
    Ok(square)
}

/// Refuses image processors of other classes than the `known` ones, which would prepare images in
/// another way.
///
/// # Errors
/// [`ProcessorError::Json`].
pub(crate) fn check_class(dir: &Path, known: &[&str]) -> Result<(), ProcessorError> {
    const KEY: &str = "image_processor_type";
    let Some((file, settings)) = image_settings(dir)?.into_iter().next() else { return Ok(()) };
    let Some(found) = settings.get(KEY).and_then(Value::as_str) else { return Ok(()) };
    if known.contains(&base_class(found)) {
        return Ok(());
    }
    Err(file.wrong(KEY, &known.join(", "), found))
}

/// Refuses a size with too many pixels, given as height and width.
pub(crate) fn check_pixels((height, width): (usize, usize)) -> Result<(), ProcessorError> {
    if height.saturating_mul(width) > MAX_PIXELS {
        return Err(ProcessorError::ImageTooLarge { width, height, limit: MAX_PIXELS });
    }
    Ok(())
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
