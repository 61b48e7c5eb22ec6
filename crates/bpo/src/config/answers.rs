//! The sections of the stages that make answers: `[weaken]` and `[inject]`.

use std::path::PathBuf;

use bpo_distort::{DiffusionNoise, Distortion, diffusion};
use bpo_inject::{Fallback, LlmInjectorConfig};
use bpo_pairs::{Contrast, is_zero};
#[cfg(feature = "server")]
use bpo_server::OpenAiConfig;
use serde::{Deserialize, Serialize};

use super::affects::Affects;
use super::distortions::Distortions;
use crate::stage::Stage;
use crate::stages::Shard;

/// `[weaken]`: answers of the model about a weakened image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WeakenSection {
    /// Distortion of the image, or several, each of which gives its own answers. Default:
    /// `diffusion-noise:step=900` (the BPO script).
    pub distortion: Distortions,
    /// Number of answers for each distortion of an image. Default: 1 (the BPO script).
    ///
    /// 0 with several `own_samples` asks about the images as they are alone.
    pub samples: usize,
    /// Number of the model's own answers about an image as it is, for
    /// [`ChosenAnswer::Judged`](super::ChosenAnswer::Judged) and
    /// [`ChosenAnswer::Revised`](super::ChosenAnswer::Revised). Default: 1 (ours).
    #[serde(skip_serializing_if = "is_one")]
    pub own_samples: usize,
    /// Part of the stage that this process works on, if several processes share the work. Default:
    /// none, the whole stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Fraction of the annotated answer's words that the model continues, at least 0 and less than
    /// 1. Default: 0, none.
    ///
    /// With 0.5 and a distortion that [removes the image](bpo_distort::NoImage), the answers are
    /// made like the rejected answers of MPO (Wang et al., arXiv 2411.10442, section 3.1), but from
    /// annotated answers instead of the model's own.
    pub prefix_fraction: f64,
    /// Number of sentences that are cut off the end of the annotated answer; the model continues the
    /// rest. Default: 0, the answer is not cut.
    ///
    /// With 2 and the [image as it is](bpo_distort::Clean), the answers are made like those of HDPO about a
    /// long context (arXiv 2411.10436). Samples whose answers have not more than this number of
    /// [sentences](bpo_eval::sentences) are skipped.
    #[serde(skip_serializing_if = "is_zero")]
    pub cut_sentences: usize,
    /// Minimum number of sentences of the annotated answer, with `cut_sentences`. Samples with fewer are
    /// skipped. Default: 0, one more than are cut off (ours).
    #[serde(skip_serializing_if = "is_zero")]
    pub min_sentences: usize,
    /// Contrastive decoding with the clean image. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Sampling temperature. Default: 0.2 (the BPO script).
    pub temperature: f64,
    /// Nucleus sampling: probability mass of the tokens to sample from. Default: 1, all tokens
    /// (ours).
    pub top_p: f64,
    /// Maximum length of an answer, in tokens. Default: 1024 (the BPO script).
    pub max_new_tokens: usize,
    /// Number of answers generated at the same time. Default: 8 (ours).
    ///
    /// The stage passes four times as many requests to the model in one call. The number of
    /// concurrent requests to a server is adapted to the server instead.
    pub batch_size: usize,
    /// OpenAI-compatible server with a vision-language model, which answers in place of `[model]`.
    /// Default: none.
    #[cfg(feature = "server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
    /// OpenAI-compatible server. A build without the feature `server` keeps the table unchanged and
    /// cannot use the server.
    #[cfg(not(feature = "server"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<toml::Table>,
    /// How images are sent to the server.
    pub server_images: SentImages,
}

/// `[weaken.server_images]`: how images are sent to a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SentImages {
    /// File format. Default: PNG, which has all levels of the distorted image. Noise makes PNG files
    /// large.
    pub format: SentFormat,
    /// Quality of JPEG files, from 1 to 100. Default: 95 (ours).
    pub jpeg_quality: u8,
    /// Maximum length of the longer side in pixels. Larger images are reduced with a bicubic filter
    /// before the distortion. Default: none.
    ///
    /// A server reduces images to the size that its model takes, which averages noise on larger
    /// images. With about the model's size here, noise is as strong as in a local model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_side: Option<u32>,
}

impl Default for SentImages {
    fn default() -> Self {
        Self { format: SentFormat::Png, jpeg_quality: 95, max_side: None }
    }
}

/// File format of images that are sent to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SentFormat {
    /// PNG, without loss.
    #[default]
    Png,
    /// JPEG with 4:2:0.
    Jpeg,
}

impl WeakenSection {
    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[
        ("distortion", &[Stage::Weaken]),
        ("samples", &[Stage::Weaken]),
        ("own_samples", &[Stage::Weaken]),
        // a judged file records the shard of its answers
        ("shard", &[Stage::Weaken, Stage::Judge]),
        ("prefix_fraction", &[Stage::Weaken]),
        ("cut_sentences", &[Stage::Weaken]),
        ("min_sentences", &[Stage::Weaken]),
        ("contrast", &[Stage::Weaken]),
        ("temperature", &[Stage::Weaken]),
        ("top_p", &[Stage::Weaken]),
        ("max_new_tokens", &[Stage::Weaken]),
        ("batch_size", &[Stage::Weaken]),
        ("server", &[Stage::Weaken]),
        ("server_images", &[Stage::Weaken]),
    ];
}

impl Default for WeakenSection {
    fn default() -> Self {
        Self {
            distortion: Distortion::from(DiffusionNoise { step: diffusion::DEFAULT_STEP.into() }).into(),
            samples: 1,
            own_samples: 1,
            shard: None,
            prefix_fraction: 0.0,
            cut_sentences: 0,
            min_sentences: 0,
            contrast: None,
            temperature: 0.2,
            top_p: 1.0,
            max_new_tokens: 1024,
            batch_size: 8,
            server: None,
            server_images: SentImages::default(),
        }
    }
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

impl WeakenSection {
    /// Returns the number of answers about weakened images of each sample.
    pub fn variants(&self) -> usize {
        self.distortion.len().saturating_mul(self.samples)
    }
}

/// `[inject]`: the annotated answer is rewritten with errors. A language model rewrites it if
/// `server`, `model` or `with_model` is set. Otherwise words are swapped for others that are common
/// in the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct InjectSection {
    /// Number of answers rewritten in one batch. Default: 16 (ours).
    pub batch_size: usize,
    /// Maximum number of words swapped in one answer, without a language model or as fallback.
    /// Default: 3 (ours).
    pub max_edits: usize,
    /// What happens to an answer if all replies of the language model are rejected: `skip`, or
    /// `co-occurrence`, which swaps words. Default: `skip` (ours).
    pub fallback: Fallback,
    /// Whether the model of the run rewrites the answers, as a text model without their images, as in
    /// the authors' code. Default: false, because this takes about as long as the weaken stage.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub with_model: bool,
    /// Language model on this machine that rewrites the answers: a Hugging Face directory of a Llama,
    /// Mistral, Qwen2 or Qwen3 model with a chat template, or of a vision-language model. The command
    /// `bpo` also takes a name on the Hugging Face Hub. It is loaded to the device of the run, with
    /// the type `model.dtype`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Part of the stage that this process works on, if several processes share the work. Default:
    /// none, the whole stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// Prompts and sampling of the language model.
    pub llm: LlmInjectorConfig,
    /// OpenAI-compatible server. Default: none.
    #[cfg(feature = "server")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<OpenAiConfig>,
    /// OpenAI-compatible server. A build without the feature `server` keeps the table unchanged and
    /// cannot use the server.
    #[cfg(not(feature = "server"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<toml::Table>,
}

impl InjectSection {
    /// Returns whether a language model rewrites the answers.
    pub fn has_llm(&self) -> bool {
        self.is_local() || self.server.is_some()
    }

    /// Returns whether a model on this machine rewrites the answers.
    pub fn is_local(&self) -> bool {
        self.with_model || self.model.is_some()
    }

    /// The stages whose results each key affects.
    pub(super) const AFFECTS: Affects = &[
        ("batch_size", &[Stage::Inject]),
        ("max_edits", &[Stage::Inject]),
        ("fallback", &[Stage::Inject]),
        ("with_model", &[Stage::Inject]),
        // an input, compared by content
        ("model", &[]),
        ("shard", &[Stage::Inject]),
        ("llm", &[Stage::Inject]),
        ("server", &[Stage::Inject]),
    ];
}

impl Default for InjectSection {
    fn default() -> Self {
        Self {
            batch_size: 16,
            max_edits: 3,
            fallback: Fallback::default(),
            with_model: false,
            model: None,
            shard: None,
            llm: LlmInjectorConfig::default(),
            server: None,
        }
    }
}
