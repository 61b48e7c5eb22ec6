//! The sections `[model]`, `[data]`, `[reference]` and `[conditional]`.

use std::path::PathBuf;

use bpo_distort::{DiffusionNoise, Distortion, ImageLimits, diffusion};
use serde::{Deserialize, Serialize};

use super::Distortions;
use super::affects::Affects;
use crate::device::Dtype;
use crate::stage::Stage;

/// `[model]`: the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelSection {
    /// Hugging Face directory of a supported model. The command `bpo` also takes the name of a model
    /// on the Hugging Face Hub, `org/name` or `org/name@revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// PEFT adapter of the model. Default: none.
    ///
    /// The model answers with this adapter, training continues it, and the reference is the model
    /// with the adapter, as in TRL. Rank, scale and target modules are those of the adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Data type of weights and activations. Default: f32 (ours; the authors train in bf16). With
    /// another type, `train.initial_tolerance` defaults to
    /// [`HALF_PRECISION_TOLERANCE`](super::HALF_PRECISION_TOLERANCE).
    pub dtype: Dtype,
    /// Maximum sequence length for training, in tokens, including image features. Default: the
    /// context of the model, `max_position_embeddings` in its `config.json`, which is also the upper
    /// limit. Pairs with a longer sequence are skipped. A batch is as long as its longest sequence,
    /// so only long data takes more memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Whether the backward pass recomputes each layer of the language model. This needs less
    /// memory and more time, and gives the same results. Default: false.
    pub gradient_checkpointing: bool,
}

impl ModelSection {
    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[
        // inputs, compared by content
        ("path", &[]),
        ("adapter", &[]),
        ("dtype", &[Stage::Weaken, Stage::Judge, Stage::Inject, Stage::Train]),
        ("max_length", &[Stage::Train]),
        ("gradient_checkpointing", &[]),
    ];
}

impl Default for ModelSection {
    fn default() -> Self {
        Self { path: None, adapter: None, dtype: Dtype::F32, max_length: None, gradient_checkpointing: false }
    }
}

/// `[data]`: the annotated data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DataSection {
    /// LLaVA's visual-instruction JSON file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Image root: the directory that image paths are relative to. Paths that lead out of it are
    /// rejected.
    ///
    /// A run continues after the directory was moved if the images of the data, or of the pairs,
    /// have the same names and sizes there. Their content is not compared, and images that change
    /// without being moved are not noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Pairs to evaluate on during training, as JSON lines or in the JSON format of the authors.
    /// They are added to those that `train.eval_fraction` holds out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_pairs: Option<PathBuf>,
    /// Limits on image files.
    pub limits: ImageLimits,
    /// The choice of frames of videos.
    pub video: VideoSection,
}

/// `[data.video]`: the frames of videos. A video is a folder of frames, or an animated GIF, WebP or
/// PNG file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VideoSection {
    /// Frames per second of an animated file. Default: that of the checkpoint's video processor,
    /// else 2. The frames of a folder have no time, so only `max_frames` applies to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Maximum number of frames of a video. Default: that of the checkpoint's video processor, else
    /// 8. They are spread evenly over the video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frames: Option<usize>,
}

impl DataSection {
    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[
        // inputs, compared by content, and images by path or by names and sizes
        ("path", &[]),
        ("images", &[Stage::Weaken, Stage::Judge, Stage::Train]),
        ("eval_pairs", &[]),
        ("limits", &[Stage::Weaken, Stage::Judge, Stage::Train]),
        ("video", &[Stage::Weaken, Stage::Judge, Stage::Inject, Stage::Train]),
    ];
}

/// `[reference]`: the reference model. By default it is the model with its adapters off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReferenceSection {
    /// Another model directory with the same tokenizer and chat template. If its
    /// log-probabilities differ from the model's at the start, `train.reference_differs` must be
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// PEFT adapter of the reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// File for the log-probabilities of the reference. Log-probabilities that the file does not
    /// have are computed before training, so no training step computes them. Several runs can share
    /// a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl ReferenceSection {
    /// The stages whose results each key affects.
    ///
    /// Model and adapter are inputs, compared by content.
    pub(super) const AFFECTS: Affects = &[("path", &[]), ("adapter", &[]), ("cache", &[])];
}

/// `[conditional]`: weakening of images for losses that compare images (`conditional` of mDPO, and
/// `chip`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConditionalSection {
    /// Distortion of the image, or a list of them: the loss is then the mean over the weakened
    /// images, each of which is computed (ours). Default: `diffusion-noise:step=900`, as in `[weaken]` (ours; the
    /// authors of mDPO crop, those of CHiP have step 500).
    pub distortion: Distortions,
}

impl ConditionalSection {
    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[("distortion", &[Stage::Train])];
}

impl Default for ConditionalSection {
    fn default() -> Self {
        let distortion: Distortion = DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }.into();
        Self { distortion: distortion.into() }
    }
}
