//! From an image and a conversation to what the model takes, and back from ids to text.
//!
//! Everything is read from the files of a Hugging Face checkpoint and gives what transformers gives for them:
//!
//! | part | files |
//! |---|---|
//! | [`ImageProcessor`] | `preprocessor_config.json` or `processor_config.json` |
//! | [`ChatTemplate`] | `chat_template.jinja`, `chat_template.json`, `processor_config.json`, `tokenizer_config.json` |
//! | [`TextProcessor`] | `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`, `config.json` |

mod chat;
mod error;
mod files;
mod image;
mod jinja;
mod special;
mod text;

use std::path::Path;

pub use chat::{ChatTemplate, Rendered, Turn};
pub use error::ProcessorError;
pub use image::{Aspect, ImageProcessor, PixelValues};
pub use special::{SpecialToken, SpecialTokens};
pub use text::{Answered, TextProcessor, check_prompt_length};

/// How the image's place is written in a text.
pub const IMAGE_TOKEN: &str = "<image>";

/// All that stands between a user's image and text and the model.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Processor {
    /// Images to pixel values.
    pub image: ImageProcessor,
    /// Conversations to text.
    pub chat: ChatTemplate,
    /// Text to ids.
    pub text: TextProcessor,
}

impl Processor {
    /// Reads a Hugging Face checkpoint's directory.
    ///
    /// # Errors
    /// Those of [`ImageProcessor::from_dir`], [`ChatTemplate::from_dir`] and [`TextProcessor::from_dir`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        let dir = dir.as_ref();
        let text = TextProcessor::from_dir(dir)?;
        let chat = ChatTemplate::from_dir(dir, text.special())?;
        Ok(Self { image: ImageProcessor::from_dir(dir)?, chat, text })
    }

    /// The ids of a conversation up to where the next answer begins.
    ///
    /// `image_tokens` is the number of features the vision tower gives for an image; 0 where there is no image.
    ///
    /// # Errors
    /// Those of [`TextProcessor::check_written`], [`ChatTemplate::render`] and [`TextProcessor::encode_prompt`].
    pub fn prompt_ids(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        image_tokens: usize,
    ) -> Result<Vec<u32>, ProcessorError> {
        self.check_written(system, history, prompt)?;
        let prompt = self.chat.render(system, history, prompt, image_tokens > 0)?;
        self.text.encode_prompt(&prompt, image_tokens)
    }

    /// The ids of a conversation that ends with an answer, and where the answer begins.
    ///
    /// # Errors
    /// Those of [`TextProcessor::check_written`], [`ChatTemplate::render_with_answer`] and
    /// [`TextProcessor::encode_answered`].
    pub fn answered_ids(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answer: &str,
        image_tokens: usize,
    ) -> Result<Answered, ProcessorError> {
        self.check_written(system, history, prompt)?;
        self.text.check_written(self.text.without_end(answer), "answer")?;
        let rendered = self.chat.render_with_answer(system, history, prompt, answer, image_tokens > 0)?;
        self.text.encode_answered(&rendered.prompt, &rendered.answer, image_tokens)
    }

    fn check_written(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
    ) -> Result<(), ProcessorError> {
        if let Some(system) = system {
            self.text.check_written(system, "system message")?;
        }
        for turn in history {
            self.text.check_written(&turn.prompt, "history")?;
            self.text.check_written(self.text.without_end(&turn.answer), "history")?;
        }
        self.text.check_written(prompt, "prompt")
    }
}
