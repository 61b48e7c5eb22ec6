//! Special tokens: those that begin and end a sequence, and the image token.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::ProcessorError;
use super::sources::{GENERATION, MODEL, warn_of};
use super::tokens::TokenSettings;
use crate::json::{JsonError, optional, read_json};
use bpo_pairs::Limits;

/// A special token, which no ordinary text produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// The text of the token.
    pub text: String,
    /// The id of the token: the row in the embedding.
    pub id: u32,
}

/// The special tokens of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// Begins every sequence (BOS), where the model has such a token.
    pub bos: Option<SpecialToken>,
    /// Ends a text (EOS). It ends an answer where the chat template writes no token after one.
    pub eos: SpecialToken,
    /// Ends an answer: the token that the chat template writes after an answer, or EOS.
    pub end: SpecialToken,
    /// Every token that ends generation: the end of an answer, EOS, then those of
    /// `generation_config.json`, or of `config.json` where that has none.
    pub stop: Vec<u32>,
    /// Stands for one image feature. `None` where the model takes no images.
    pub image: Option<SpecialToken>,
    /// Names and texts of tokens, for chat templates.
    pub(super) named: BTreeMap<String, String>,
    /// Added tokens, which are found in a text before it is split.
    pub(super) added: Vec<SpecialToken>,
}

/// The keys of `generation_config.json` and `config.json` that are read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenIds {
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    image_token_id: Option<u32>,
    image_token_index: Option<u32>,
    text_config: Option<Box<TokenIds>>,
}

/// One id, or a list. Models that stop at several tokens list the usual one first.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token's id, or a list of them")]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl TokenIds {
    fn eos(&self) -> &[u32] {
        match &self.eos_token_id {
            Some(OneOrMany::One(id)) => std::slice::from_ref(id),
            Some(OneOrMany::Many(ids)) => ids,
            None => &[],
        }
    }
}

impl SpecialTokens {
    /// Finds BOS and EOS by the text in `settings`, then by their id in `generation_config.json`
    /// and `config.json`; the image token, of a model that takes images, by its id in `config.json`,
    /// then as `<image>`.
    pub(super) fn from_dir(
        dir: &Path,
        tokenizer: &Tokenizer,
        settings: TokenSettings,
        takes_images: bool,
    ) -> Result<Self, ProcessorError> {
        let generation: TokenIds = optional(read_json(&dir.join(GENERATION)))?.unwrap_or_default();
        let config: TokenIds = optional(read_json(&dir.join(MODEL)))?.unwrap_or_default();
        let inner = config.text_config.as_deref();
        for (ids, file, key) in [
            (generation.eos(), GENERATION, "eos_token_id"),
            (config.eos(), MODEL, "eos_token_id"),
            (inner.map_or(&[][..], TokenIds::eos), MODEL, "text_config.eos_token_id"),
        ] {
            if ids.len() > Limits::DEFAULT.ids {
                return Err(JsonError::Value {
                    path: dir.join(file),
                    key: key.to_owned(),
                    expected: format!("at most {} ids", Limits::DEFAULT.ids),
                    found: format!("{} of them", ids.len()),
                }
                .into());
            }
        }

        let by_text = |text: Option<&str>| {
            let text = text?;
            Some(SpecialToken { id: tokenizer.token_to_id(text)?, text: text.to_owned() })
        };
        let by_id = |id: Option<u32>| {
            let id = id?;
            Some(SpecialToken { id, text: tokenizer.id_to_token(id)? })
        };
        let of_model: Vec<u32> =
            [Some(&config), inner].into_iter().flatten().flat_map(TokenIds::eos).copied().collect();
        let listed = match generation.eos() {
            [] => of_model,
            ids => {
                let of_generation: HashSet<_> = ids.iter().collect();
                if of_model.iter().any(|id| !of_generation.contains(id)) {
                    warn_of(dir, "`eos_token_id`", GENERATION, MODEL);
                }
                ids.to_vec()
            }
        };
        let no =
            |token, hint: &str| ProcessorError::NoToken { dir: dir.to_owned(), token, hint: hint.to_owned() };

        let bos = by_text(settings.text("bos_token"))
            .or_else(|| by_id(generation.bos_token_id))
            .or_else(|| by_id(config.bos_token_id.or_else(|| inner?.bos_token_id)));
        let eos = by_text(settings.text("eos_token")).or_else(|| by_id(listed.first().copied())).ok_or_else(
            || no("end", "none in tokenizer_config.json, generation_config.json or config.json"),
        )?;
        let image = match config.image_token_id.or(config.image_token_index) {
            _ if !takes_images => None,
            Some(id) => Some(
                by_id(Some(id))
                    .ok_or_else(|| no("image", &format!("tokenizer.json has no token with the id {id}")))?,
            ),
            None => Some(
                by_text(Some(super::IMAGE_TOKEN))
                    .ok_or_else(|| no("image", "none in config.json, and tokenizer.json has no <image>"))?,
            ),
        };
        // a checkpoint whose files name no token by text has them by id
        let mut named: BTreeMap<_, _> = settings.named.into_iter().collect();
        named.entry("eos_token".to_owned()).or_insert_with(|| eos.text.clone());
        if let Some(bos) = &bos {
            named.entry("bos_token".to_owned()).or_insert_with(|| bos.text.clone());
        }
        let added = tokenizer.get_added_tokens_decoder().into_iter();
        let added: Vec<_> = added.map(|(id, token)| SpecialToken { text: token.content, id }).collect();
        // any text could have an image token that is a piece of ordinary text
        if let Some(image) = &image
            && !added.iter().any(|token| token.id == image.id)
            && named.get("image_token") != Some(&image.text)
        {
            let hint = format!(
                "the id {} is {:?}, which is no added token of tokenizer.json, and not the `image_token` of the tokenizer",
                image.id, image.text
            );
            return Err(no("image", &hint));
        }
        let mut special =
            Self { bos, end: eos.clone(), stop: Vec::new(), image, named, added, eos: eos.clone() };
        special.stop_at([eos.id].into_iter().chain(listed));
        Ok(special)
    }

    /// The text of a token that the configuration files name.
    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    /// Replaces the token that ends answers.
    pub(super) fn set_end(&mut self, end: SpecialToken) {
        let stop = std::mem::take(&mut self.stop);
        self.stop_at([end.id].into_iter().chain(stop));
        self.end = end;
    }

    /// Removes white space and end tokens at the end of `text`, however often they occur.
    pub(super) fn strip_end<'a>(&self, text: &'a str) -> &'a str {
        strip_end(text, &[&self.end.text, &self.eos.text])
    }

    fn stop_at(&mut self, ids: impl Iterator<Item = u32>) {
        let mut known: HashSet<u32> = self.stop.iter().copied().collect();
        self.stop.extend(ids.filter(|id| known.insert(*id)));
    }
}

/// Removes white space and `ends` at the end of `text`, however often they occur.
pub(super) fn strip_end<'a>(text: &'a str, ends: &[&str]) -> &'a str {
    let mut text = text.trim_end();
    let strip =
        |text: &'a str| ends.iter().filter(|end| !end.is_empty()).find_map(|end| text.strip_suffix(end));
    while let Some(rest) = strip(text) {
        text = rest.trim_end();
    }
    text
}
