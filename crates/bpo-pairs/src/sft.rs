//! Annotated samples: what a data set for supervised fine-tuning holds.

use serde::{Deserialize, Serialize};

/// The text that stands for the picture in a prompt.
pub const IMAGE_TOKEN: &str = "<image>";

/// A finished question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `prompt` and `answer`")]
pub struct Turn {
    /// What the user said, with [`IMAGE_TOKEN`] where the data has it.
    pub prompt: String,
    /// What the assistant answered.
    pub answer: String,
}

impl Turn {
    /// A finished turn.
    pub fn new(prompt: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), answer: answer.into() }
    }
}

/// One question about one image, with the answer that an annotator gave.
///
/// A conversation of several turns is several samples: each keeps the annotated turns before it as `history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a sample: an object with `id`, `image`, `prompt` and `answer`")]
pub struct SftSample {
    /// Unique in its data set.
    pub id: String,
    /// Path of the image, relative to the image root.
    pub image: String,
    /// The system text before the conversation, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Annotated turns before this one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Turn>,
    /// The question. [`IMAGE_TOKEN`] is at its start or end, or in the first turn of `history`.
    pub prompt: String,
    /// The annotated answer.
    pub answer: String,
}
