//! Records of scored completions, and preference pairs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::image_paths::one_or_several;
use crate::provenance::Provenance;

/// The source of a completion.
///
/// Files use the names of the authors' data: `gt`, `mllm-hal`, `llm-hal`; and `own`. Other names are
/// kept unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum CompletionKind {
    /// The annotated answer (`gt`).
    Annotated,
    /// The model's own answer about a weakened image (`mllm-hal`).
    ImageWeakened,
    /// The annotated answer with injected errors (`llm-hal`).
    ErrorInjected,
    /// The model's own answer about the image as it is (`own`). The authors' data have none.
    Own,
    /// Another source, with its name in the file.
    Other(String),
}

impl CompletionKind {
    /// Returns the name in files.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Annotated => "gt",
            Self::ImageWeakened => "mllm-hal",
            Self::ErrorInjected => "llm-hal",
            Self::Own => "own",
            Self::Other(name) => name,
        }
    }

    /// Returns whether a model made the answer for the pairs.
    pub fn is_bootstrapped(&self) -> bool {
        matches!(self, Self::ImageWeakened | Self::ErrorInjected | Self::Own)
    }
}

impl fmt::Display for CompletionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for CompletionKind {
    fn from(name: String) -> Self {
        match name.as_str() {
            "gt" => Self::Annotated,
            "mllm-hal" => Self::ImageWeakened,
            "llm-hal" => Self::ErrorInjected,
            "own" => Self::Own,
            _ => Self::Other(name),
        }
    }
}

impl From<CompletionKind> for String {
    fn from(kind: CompletionKind) -> Self {
        kind.as_str().to_owned()
    }
}

/// An answer and its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `response`, `score` and `type`")]
pub struct Completion {
    /// The answer.
    pub response: String,
    /// Score; higher is better. The authors use 1 for annotated answers and 0 for bootstrapped
    /// answers.
    pub score: f64,
    /// Source of the answer (`type` in files).
    #[serde(rename = "type")]
    pub kind: CompletionKind,
    /// How the answer was generated, if its image was weakened or errors were injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// One prompt about any number of images, with all its completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a record: an object with `id`, `images`, `prompt` and `completions`"
)]
pub struct Record {
    /// Id, unique in the data set.
    pub id: String,
    /// Paths of the images, relative to the image root, in the order of the conversation. Empty for
    /// a text without an image.
    #[serde(default, alias = "image", deserialize_with = "one_or_several")]
    pub images: Vec<String>,
    /// System text, if the record has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub history: History,
    /// The question.
    pub prompt: String,
    /// The answers to the question.
    pub completions: Vec<Completion>,
}

/// A chosen and a rejected answer to one prompt about any number of images: a line of `pairs.jsonl`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a pair: an object with `id`, `images`, `prompt`, `chosen`, `rejected` and `kind`"
)]
pub struct PreferencePair {
    /// Id, unique in the file.
    pub id: String,
    /// Paths of the images, relative to the image root, in the order of the conversation. Empty for
    /// a text without an image.
    #[serde(default, alias = "image", deserialize_with = "one_or_several")]
    pub images: Vec<String>,
    /// System text, if the record has one.
    #[serde(default)]
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    #[serde(default)]
    pub history: History,
    /// The question.
    pub prompt: String,
    /// The preferred answer.
    pub chosen: String,
    /// The answer that is not preferred.
    pub rejected: String,
    /// Source of the rejected answer.
    pub kind: CompletionKind,
    /// Source of the chosen answer if it is not an annotated one.
    #[serde(default)]
    pub chosen_kind: Option<CompletionKind>,
    /// How the rejected answer was generated, if its image was weakened or errors were injected.
    #[serde(default)]
    pub provenance: Option<Provenance>,
    /// Difference of the scores of the two answers.
    #[serde(default)]
    pub margin: Option<f64>,
    /// Beta of this pair, in place of the beta of the training settings.
    #[serde(default)]
    pub beta: Option<f64>,
    /// Paths of other images for which [`contrast_answer`](Self::contrast_answer) is right, as many as
    /// in [`images`](Self::images); for losses that [compare
    /// images](https://arxiv.org/abs/2506.11712) which differ in what they show. Empty without a
    /// contrast.
    #[serde(default)]
    pub contrast_images: Vec<String>,
    /// The answer to the prompt that is right for [`contrast_images`](Self::contrast_images).
    #[serde(default)]
    pub contrast_answer: Option<String>,
}
