//! The settings of an image processor in the files of a checkpoint.

use bpo_distort::resize::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::CHANNELS;

/// The settings of a checkpoint. Missing keys have the defaults of `CLIPImageProcessor`; see also
/// [`with_defaults`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) size: Size,
    pub(super) crop_size: Size,
    pub(super) resample: Filter,
    pub(super) do_resize: bool,
    pub(super) do_center_crop: bool,
    pub(super) do_rescale: bool,
    pub(super) do_normalize: bool,
    pub(super) do_pad: bool,
    pub(super) rescale_factor: f64,
    pub(super) image_mean: [f64; CHANNELS],
    pub(super) image_std: [f64; CHANNELS],
    pub(super) image_processor_type: String,
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

/// Adds the keys that a file leaves out where the class of the image processor has other defaults than
/// CLIP's. `class` is the class where the file names none.
///
/// Those of SigLIP and LLaVA-OneVision resize to an exact size and do not crop.
pub(super) fn with_defaults(mut settings: Value, class: &str) -> Value {
    let class = settings.get("image_processor_type").and_then(Value::as_str).unwrap_or(class);
    let defaults = match base_class(class) {
        "SiglipImageProcessor" => vec![
            ("size", json!({"height": 224, "width": 224})),
            ("do_center_crop", json!(false)),
            ("image_mean", json!([0.5, 0.5, 0.5])),
            ("image_std", json!([0.5, 0.5, 0.5])),
        ],
        "LlavaOnevisionImageProcessor" => {
            vec![("size", json!({"height": 384, "width": 384})), ("do_center_crop", json!(false))]
        }
        _ => Vec::new(),
    };
    for (key, default) in defaults {
        if let Some(settings) = settings.as_object_mut() {
            settings.entry(key).or_insert(default);
        }
    }
    settings
}

/// The name of a class of image processors without the library that computes it.
pub(super) fn base_class(class: &str) -> &str {
    ["Fast", "Pil"].iter().find_map(|end| class.strip_suffix(end)).unwrap_or(class)
}

/// The forms of a size.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a number, [height, width], {shortest_edge} or {height, width}")]
pub(super) enum Size {
    Edge(usize),
    Pair([usize; 2]),
    Shortest(ShortestEdge),
    Exact(Exact),
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShortestEdge {
    pub(super) shortest_edge: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exact {
    pub(super) height: usize,
    pub(super) width: usize,
}

/// The size that an image is resized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Shortest(usize),
    Exact { height: usize, width: usize },
}

impl From<Size> for Target {
    fn from(size: Size) -> Self {
        match size {
            Size::Edge(edge) | Size::Shortest(ShortestEdge { shortest_edge: edge }) => Self::Shortest(edge),
            Size::Pair([height, width]) | Size::Exact(Exact { height, width }) => {
                Self::Exact { height, width }
            }
        }
    }
}

impl Target {
    /// The size after resizing, `(height, width)`: `get_resize_output_image_size` with
    /// `default_to_square=False`.
    pub(super) fn of(self, height: usize, width: usize) -> (usize, usize) {
        let scaled =
            |edge: usize, long: usize, short: usize| (edge as f64 * long as f64 / short as f64) as usize;
        match self {
            Self::Exact { height, width } => (height, width),
            Self::Shortest(edge) if width <= height => (scaled(edge, height, width), edge),
            Self::Shortest(edge) => (edge, scaled(edge, width, height)),
        }
    }

    /// Height and width of the result for a square.
    pub(super) fn square(self) -> [usize; 2] {
        match self {
            Self::Exact { height, width } => [height, width],
            Self::Shortest(edge) => [edge, edge],
        }
    }
}

impl Config {
    /// The keys whose values differ.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let target = |config: &Self| config.do_resize.then(|| Target::from(config.size));
        // a crop size of one number is a square
        let crop = |config: &Self| {
            config.do_center_crop.then_some(match config.crop_size {
                Size::Edge(edge) | Size::Shortest(ShortestEdge { shortest_edge: edge }) => (edge, edge),
                Size::Pair([height, width]) | Size::Exact(Exact { height, width }) => (height, width),
            })
        };
        let keys = [
            ("size", target(self) != target(other)),
            ("crop_size", crop(self) != crop(other)),
            ("resample", self.resample != other.resample),
            ("rescale_factor", self.rescale() != other.rescale()),
            ("image_mean", self.image_mean != other.image_mean),
            ("image_std", self.image_std != other.image_std),
            ("do_normalize", self.do_normalize != other.do_normalize),
            ("do_pad", self.pads() != other.pads()),
        ];
        keys.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key).collect()
    }

    pub(super) fn rescale(&self) -> Option<f64> {
        self.do_rescale.then_some(self.rescale_factor)
    }

    pub(super) fn pads(&self) -> bool {
        self.do_pad && self.image_processor_type.starts_with("LlavaImageProcessor")
    }
}
