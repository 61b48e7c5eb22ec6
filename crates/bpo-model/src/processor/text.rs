//! From text to token ids and back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use super::json::shown;
use super::sources::{TOKENIZER, TOKENIZER_CONFIG, warn_of};
use super::special::{SpecialToken, SpecialTokens};
use super::tokens::TokenSettings;
use super::{IMAGE_TOKEN, ProcessorError};

/// A prompt and its answer as one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizedCompletion {
    /// Prompt and answer: BOS once in front, an id per image token, the end token once at the end.
    pub ids: Vec<u32>,
    /// Where the answer begins: the length of what the ids share with those of the prompt alone.
    pub answer_start: usize,
    /// Whether [`fit`](Self::fit) cut the end of the answer off.
    pub truncated: bool,
}

impl TokenizedCompletion {
    /// A whole sequence whose answer begins at `answer_start`.
    #[must_use]
    pub fn new(ids: Vec<u32>, answer_start: usize) -> Self {
        Self { ids, answer_start, truncated: false }
    }

    /// The ids of the prompt.
    #[must_use]
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.answer_start]
    }

    /// The ids of the answer, with its end token unless that was cut off.
    #[must_use]
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.answer_start..]
    }

    /// Cuts the end of the answer off where the sequence is longer than `limit`.
    ///
    /// # Errors
    /// [`ProcessorError::PromptTooLong`] if the prompt does not fit, [`ProcessorError::AnswerCutToNothing`] if nothing
    /// of the answer does.
    pub fn fit(mut self, limit: usize) -> Result<Self, ProcessorError> {
        check_prompt_length(self.prompt(), limit)?;
        if self.answer_start == limit {
            return Err(ProcessorError::AnswerCutToNothing { tokens: self.answer_start, limit });
        }
        self.truncated |= self.ids.len() > limit;
        self.ids.truncate(limit);
        Ok(self)
    }
}

/// Refuses a prompt of more than `limit` tokens: unlike an answer, it cannot be cut without changing the question.
///
/// # Errors
/// [`ProcessorError::PromptTooLong`].
pub fn check_prompt_length(ids: &[u32], limit: usize) -> Result<(), ProcessorError> {
    if ids.len() > limit {
        return Err(ProcessorError::PromptTooLong { tokens: ids.len(), limit });
    }
    Ok(())
}

/// A checkpoint's tokenizer, with the rules about special tokens that every sequence follows.
#[derive(Clone, Debug)]
pub struct TextProcessor {
    tokenizer: Tokenizer,
    /// The file of the tokenizer.
    path: PathBuf,
    special: SpecialTokens,
    /// What the tokenizer puts in front of every sequence.
    prefix: Vec<u32>,
    /// How the special tokens are written, without the image token.
    reserved: Vec<String>,
}

impl TextProcessor {
    /// Reads `tokenizer.json`, and the special tokens from the configs beside it.
    ///
    /// # Errors
    /// [`ProcessorError::NoTokenizer`] where the file is missing, [`ProcessorError::Tokenizer`] where it is broken,
    /// [`ProcessorError::NoToken`] where nothing names the end or the image token.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        Self::load(dir.as_ref(), None)
    }

    /// The same with an image token of the caller's choice.
    ///
    /// # Errors
    /// Those of [`from_dir`](Self::from_dir).
    pub fn from_dir_with_image_token(
        dir: impl AsRef<Path>,
        image_token: u32,
    ) -> Result<Self, ProcessorError> {
        Self::load(dir.as_ref(), Some(image_token))
    }

    fn load(dir: &Path, image_token: Option<u32>) -> Result<Self, ProcessorError> {
        let path = dir.join(TOKENIZER);
        if !path.exists() {
            return Err(ProcessorError::NoTokenizer { path });
        }
        guarded(&path, || Self::read(dir, path.clone(), image_token))
    }

    fn read(dir: &Path, path: PathBuf, image_token: Option<u32>) -> Result<Self, ProcessorError> {
        let read = Tokenizer::from_file(&path);
        let mut tokenizer =
            read.map_err(|source| ProcessorError::Tokenizer { path: path.clone(), source })?;
        check_post_processor(&tokenizer, &path)?;
        let settings = TokenSettings::apply(dir, &mut tokenizer)?;
        let add_bos = settings.add_bos;
        // padding and truncation are left over from whoever saved the file; callers decide on lengths
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(tokenize_error)?;
        let special = SpecialTokens::from_dir(dir, &tokenizer, settings, image_token)?;
        let prefix = prefix(&tokenizer)?;
        if let (Some(asked), Some(bos)) = (add_bos, &special.bos)
            && asked != prefix.contains(&bos.id)
        {
            warn_of(dir, "whether a sequence begins with BOS (`add_bos_token`)", TOKENIZER, TOKENIZER_CONFIG);
        }
        let is_image = |text: &str| text == IMAGE_TOKEN || text == special.image.text;
        let added = tokenizer.get_added_tokens_decoder().into_values();
        // whatever the file says of them, these two begin and end sequences
        let ends = special.bos.iter().chain([&special.eos]).map(|token| token.text.clone());
        let mut reserved: Vec<_> = added
            .filter(|token| token.special && !is_image(&token.content))
            .map(|token| token.content)
            .chain(ends)
            .collect();
        reserved.sort_unstable();
        reserved.dedup();
        let processor = Self { tokenizer, path, special, prefix, reserved };
        processor.decode(&processor.prefix, false)?;
        Ok(processor)
    }

    /// The special tokens.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The same for a chat template that ends answers with the token `end`.
    pub(super) fn with_end(mut self, end: &SpecialToken) -> Self {
        self.special.set_end(end.clone());
        if !self.reserved.contains(&end.text) {
            self.reserved.push(end.text.clone());
        }
        self
    }

    /// Whether the same tokens have the same ids in both.
    #[must_use]
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        self.tokenizer.get_vocab(true) == other.tokenizer.get_vocab(true)
    }

    /// The tokens at which generation stops.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.special.stop
    }

    /// Refuses a text that somebody wrote, before a template puts its own special tokens around it, if it spells one.
    /// The image token is counted elsewhere, and end tokens at the end of an answer are only that.
    ///
    /// # Errors
    /// [`ProcessorError::SpecialToken`].
    pub fn check_written(&self, text: &str, place: &'static str) -> Result<(), ProcessorError> {
        match self.reserved.iter().find(|token| text.contains(token.as_str())) {
            Some(token) => Err(ProcessorError::SpecialToken { place, token: token.clone() }),
            None => Ok(()),
        }
    }

    /// The ids of a rendered prompt: BOS once in front, `<image>` as `image_tokens` ids (0 where there is no image).
    ///
    /// # Errors
    /// [`ProcessorError::ImageTokens`] if the text has not one `<image>` with an image, or has one without.
    pub fn encode_prompt(&self, text: &str, image_tokens: usize) -> Result<Vec<u32>, ProcessorError> {
        self.encode(text, image_tokens)
    }

    /// The ids of a rendered prompt and its answer, tokenized together as one string, with the end token once at the end.
    ///
    /// Apart, the two would not give the same ids: most tokenizers treat the beginning of a text in a special way.
    ///
    /// # Errors
    /// [`ProcessorError::ImageTokens`] as above, [`ProcessorError::EmptyAnswer`], and [`ProcessorError::EosInAnswer`]
    /// if the answer goes on after an end token.
    pub fn encode_completion(
        &self,
        prompt: &str,
        answer: &str,
        image_tokens: usize,
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let answer = self.special.strip_end(answer);
        self.encode_rendered(prompt, &format!("{answer}{}", self.special.end.text), image_tokens)
    }

    /// The same of an answer that ends as the template has it.
    pub(super) fn encode_rendered(
        &self,
        prompt: &str,
        answer: &str,
        image_tokens: usize,
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let SpecialTokens { end, eos, .. } = &self.special;
        if self.special.strip_end(answer).trim().is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        let mut answered = self.encode_begun(prompt, answer, image_tokens)?;
        if answered.ids.last() != Some(&end.id) {
            answered.ids.push(end.id);
        }
        let said = answered.answer().split_last().map_or(&[][..], |(_, said)| said);
        if said.is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        match [end, eos].into_iter().find(|token| said.contains(&token.id)) {
            Some(token) => Err(ProcessorError::EosInAnswer { token: token.text.clone() }),
            None => Ok(answered),
        }
    }

    /// The ids of a rendered prompt and what its answer begins with, without an end token.
    pub(super) fn encode_begun(
        &self,
        prompt: &str,
        answer: &str,
        image_tokens: usize,
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let prompt_ids = self.encode(prompt, image_tokens)?;
        let ids = self.encode(&format!("{prompt}{answer}"), image_tokens)?;
        let answer_start = prompt_ids.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        Ok(TokenizedCompletion::new(ids, answer_start))
    }

    /// The text of `ids`.
    ///
    /// # Errors
    /// [`ProcessorError::Tokenize`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, ProcessorError> {
        guarded(&self.path, || self.tokenizer.decode(ids, skip_special).map_err(tokenize_error))
    }

    fn encode(&self, text: &str, image_tokens: usize) -> Result<Vec<u32>, ProcessorError> {
        let image = &self.special.image;
        let text = if image.text == IMAGE_TOKEN {
            text.into()
        } else {
            // Our template and many others write `<image>` whatever the token is called.
            std::borrow::Cow::Owned(text.replace(IMAGE_TOKEN, &image.text))
        };
        let encode = || self.tokenizer.encode(text.as_ref(), false).map_err(tokenize_error);
        let encoding = guarded(&self.path, encode)?;
        let mut tokens = encoding.get_ids();
        let mut ids = self.prefix.clone();
        if let Some(bos) = &self.special.bos {
            // Templates of some checkpoints write BOS although their tokenizer adds it.
            let written = tokens.iter().take_while(|id| **id == bos.id).count();
            tokens = &tokens[written..];
            if written > 0 && !ids.contains(&bos.id) {
                ids.push(bos.id);
            }
        }
        let found = tokens.iter().filter(|id| **id == image.id).count();
        let expected = usize::from(image_tokens > 0);
        if found != expected {
            return Err(ProcessorError::ImageTokens { expected, found });
        }
        ids.reserve(tokens.len() + image_tokens);
        for id in tokens {
            let times = if *id == image.id { image_tokens } else { 1 };
            ids.extend(std::iter::repeat_n(*id, times));
        }
        Ok(ids)
    }
}

/// What the tokenizer's post-processor puts in front of a text. What it may put behind it is not wanted: a prompt goes
/// on with its answer, and what ends an answer is the template's to write. `add_bos_token` of `tokenizer_config.json` changes
/// nothing where there is a tokenizer.json, as in transformers.
fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>, ProcessorError> {
    const PROBE: &str = "a";
    let bare = tokenizer.encode(PROBE, false).map_err(tokenize_error)?;
    let full = tokenizer.encode(PROBE, true).map_err(tokenize_error)?;
    let at = full.get_ids().windows(bare.len().max(1)).position(|window| window == bare.get_ids());
    Ok(full.get_ids()[..at.unwrap_or(0)].to_vec())
}

/// Checks that a template of the post-processor has all the special tokens that it writes. The
/// tokenizers crate reads one without them, and panics when it encodes.
fn check_post_processor(tokenizer: &Tokenizer, path: &Path) -> Result<(), ProcessorError> {
    let error = |key: &str, expected: String, found: String| ProcessorError::Value {
        path: path.to_owned(),
        key: key.to_owned(),
        expected,
        found,
    };
    let json = serde_json::to_value(tokenizer.get_post_processor())
        .map_err(|problem| error("post_processor", "a post-processor".to_owned(), problem.to_string()))?;
    // a template by itself, or within a sequence
    let processors = json["processors"].as_array().map_or(std::slice::from_ref(&json), Vec::as_slice);
    for template in processors.iter().filter(|processor| processor["type"] == "TemplateProcessing") {
        let pieces = ["single", "pair"].map(|kind| template[kind].as_array());
        let ids =
            pieces.into_iter().flatten().flatten().filter_map(|piece| piece["SpecialToken"]["id"].as_str());
        for id in ids {
            if template["special_tokens"].get(id).is_none() {
                let expected = format!("the special token {} of its template", shown(&id.into()));
                return Err(error(
                    "post_processor.special_tokens",
                    expected,
                    shown(&template["special_tokens"]),
                ));
            }
        }
    }
    Ok(())
}

/// Runs code that calls the tokenizers crate, and turns a panic into an error that names the file.
///
/// The crate reads many a broken tokenizer.json without an error and panics later (a merge without
/// its tokens, a precompiled map that is none, a decoder that strips more than there is), and it
/// gives no way to check the parts beforehand. Nothing of ours is changed by what is run, so no state
/// is left half-changed.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, ProcessorError>) -> Result<T, ProcessorError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        let source = format!("its parts contradict each other: {text}").into();
        Err(ProcessorError::Tokenizer { path: path.to_owned(), source })
    })
}

fn tokenize_error(source: tokenizers::Error) -> ProcessorError {
    ProcessorError::Tokenize { source }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
