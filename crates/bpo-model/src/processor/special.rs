//! The tokens that begin and end a sequence and that stand for the image.

use std::path::Path;

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::ProcessorError;
use super::files::read_json;

/// A token that no ordinary text produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// How it is written in a text.
    pub text: String,
    /// Its row in the embedding table.
    pub id: u32,
}

/// The special tokens of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpecialTokens {
    /// Begins every sequence, where the model has such a token.
    pub bos: Option<SpecialToken>,
    /// Ends every answer.
    pub eos: SpecialToken,
    /// Every token that ends generation: EOS first, then what else `generation_config.json` and `config.json` list.
    pub stop: Vec<u32>,
    /// Stands for one image patch.
    pub image: SpecialToken,
    /// Whether `tokenizer_config.json` asks for BOS (`add_bos_token`); if it does not say, the tokenizer decides.
    pub(super) add_bos: Option<bool>,
}

/// `tokenizer_config.json` and `special_tokens_map.json`, the keys needed here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenTexts {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    add_bos_token: Option<bool>,
}

/// A token as old and new versions of transformers write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Added { content: String },
}

impl TokenText {
    fn into_text(self) -> String {
        match self {
            Self::Plain(text) | Self::Added { content: text } => text,
        }
    }
}

/// `generation_config.json` and `config.json`, the keys needed here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenIds {
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    image_token_id: Option<u32>,
    image_token_index: Option<u32>,
    text_config: Option<Box<TokenIds>>,
}

/// Models that stop at several tokens list them, the usual one first.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

impl SpecialTokens {
    /// BOS and EOS by their text in `tokenizer_config.json`, then `special_tokens_map.json`, then by their id in
    /// `generation_config.json` and `config.json`; the image token by `image_token`, then by its id in `config.json`,
    /// then as `<image>`.
    pub(super) fn from_dir(
        dir: &Path,
        tokenizer: &Tokenizer,
        image_token: Option<u32>,
    ) -> Result<Self, ProcessorError> {
        let texts: TokenTexts = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let map: TokenTexts = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        let generation: TokenIds = read_json(&dir.join("generation_config.json"))?.unwrap_or_default();
        let config: TokenIds = read_json(&dir.join("config.json"))?.unwrap_or_default();
        let inner = config.text_config.as_deref();

        let by_text = |text: Option<TokenText>| {
            let text = text?.into_text();
            Some(SpecialToken { id: tokenizer.token_to_id(&text)?, text })
        };
        let by_id = |id: Option<u32>| {
            let id = id?;
            Some(SpecialToken { id, text: tokenizer.id_to_token(id)? })
        };
        let listed: Vec<u32> = [Some(&generation), Some(&config), inner]
            .into_iter()
            .flatten()
            .filter_map(|ids| ids.eos_token_id.as_ref())
            .flat_map(OneOrMany::as_slice)
            .copied()
            .collect();
        let no =
            |token, hint: &str| ProcessorError::NoToken { dir: dir.to_owned(), token, hint: hint.to_owned() };

        let bos = by_text(texts.bos_token)
            .or_else(|| by_text(map.bos_token))
            .or_else(|| by_id(generation.bos_token_id))
            .or_else(|| by_id(config.bos_token_id.or_else(|| inner?.bos_token_id)));
        let eos = by_text(texts.eos_token)
            .or_else(|| by_text(map.eos_token))
            .or_else(|| by_id(listed.first().copied()))
            .ok_or_else(|| {
                no("end", "none in tokenizer_config.json, generation_config.json or config.json")
            })?;
        let image = match image_token.or(config.image_token_id).or(config.image_token_index) {
            Some(id) => by_id(Some(id))
                .ok_or_else(|| no("image", &format!("tokenizer.json has no token with the id {id}")))?,
            None => by_text(Some(TokenText::Plain(super::IMAGE_TOKEN.to_owned())))
                .ok_or_else(|| no("image", "none in config.json, and tokenizer.json has no <image>"))?,
        };
        let mut stop = vec![eos.id];
        for id in listed {
            if !stop.contains(&id) {
                stop.push(id);
            }
        }
        Ok(Self { bos, eos, stop, image, add_bos: texts.add_bos_token })
    }
}
