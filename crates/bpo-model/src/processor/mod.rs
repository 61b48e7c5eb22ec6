//! The processor: from an image and a conversation to the model's input, and from ids back to text.
//!
//! It reads the files of a Hugging Face checkpoint and gives the results of transformers:
//!
//! - [`ImageProcessor`]: `processor_config.json`, `preprocessor_config.json`
//! - [`ChatTemplate`]: `processor_config.json`, `chat_template.json`, `chat_template.jinja`,
//!   `additional_chat_templates/default.jinja`, `tokenizer_config.json`
//! - [`TextProcessor`]: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`,
//!   `added_tokens.json`, `generation_config.json`, `config.json`
//! - [`GenerationSettings`]: the file `generation_config.json`
//!
//! Where several files have a setting, the order of transformers decides, and a warning names files
//! that differ.

mod chat;
mod error;
mod generation;
mod image;
mod image_files;
mod jinja;
mod preprocess;
mod python;
mod sources;
mod special;
mod text;
mod tiles;
mod tokens;
mod video;

use std::path::Path;

use crate::families::VlmConfig;
use crate::input::ImageLayout;

use bpo_pairs::Turn;
pub use chat::{ChatTemplate, Rendered};
pub use error::ProcessorError;
pub use generation::GenerationSettings;
pub use image::{Aspect, ImageProcessor, PixelValues};
pub(crate) use image::{Levels, check_class, check_pixels};
pub(crate) use image_files::{ImageFile, check_std, check_tile_tokens, first_settings, image_settings};
pub(crate) use jinja::with_template_stack;
pub use preprocess::ImagePreprocessor;
pub(crate) use preprocess::Preprocess;
pub(crate) use sources::{ADDITIONAL_TEMPLATE, CHAT_TEMPLATES, READ};
pub use special::{SpecialToken, SpecialTokens};
pub use text::{TextProcessor, TokenizedCompletion};
pub(crate) use tiles::{TileGrid, Tiling, fitted};
pub(crate) use video::FEW_FRAMES;
pub use video::VideoSettings;

/// The placeholder of an image in a text.
pub const IMAGE_TOKEN: &str = "<image>";

/// The image processor, chat template and tokenizer of a checkpoint, and how its answers are
/// generated.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Processor {
    /// From images to pixel values.
    pub image: ImagePreprocessor,
    /// From conversations to text.
    pub chat: ChatTemplate,
    /// From text to token ids.
    pub text: TextProcessor,
    /// Which tokens end an answer, and which the model may not draw.
    pub generation: GenerationSettings,
}

impl Processor {
    /// Reads the files of a Hugging Face checkpoint, whose model has the configuration `config`.
    ///
    /// # Errors
    /// Those of [`ImagePreprocessor::from_dir`], [`ChatTemplate::from_dir`] and
    /// [`TextProcessor::from_dir`]; [`ProcessorError::Json`] for `generation_config.json`.
    pub fn from_dir(dir: impl AsRef<Path>, config: &VlmConfig) -> Result<Self, ProcessorError> {
        let dir = dir.as_ref();
        let takes_images = config.image_token().is_some();
        let text =
            if takes_images { TextProcessor::from_dir(dir)? } else { TextProcessor::without_images(dir)? };
        let chat = ChatTemplate::from_dir(dir, text.special())?;
        let text = match chat.end() {
            Some(end) => text.with_end(end),
            None => text,
        };
        let generation = GenerationSettings::from_dir(dir, &text.special().stop)?;
        Ok(Self { image: ImagePreprocessor::from_dir(dir, config, &text)?, chat, text, generation })
    }

    /// Returns the ids of a conversation up to where the next answer begins.
    ///
    /// `images` are the layouts of the images of the conversation. They are part of its first turn.
    ///
    /// # Errors
    /// Those of [`TextProcessor::check_written`], [`ChatTemplate::render`] and
    /// [`TextProcessor::encode_prompt`].
    pub fn prompt_ids(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        images: &[&ImageLayout],
    ) -> Result<Vec<u32>, ProcessorError> {
        self.check_written(system, history, prompt)?;
        let prompt = self.chat.render(system, history, prompt, images.len())?;
        self.text.encode_prompt(&prompt, images).map_err(|error| self.name_template(error))
    }

    /// Returns the ids of a conversation that ends with an answer, and where the answer begins.
    ///
    /// # Errors
    /// Those of [`TextProcessor::check_written`], [`ChatTemplate::render_with_answer`] and
    /// [`TextProcessor::encode_completion`].
    pub fn encode_completion(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answer: &str,
        images: &[&ImageLayout],
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let mut encoded = self.encode_completions(system, history, prompt, [answer], images)?;
        // one for each answer
        encoded.pop().ok_or(ProcessorError::EmptyAnswer)
    }

    /// Returns the same as [`encode_completion`](Self::encode_completion) for several answers to
    /// one prompt, which is rendered and encoded once.
    ///
    /// # Errors
    /// Those of [`encode_completion`](Self::encode_completion), for the first answer that has one.
    pub fn encode_completions<'a>(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answers: impl IntoIterator<Item = &'a str>,
        images: &[&ImageLayout],
    ) -> Result<Vec<TokenizedCompletion>, ProcessorError> {
        self.check_written(system, history, prompt)?;
        with_template_stack(|| {
            let conversation = self.chat.conversation(system, history, prompt, images.len())?;
            let prompt = self.text.encode_conversation(&conversation.prompt, images);
            let prompt = prompt.map_err(|error| self.name_template(error))?;
            let encode = |answer: &str| {
                self.check_answer(answer)?;
                let answer = self.chat.ended_answer(&conversation, answer)?;
                self.text.encode_answer(&prompt, &answer).map_err(|error| self.name_template(error))
            };
            answers.into_iter().map(encode).collect()
        })
    }

    /// Returns the ids of a conversation and the beginning of its next answer, which the model
    /// continues, and where the answer begins.
    ///
    /// # Errors
    /// Those of [`encode_completion`](Self::encode_completion).
    pub fn encode_answer_prefix(
        &self,
        system: Option<&str>,
        history: &[Turn],
        prompt: &str,
        answer_prefix: &str,
        images: &[&ImageLayout],
    ) -> Result<TokenizedCompletion, ProcessorError> {
        self.check_written(system, history, prompt)?;
        self.check_answer(answer_prefix)?;
        let conversation = self.chat.conversation(system, history, prompt, images.len())?;
        let answer = self.chat.answer_prefix(&conversation, answer_prefix)?;
        let encode = |prompt| self.text.encode_prefix(&prompt, &answer);
        let ids = self.text.encode_conversation(&conversation.prompt, images).and_then(encode);
        ids.map_err(|error| self.name_template(error))
    }

    /// Names the template where its output has no image token: prompts have none left when they get
    /// to the template.
    fn name_template(&self, error: ProcessorError) -> ProcessorError {
        match error {
            ProcessorError::ImageTokens { expected: 1.., found: 0 } => {
                ProcessorError::NoImageInTemplate { origin: self.chat.origin().to_owned() }
            }
            other => other,
        }
    }

    fn check_answer(&self, answer: &str) -> Result<(), ProcessorError> {
        self.text.check_written(self.text.special().strip_end(answer), "answer")
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
            self.text.check_written(self.text.special().strip_end(&turn.answer), "history")?;
        }
        self.text.check_written(prompt, "prompt")
    }
}

#[cfg(test)]
mod golden_tests;
