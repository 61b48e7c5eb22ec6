//! From RGB pixels to what the vision tower takes: resize, crop, rescale, normalize.
//!
//! The result equals transformers' `CLIPImageProcessor` with the Pillow backend, which LLaVA was trained with.

use std::path::{Path, PathBuf};

use bpo_distort::resize::{Axis, Filter, for_each_row};
use image::{Rgb, RgbImage};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ProcessorError;
use super::files::read_json;

/// Most pixels of a resized image that no crop bounds (a choice of ours: 800 MB of bytes).
const MAX_PIXELS: usize = 1 << 28;
/// Red, green and blue.
const CHANNELS: usize = 3;

/// How an image that is not square is made to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Aspect {
    /// Resize as the checkpoint says, then crop the middle: what CLIP does, and llava-hf's checkpoints with it.
    #[default]
    ShortestEdgeCrop,
    /// First pad to a square with the mean colour: LLaVA's `image_aspect_ratio = "pad"` (its `expand2square`).
    PadToSquare,
}

/// Pixels as the vision tower takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct PixelValues {
    /// `[channels, height, width]`, rows first.
    pub data: Vec<f32>,
    /// Always 3: red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// What `preprocessor_config.json` says. Missing keys mean what they mean to `CLIPImageProcessor`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Config {
    size: Size,
    crop_size: Size,
    resample: Filter,
    do_resize: bool,
    do_center_crop: bool,
    do_rescale: bool,
    do_normalize: bool,
    do_pad: bool,
    rescale_factor: f64,
    image_mean: [f64; CHANNELS],
    image_std: [f64; CHANNELS],
    image_processor_type: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: Size::Edge(224),
            crop_size: Size::Edge(224),
            resample: Filter::Bicubic,
            do_resize: true,
            do_center_crop: true,
            do_rescale: true,
            do_normalize: true,
            do_pad: false,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
            image_processor_type: String::new(),
        }
    }
}

/// The forms in which a size is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number, [height, width], {shortest_edge} or {height, width}")]
enum Size {
    Edge(usize),
    Pair([usize; 2]),
    Shortest(ShortestEdge),
    Exact(Exact),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShortestEdge {
    shortest_edge: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exact {
    height: usize,
    width: usize,
}

/// What an image is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Shortest(usize),
    Exact { height: usize, width: usize },
}

impl Target {
    /// The size after resizing, `(height, width)`: `get_resize_output_image_size` with `default_to_square=False`.
    fn of(self, height: usize, width: usize) -> (usize, usize) {
        let scaled =
            |edge: usize, long: usize, short: usize| (edge as f64 * long as f64 / short as f64) as usize;
        match self {
            Self::Exact { height, width } => (height, width),
            Self::Shortest(edge) if width <= height => (scaled(edge, height, width), edge),
            Self::Shortest(edge) => (edge, scaled(edge, width, height)),
        }
    }
}

/// Turns images into pixel values as a checkpoint's `preprocessor_config.json` says.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    resize: Option<Target>,
    crop: Option<(usize, usize)>,
    resample: Filter,
    aspect: Aspect,
    background: Rgb<u8>,
    /// The value of each byte, per channel.
    levels: Box<[[f32; 256]; CHANNELS]>,
}

impl ImageProcessor {
    /// Reads `preprocessor_config.json`, or the `image_processor` of `processor_config.json` where that is missing.
    ///
    /// Unknown keys are allowed, since every version of transformers writes others. A `LlavaImageProcessor` with
    /// `do_pad` pads to a square; everything else crops. See [`with_aspect`](Self::with_aspect).
    ///
    /// # Errors
    /// [`ProcessorError::NoImageProcessor`] if neither is there; [`ProcessorError::Read`], [`ProcessorError::Json`] and
    /// [`ProcessorError::Value`] if what is there cannot be used.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        #[derive(Deserialize)]
        struct Nested {
            image_processor: Option<Map<String, Value>>,
        }
        // fast processors write null where they mean the default
        let config = |path: &Path, mut settings: Map<String, Value>| {
            settings.retain(|_, value| !value.is_null());
            serde_json::from_value::<Config>(settings.into())
                .map_err(|source| ProcessorError::Json { path: path.to_owned(), source })
        };
        let dir = dir.as_ref();
        let path = dir.join("preprocessor_config.json");
        if let Some(settings) = read_json(&path)? {
            return Self::new(config(&path, settings)?, path);
        }
        let path = dir.join("processor_config.json");
        match read_json::<Nested>(&path)?.and_then(|nested| nested.image_processor) {
            Some(settings) => Self::new(config(&path, settings)?, path),
            None => Err(ProcessorError::NoImageProcessor { dir: dir.to_owned() }),
        }
    }

    fn new(config: Config, path: PathBuf) -> Result<Self, ProcessorError> {
        let wrong =
            |key, expected, found: String| ProcessorError::Value { path: path.clone(), key, expected, found };
        let target = match config.size {
            Size::Edge(edge) | Size::Shortest(ShortestEdge { shortest_edge: edge }) => Target::Shortest(edge),
            Size::Pair([height, width]) | Size::Exact(Exact { height, width }) => {
                Target::Exact { height, width }
            }
        };
        let crop = match config.crop_size {
            Size::Edge(edge) => (edge, edge),
            Size::Pair([height, width]) | Size::Exact(Exact { height, width }) => (height, width),
            Size::Shortest(edge) => return Err(wrong("crop_size", "height and width", format!("{edge:?}"))),
        };
        let resize = config.do_resize.then_some(target);
        let crop = config.do_center_crop.then_some(crop);
        if matches!(
            resize,
            Some(Target::Shortest(0) | Target::Exact { height: 0, .. } | Target::Exact { width: 0, .. })
        ) {
            return Err(wrong("size", "at least one pixel", format!("{:?}", config.size)));
        }
        if let Some((height, width)) = crop
            && (height == 0 || width == 0 || height.saturating_mul(width) > MAX_PIXELS)
        {
            return Err(wrong(
                "crop_size",
                "at least one pixel and no more than 2^28",
                format!("{height}x{width}"),
            ));
        }
        if config.do_normalize && config.image_std.contains(&0.0) {
            return Err(wrong("image_std", "numbers other than 0", format!("{:?}", config.image_std)));
        }
        let pads = config.do_pad && config.image_processor_type.starts_with("LlavaImageProcessor");
        Ok(Self {
            resize,
            crop,
            resample: config.resample,
            aspect: if pads { Aspect::PadToSquare } else { Aspect::ShortestEdgeCrop },
            background: Rgb(config.image_mean.map(|mean| (mean * 255.0) as u8)),
            levels: levels(&config),
        })
    }

    /// The same with another treatment of images that are not square.
    #[must_use]
    pub fn with_aspect(mut self, aspect: Aspect) -> Self {
        self.aspect = aspect;
        self
    }

    /// How images that are not square are treated.
    #[must_use]
    pub fn aspect(&self) -> Aspect {
        self.aspect
    }

    /// Resizes, crops (with black around an image that is too small), rescales and normalizes.
    ///
    /// # Shapes
    /// - output: `[3, height, width]`, of the checkpoint's `crop_size` unless `do_center_crop` is off
    ///
    /// # Errors
    /// [`ProcessorError::EmptyImage`]; [`ProcessorError::ImageTooLarge`] if nothing is cropped and the resized image
    /// would be huge.
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
            for (plane, levels) in data.chunks_exact_mut(out.0 * out.1).zip(&*self.levels) {
                plane.fill(levels[0]);
            }
        }
        let mut at = rows.offset * out.1 + columns.offset;
        for_each_row(image, &x, &y, self.resample, |pixels| {
            for (channel, levels) in self.levels.iter().enumerate() {
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

/// The part of a direction that a center crop keeps, and where it lies in the result.
struct Window {
    start: usize,
    len: usize,
    offset: usize,
}

impl Window {
    /// `center_crop` of transformers: the spare pixel goes to the end when cropping, to the front when padding.
    fn centered(have: usize, want: usize) -> Self {
        if have >= want {
            Self { start: (have - want) / 2, len: want, offset: 0 }
        } else {
            Self { start: 0, len: have, offset: (want - have).div_ceil(2) }
        }
    }
}

/// What each byte becomes. Rescaled in f64 and rounded to f32, then normalized in f32, as transformers does.
fn levels(config: &Config) -> Box<[[f32; 256]; CHANNELS]> {
    let mut levels = Box::new([[0.0; 256]; CHANNELS]);
    for (channel, levels) in levels.iter_mut().enumerate() {
        let (mean, std) = (config.image_mean[channel] as f32, config.image_std[channel] as f32);
        for (byte, level) in levels.iter_mut().enumerate() {
            *level = byte as f32;
            if config.do_rescale {
                *level = (byte as f64 * config.rescale_factor) as f32;
            }
            if config.do_normalize {
                *level = (*level - mean) / std;
            }
        }
    }
    levels
}

/// LLaVA's `expand2square`: the image in the middle, the spare pixel after it.
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

fn check_pixels((height, width): (usize, usize)) -> Result<(), ProcessorError> {
    if height.saturating_mul(width) > MAX_PIXELS {
        return Err(ProcessorError::ImageTooLarge { width, height, limit: MAX_PIXELS });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(json: &str) -> Result<ImageProcessor, ProcessorError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("preprocessor_config.json"), json).unwrap();
        ImageProcessor::from_dir(dir.path())
    }

    /// Bytes in, bytes out.
    fn raw(rest: &str) -> ImageProcessor {
        processor(&format!(r#"{{"do_rescale": false, "do_normalize": false, {rest}}}"#)).unwrap()
    }

    #[test]
    fn sizes_are_read_in_every_form() {
        let targets = [
            ("336", Target::Shortest(336)),
            (r#"{"shortest_edge": 24}"#, Target::Shortest(24)),
            ("[3, 4]", Target::Exact { height: 3, width: 4 }),
            (r#"{"width": 4, "height": 3}"#, Target::Exact { height: 3, width: 4 }),
        ];
        for (text, target) in targets {
            let read = processor(&format!(r#"{{"size": {text}, "some_new_key": 1}}"#)).unwrap();
            assert_eq!(read.resize, Some(target), "{text}");
        }
        assert_eq!(processor(r#"{"crop_size": 30}"#).unwrap().crop, Some((30, 30)));
        assert_eq!(processor(r#"{"do_center_crop": false}"#).unwrap().crop, None);
    }

    #[test]
    fn values_that_cannot_be_used_are_refused() {
        for text in [
            r#"{"size": {"shortest_edge": 0}}"#,
            r#"{"crop_size": {"shortest_edge": 8}}"#,
            r#"{"crop_size": 0}"#,
            r#"{"image_std": [1, 0, 1]}"#,
        ] {
            assert!(matches!(processor(text), Err(ProcessorError::Value { .. })), "{text}");
        }
        for text in
            [r#"{"resample": 9}"#, r#"{"size": {"longest_edge": 8}}"#, r#"{"size": -1}"#, r#"{"size": 3"#]
        {
            let error = processor(text).unwrap_err();
            assert!(matches!(error, ProcessorError::Json { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_directory_without_configs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = ImageProcessor::from_dir(dir.path()).unwrap_err();
        assert!(matches!(&error, ProcessorError::NoImageProcessor { dir: d } if d == dir.path()));
        std::fs::write(dir.path().join("processor_config.json"), r#"{"image_processor": {"crop_size": 5}}"#)
            .unwrap();
        assert_eq!(ImageProcessor::from_dir(dir.path()).unwrap().crop, Some((5, 5)));
    }

    #[test]
    fn the_long_side_is_truncated() {
        assert_eq!(Target::Shortest(336).of(481, 640), (336, 447));
        assert_eq!(Target::Shortest(336).of(640, 481), (447, 336));
        assert_eq!(Target::Shortest(10).of(7, 7), (10, 10));
    }

    #[test]
    fn a_small_image_is_padded_with_black() {
        let image = RgbImage::from_pixel(2, 3, Rgb([9, 8, 7]));
        let out = raw(r#""do_resize": false, "crop_size": [4, 5]"#).process(&image).unwrap();
        assert_eq!((out.channels, out.height, out.width), (3, 4, 5));
        let mut red = [0.0; 20];
        for row in 1..4 {
            red[row * 5 + 2..row * 5 + 4].fill(9.0);
        }
        assert_eq!(out.data[..20], red);
    }

    #[test]
    fn padding_to_a_square_uses_the_mean_colour() {
        let image = RgbImage::from_pixel(1, 4, Rgb([200, 100, 50]));
        let plain = raw(r#""do_resize": false, "do_center_crop": false, "image_mean": [0.5, 0.1, 0.999]"#);
        let out = plain.with_aspect(Aspect::PadToSquare).process(&image).unwrap();
        assert_eq!((out.height, out.width), (4, 4));
        assert_eq!(out.data[..4], [127.0, 200.0, 127.0, 127.0]);
        assert_eq!(out.data[16..20], [25.0, 100.0, 25.0, 25.0]);
        assert_eq!(out.data[32..36], [254.0, 50.0, 254.0, 254.0]);
    }

    #[test]
    fn llavas_own_processor_pads() {
        let padding =
            processor(r#"{"image_processor_type": "LlavaImageProcessor", "do_pad": true}"#).unwrap();
        assert_eq!(padding.aspect(), Aspect::PadToSquare);
        assert_eq!(processor(r#"{"do_pad": true}"#).unwrap().aspect(), Aspect::ShortestEdgeCrop);
    }

    #[test]
    fn images_without_pixels_and_huge_results_are_refused() {
        let plain = processor("{}").unwrap();
        assert!(matches!(
            plain.process(&RgbImage::new(0, 4)),
            Err(ProcessorError::EmptyImage { width: 0, height: 4 })
        ));
        // Cropped, only the middle is computed; uncropped it would be 4000 x 16,000,000 pixels.
        let thin = RgbImage::from_pixel(1, 4000, Rgb([1, 2, 3]));
        assert_eq!(plain.process(&thin).unwrap().height, 224);
        let uncropped = processor(r#"{"size": 4000, "do_center_crop": false}"#).unwrap();
        assert!(matches!(uncropped.process(&thin), Err(ProcessorError::ImageTooLarge { width: 4000, .. })));
    }
}
