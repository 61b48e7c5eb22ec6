//! The tokenizer: from text to token ids and back.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpo_pairs::files::read_bytes;
use bpo_pairs::{Limits, catch_panic};
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

use super::sources::{TOKENIZER, TOKENIZER_CONFIG, warn_of};
use super::special::{SpecialToken, SpecialTokens};
use super::tokens::TokenSettings;
use super::{IMAGE_TOKEN, ProcessorError};
use crate::input::ImageLayout;
use crate::json::{JsonError, check_lfs, shown};

/// A prompt and its answer as one sequence of token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenizedCompletion {
    /// Ids of prompt and answer: BOS once in front, one id per image feature, the end token once at
    /// the end.
    pub ids: Vec<u32>,
    /// Index of the first id of the answer: the length of the prefix that `ids` shares with the ids
    /// of the prompt alone.
    pub answer_start: usize,
}

impl TokenizedCompletion {
    /// Creates a complete sequence whose answer begins at `answer_start`.
    #[must_use]
    pub fn new(ids: Vec<u32>, answer_start: usize) -> Self {
        Self { ids, answer_start }
    }

    /// The ids of the prompt.
    #[must_use]
    pub fn prompt(&self) -> &[u32] {
        &self.ids[..self.answer_start]
    }

    /// The ids of the answer, with its end token.
    #[must_use]
    pub fn answer(&self) -> &[u32] {
        &self.ids[self.answer_start..]
    }
}

/// The tokenizer of a checkpoint, with the handling of special tokens that every sequence follows. A
/// clone is cheap.
#[derive(Clone, Debug)]
pub struct TextProcessor {
    tokenizer: Arc<Tokenizer>,
    /// The file of the tokenizer.
    path: PathBuf,
    special: SpecialTokens,
    /// Ids that the tokenizer puts in front of every sequence.
    prefix: Vec<u32>,
    /// The spellings of the special tokens, without the image token.
    reserved: Vec<String>,
}

/// A rendered prompt with its ids.
pub(super) struct EncodedPrompt<'a> {
    text: &'a str,
    images: &'a [&'a ImageLayout],
    ids: Vec<u32>,
}

impl TextProcessor {
    /// Reads `tokenizer.json`, and the special tokens from the configuration files beside it.
    ///
    /// # Errors
    /// [`ProcessorError::NoTokenizer`] if the file is missing; [`ProcessorError::Tokenizer`] if it
    /// is broken; [`ProcessorError::NoToken`] if no file names the end token or the image token;
    /// [`ProcessorError::Json`].
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        Self::read(dir.as_ref(), true)
    }

    /// Reads the tokenizer of a language model without images. It has no image token, and `<image>`
    /// in a text is text.
    ///
    /// # Errors
    /// Those of [`from_dir`](Self::from_dir).
    pub fn without_images(dir: impl AsRef<Path>) -> Result<Self, ProcessorError> {
        Self::read(dir.as_ref(), false)
    }

    fn read(dir: &Path, takes_images: bool) -> Result<Self, ProcessorError> {
        let path = dir.join(TOKENIZER);
        let bytes = match read_bytes(&path, Limits::DEFAULT.tokenizer_bytes) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Err(ProcessorError::NoTokenizer { path }),
            Err(error) => return Err(JsonError::from(error).into()),
        };
        check_lfs(&bytes, &path)?;
        guarded(&path, || Self::parse(dir, path.clone(), &bytes, takes_images))
    }

    fn parse(dir: &Path, path: PathBuf, bytes: &[u8], takes_images: bool) -> Result<Self, ProcessorError> {
        let mut tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|source| ProcessorError::Tokenizer { path: path.clone(), source })?;
        check_post_processor(&tokenizer, &path)?;
        let settings = TokenSettings::apply(dir, &mut tokenizer)?;
        let add_bos = settings.add_bos;
        // padding and truncation are left over from whoever saved the file; callers decide on
        // lengths
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(tokenize_error)?;
        if tokenizer.get_pre_tokenizer().is_none() {
            // a cache of whole texts takes memory, and finds none again
            let mut model = tokenizer.get_model().clone();
            model.resize_cache(0);
            tokenizer.with_model(model);
        }
        let special = SpecialTokens::from_dir(dir, &tokenizer, settings, takes_images)?;
        let prefix = prefix(&tokenizer)?;
        if let (Some(asked), Some(bos)) = (add_bos, &special.bos)
            && asked != prefix.contains(&bos.id)
        {
            warn_of(dir, "whether a sequence begins with BOS (`add_bos_token`)", TOKENIZER, TOKENIZER_CONFIG);
        }
        let image = special.image.as_ref();
        let is_image = |text: &str| image.is_some_and(|image| text == IMAGE_TOKEN || text == image.text);
        let added = tokenizer.get_added_tokens_decoder().into_values();
        // these two begin and end sequences, whatever the file says about them
        let ends = special.bos.iter().chain([&special.eos]).map(|token| token.text.clone());
        let mut reserved: Vec<_> = added
            .filter(|token| token.special && !is_image(&token.content))
            .map(|token| token.content)
            .chain(ends)
            .collect();
        reserved.sort_unstable();
        reserved.dedup();
        let processor = Self { tokenizer: tokenizer.into(), path, special, prefix, reserved };
        processor.decode(&processor.prefix, false)?;
        Ok(processor)
    }

    /// The special tokens.
    #[must_use]
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The token that stands for one image feature.
    ///
    /// # Errors
    /// [`ProcessorError::NoToken`] for a tokenizer that was read [without
    /// images](Self::without_images).
    pub(crate) fn image_token(&self) -> Result<&SpecialToken, ProcessorError> {
        self.special.image.as_ref().ok_or_else(|| ProcessorError::NoToken {
            dir: self.path.parent().unwrap_or(&self.path).to_owned(),
            token: "image",
            hint: "the tokenizer was read as that of a language model without images".to_owned(),
        })
    }

    /// Sets the token `end` that a chat template ends answers with.
    pub(super) fn with_end(mut self, end: &SpecialToken) -> Self {
        self.special.set_end(end.clone());
        if !self.reserved.contains(&end.text) {
            self.reserved.push(end.text.clone());
        }
        self
    }

    /// Whether both tokenizers have the same tokens with the same ids.
    #[must_use]
    pub fn has_vocabulary_of(&self, other: &Self) -> bool {
        self.tokenizer.get_vocab(true) == other.tokenizer.get_vocab(true)
    }

    /// Refuses a text that contains the spelling of a special token. This is for texts from data,
    /// before a template puts its own special tokens around them. Image tokens are counted
    /// elsewhere, and end tokens at the end of an answer are removed by the caller.
    ///
    /// # Errors
    /// [`ProcessorError::SpecialToken`].
    pub fn check_written(&self, text: &str, place: &'static str) -> Result<(), ProcessorError> {
        match self.reserved.iter().find(|token| text.contains(token.as_str())) {
            Some(token) => Err(ProcessorError::SpecialToken { place, token: token.clone() }),
            None => Ok(()),
        }
    }

    /// Encodes a rendered prompt: BOS once in front, and the placeholder of each image in place of
    /// its `<image>`.
    ///
    /// # Errors
    /// [`ProcessorError::ImageTokens`] if the text has another number of `<image>` than there are
    /// images.
    pub fn encode_prompt(&self, text: &str, images: &[&ImageLayout]) -> Result<Vec<u32>, ProcessorError> {
        self.encode(text, images)
    }

    /// Encodes a rendered prompt and its answer as one string, with the end token once at the end.
    ///
    /// Encoded separately, the two would give other ids: most tokenizers treat the beginning of a
    /// text differently.
    ///
    /// # Errors
    /// [`ProcessorError::ImageTokens`]; [`ProcessorError::EmptyAnswer`];
    /// [`ProcessorError::EosInAnswer`] if the answer continues after an end token.
    pub fn encode_completion(
        &self,
        prompt: &str,
        answer: &str,
        images: &[&ImageLayout],
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let answer = self.special.strip_end(answer);
        let prompt = self.encode_conversation(prompt, images)?;
        self.encode_answer(&prompt, &format!("{answer}{}", self.special.end.text))
    }

    /// Encodes a rendered conversation up to where its answer begins. Several answers can be
    /// encoded after it.
    pub(super) fn encode_conversation<'a>(
        &self,
        text: &'a str,
        images: &'a [&'a ImageLayout],
    ) -> Result<EncodedPrompt<'a>, ProcessorError> {
        Ok(EncodedPrompt { text, images, ids: self.encode(text, images)? })
    }

    /// Encodes an answer that ends as the template writes it.
    pub(super) fn encode_answer(
        &self,
        prompt: &EncodedPrompt<'_>,
        answer: &str,
    ) -> Result<TokenizedCompletion, ProcessorError> {
        let SpecialTokens { end, eos, .. } = &self.special;
        if self.special.strip_end(answer).trim().is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        let mut completion = self.encode_prefix(prompt, answer)?;
        if completion.ids.last() != Some(&end.id) {
            completion.ids.push(end.id);
        }
        let body = completion.answer().split_last().map_or(&[][..], |(_, body)| body);
        if body.is_empty() {
            return Err(ProcessorError::EmptyAnswer);
        }
        match [end, eos].into_iter().find(|token| body.contains(&token.id)) {
            Some(token) => Err(ProcessorError::EosInAnswer { token: token.text.clone() }),
            None => Ok(completion),
        }
    }

    /// Encodes a prompt and the beginning of its answer, without an end token.
    pub(super) fn encode_prefix(
        &self,
        prompt: &EncodedPrompt<'_>,
        answer: &str,
    ) -> Result<TokenizedCompletion, ProcessorError> {
        // as one text, because a token may have characters of both
        let ids = self.encode(&format!("{}{answer}", prompt.text), prompt.images)?;
        let answer_start = prompt.ids.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        Ok(TokenizedCompletion::new(ids, answer_start))
    }

    /// Decodes `ids` to text.
    ///
    /// # Errors
    /// [`ProcessorError::Tokenize`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, ProcessorError> {
        guarded(&self.path, || self.tokenizer.decode(ids, skip_special).map_err(tokenize_error))
    }

    /// The id of a token, by its text.
    pub(crate) fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Encodes a text that stands for itself: nothing is put in front of it, and no token of it is
    /// replaced.
    ///
    /// # Errors
    /// [`ProcessorError::Tokenize`] or [`ProcessorError::Tokenizer`] if the tokenizer fails.
    pub(crate) fn encode_plain(&self, text: &str) -> Result<Vec<u32>, ProcessorError> {
        guarded(&self.path, || bare_ids(&self.tokenizer, text).map_err(tokenize_error))
    }

    fn encode(&self, text: &str, images: &[&ImageLayout]) -> Result<Vec<u32>, ProcessorError> {
        let image = self.special.image.as_ref();
        let text = match image {
            // our template and many others write `<image>` whatever the token is called
            Some(image) if image.text != IMAGE_TOKEN => Cow::Owned(text.replace(IMAGE_TOKEN, &image.text)),
            _ => Cow::Borrowed(text),
        };
        let encoded = self.encode_plain(&text)?;
        let mut tokens = encoded.as_slice();
        let mut ids = self.prefix.clone();
        if let Some(bos) = &self.special.bos {
            // some templates write BOS although their tokenizer adds it
            let written = tokens.iter().take_while(|id| **id == bos.id).count();
            tokens = &tokens[written..];
            if written > 0 && !ids.contains(&bos.id) {
                ids.push(bos.id);
            }
        }
        let is_image = |id: u32| image.is_some_and(|image| image.id == id);
        let found = tokens.iter().filter(|id| is_image(**id)).count();
        let expected = images.len();
        if found != expected {
            return Err(ProcessorError::ImageTokens { expected, found });
        }
        ids.reserve(tokens.len() + images.iter().map(|layout| layout.placeholder().len()).sum::<usize>());
        let mut layouts = images.iter();
        for id in tokens {
            // there are as many image tokens as layouts
            match if is_image(*id) { layouts.next() } else { None } {
                Some(layout) => ids.extend_from_slice(layout.placeholder()),
                None => ids.push(*id),
            }
        }
        Ok(ids)
    }
}

/// Returns the ids of a text, without those that the post-processor adds.
///
/// The ids are those of [`Tokenizer::encode_fast`](tokenizers::TokenizerImpl::encode_fast). That
/// function also makes an [`Encoding`](tokenizers::Encoding), which takes a fifth of its time and is
/// not needed here.
fn bare_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
    let added = tokenizer.get_added_vocabulary();
    let mut text = added.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(splitter) = tokenizer.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut text)?;
    }
    tokenizer.get_model().tokenize_in_pretokenized(&mut text, None)?;
    let splits = text.get_splits(OffsetReferential::Normalized, OffsetType::None);
    Ok(splits.iter().filter_map(|(_, _, tokens)| tokens.as_ref()).flatten().map(|token| token.id).collect())
}

/// The ids that the tokenizer's post-processor puts in front of a text. Ids after the text are left
/// out: a prompt continues with its answer, and the template writes the end of an answer. With a
/// tokenizer.json, `add_bos_token` of `tokenizer_config.json` has no effect, as in transformers.
fn prefix(tokenizer: &Tokenizer) -> Result<Vec<u32>, ProcessorError> {
    const PROBE: &str = "a";
    let bare = bare_ids(tokenizer, PROBE).map_err(tokenize_error)?;
    let processed = tokenizer.encode_fast(PROBE, false).map_err(tokenize_error)?;
    if processed.get_ids() != bare {
        let source = "the post-processor of tokenizer.json repeats or removes the text".into();
        return Err(ProcessorError::Tokenize { source });
    }
    let full = tokenizer.encode_fast(PROBE, true).map_err(tokenize_error)?;
    let at = full.get_ids().windows(bare.len().max(1)).position(|window| window == bare);
    Ok(full.get_ids()[..at.unwrap_or(0)].to_vec())
}

/// Checks that a template of the post-processor has all the special tokens that it writes. The
/// tokenizers crate reads one without them, and panics when it encodes.
fn check_post_processor(tokenizer: &Tokenizer, path: &Path) -> Result<(), ProcessorError> {
    let error = |key: &str, expected: String, found: String| {
        ProcessorError::from(JsonError::Value { path: path.to_owned(), key: key.to_owned(), expected, found })
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
/// gives no way to check the parts beforehand. Nothing of ours is changed by what is run, so no
/// state is left half-changed.
fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, ProcessorError>) -> Result<T, ProcessorError> {
    catch_panic(run).unwrap_or_else(|panic| {
        let source = format!("its parts contradict each other: {panic}").into();
        Err(ProcessorError::Tokenizer { path: path.to_owned(), source })
    })
}

fn tokenize_error(source: tokenizers::Error) -> ProcessorError {
    ProcessorError::Tokenize { source }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
