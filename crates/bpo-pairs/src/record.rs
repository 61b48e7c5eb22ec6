//! Scored completions of one prompt, and the pairs they make.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;
use crate::sft::Turn;

/// Where a completion comes from.
///
/// On disk these are the names of the authors' data: `gt`, `mllm-hal`, `llm-hal`; anything else is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum CompletionKind {
    /// The annotated answer (`gt`).
    Annotated,
    /// The model's own answer for a weakened image (`mllm-hal`).
    ImageWeakened,
    /// The annotated answer with injected errors (`llm-hal`).
    ErrorInjected,
    /// Any other source, by its name on disk.
    Other(String),
}

impl CompletionKind {
    /// The name on disk.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Annotated => "gt",
            Self::ImageWeakened => "mllm-hal",
            Self::ErrorInjected => "llm-hal",
            Self::Other(name) => name,
        }
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
            _ => Self::Other(name),
        }
    }
}

impl From<CompletionKind> for String {
    fn from(kind: CompletionKind) -> Self {
        kind.as_str().to_owned()
    }
}

/// An answer with its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `response`, `score` and `type`")]
pub struct Completion {
    /// The answer.
    pub response: String,
    /// Higher is better; the authors use 1 for annotated answers and 0 for bootstrapped ones.
    pub score: f64,
    /// Where it comes from (`type` on disk).
    #[serde(rename = "type")]
    pub kind: CompletionKind,
    /// How it was got, where the image was weakened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// One prompt about one image and all its answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a record: an object with `id`, `image`, `prompt` and `completions`"
)]
pub struct Record {
    /// Unique in its data set.
    pub id: String,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// The system text before the conversation, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// Its answers.
    pub completions: Vec<Completion>,
}

/// A better and a worse answer to one prompt about one image: a line of `pairs.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a pair: an object with `id`, `image`, `prompt`, `chosen`, `rejected` and `kind`"
)]
pub struct PreferencePair {
    /// Unique in its file.
    pub id: String,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// The system text before the conversation, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Annotated turns before the prompt, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Turn>,
    /// The question.
    pub prompt: String,
    /// The preferred answer.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
    /// Where the rejected answer comes from.
    pub kind: CompletionKind,
    /// How the rejected answer was got, where the image was weakened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// By how much the chosen answer is better: the difference of the scores of its record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// How strongly the policy is held to its reference in this pair, instead of the setting for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
}
