//! Annotated samples of a data set for supervised fine-tuning.

use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::image_paths::one_or_several;

/// The image token: the text that marks the position of the image in a prompt.
pub const IMAGE_TOKEN: &str = "<image>";

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `prompt` and `answer`")]
pub struct Turn {
    /// The question, with [`IMAGE_TOKEN`] where the data has it.
    pub prompt: String,
    /// The answer of the assistant.
    pub answer: String,
}

impl Turn {
    /// Creates a turn.
    pub fn new(prompt: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), answer: answer.into() }
    }
}

/// One question about any number of images, with the annotated answer.
///
/// A conversation with several turns becomes several samples. Each sample holds the annotated turns
/// before it as `history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a sample: an object with `id`, `images`, `prompt` and `answer`")]
pub struct SftSample {
    /// Id, unique in the data set.
    pub id: String,
    /// Paths of the images, relative to the image root, in the order of the conversation. Empty for
    /// a text without an image.
    #[serde(default, alias = "image", deserialize_with = "one_or_several")]
    pub images: Vec<String>,
    /// System text, if the conversation has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Annotated turns before this one, oldest first.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub history: History,
    /// The question. It and the questions of `history` have an [`IMAGE_TOKEN`] for each
    /// image; see [`place_in_conversation`](crate::place_in_conversation).
    pub prompt: String,
    /// The annotated answer.
    pub answer: String,
}
