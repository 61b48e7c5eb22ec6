//! The tokens that a converted checkpoint has and an original one has not.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bpo_pairs::Limits;
use bpo_pairs::files::{FileError, read_text};
use serde_json::{Value, json};

use crate::error::ModelError;
use crate::json::{JsonError, check_lfs};
use crate::processor::{IMAGE_TOKEN, ProcessorError};

/// The padding token of converted checkpoints.
const PAD_TOKEN: &str = "<pad>";

/// Tokens of the converted tokenizer.
pub(super) struct Tokens {
    /// Id of `<image>`.
    pub(super) image: u32,
    /// Id of the padding token.
    pub(super) pad: u32,
    /// The padding token.
    pub(super) pad_text: String,
    /// The largest id and one more.
    pub(super) ids: usize,
    /// Tokens that the tokenizer did not have, with their ids.
    pub(super) added: Vec<(String, u32)>,
}

impl Tokens {
    /// Reads `tokenizer.json` of a checkpoint and adds the tokens. With `keeps_padding` a padding
    /// token that the tokenizer's configuration names is kept. Returns the changed file.
    pub(super) fn add(dir: &Path, keeps_padding: bool) -> Result<(Value, Self), ModelError> {
        let path = dir.join("tokenizer.json");
        let text = match read_text(&path, Limits::DEFAULT.tokenizer_bytes) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Err(ProcessorError::NoTokenizer { path }.into()),
            Err(error) => return Err(error.into()),
        };
        check_lfs(text.as_bytes(), &path)?;
        let mut file: Value =
            serde_json::from_str(&text).map_err(|source| JsonError::Syntax { path: path.clone(), source })?;
        let mut known = Known::of(&file).ok_or_else(|| JsonError::Value {
            path: path.clone(),
            key: "model.vocab".to_owned(),
            expected: "a vocabulary, and a list of `added_tokens` with ids".to_owned(),
            found: "other values".to_owned(),
        })?;
        let mut added = Vec::new();
        let image = known.add(&mut file, IMAGE_TOKEN, &mut added);
        let kept = if keeps_padding { padding_of(dir)? } else { None };
        let pad_text = kept.unwrap_or_else(|| PAD_TOKEN.to_owned());
        let pad = known.add(&mut file, &pad_text, &mut added);
        Ok((file, Self { image, pad, pad_text, ids: known.next as usize, added }))
    }
}

/// The ids of a tokenizer.
struct Known {
    ids: HashMap<String, u32>,
    /// Texts of `added_tokens`.
    added: HashSet<String>,
    next: u32,
}

impl Known {
    /// Returns `None` if the file has not the structure of a tokenizer.
    fn of(file: &Value) -> Option<Self> {
        let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let mut ids = HashMap::new();
        match &file["model"]["vocab"] {
            // BPE
            Value::Object(vocabulary) => {
                for (text, id) in vocabulary {
                    ids.insert(text.clone(), number(id)?);
                }
            }
            // Unigram: the position is the id
            Value::Array(vocabulary) => {
                for (id, entry) in (0..).zip(vocabulary) {
                    ids.insert(entry.get(0)?.as_str()?.to_owned(), id);
                }
            }
            _ => return None,
        }
        let mut added = HashSet::new();
        for token in file.get("added_tokens").and_then(Value::as_array)? {
            let text = token["content"].as_str()?.to_owned();
            ids.insert(text.clone(), number(&token["id"])?);
            added.insert(text);
        }
        let next = ids.values().max().copied()?.checked_add(1)?;
        if next as usize > Limits::DEFAULT.vocabulary {
            return None;
        }
        Some(Self { ids, added, next })
    }

    /// Returns the id of a special token, which is added if it is not known.
    fn add(&mut self, file: &mut Value, text: &str, new: &mut Vec<(String, u32)>) -> u32 {
        let id = self.ids.get(text).copied().unwrap_or(self.next);
        if self.added.insert(text.to_owned()) {
            let token = json!({
                "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            });
            file["added_tokens"].as_array_mut().into_iter().for_each(|tokens| tokens.push(token.clone()));
            new.push((text.to_owned(), id));
        }
        self.ids.insert(text.to_owned(), id);
        self.next = self.next.max(id + 1);
        id
    }
}

/// Returns the padding token that the files of a tokenizer name.
fn padding_of(dir: &Path) -> Result<Option<String>, FileError> {
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let text = match read_text(&dir.join(name), Limits::DEFAULT.settings_bytes) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        // a broken file is an error when the converted tokenizer is read
        let settings: Value = serde_json::from_str(&text).unwrap_or_default();
        let pad = &settings["pad_token"];
        if let Some(text) = pad.as_str().or_else(|| pad["content"].as_str()) {
            return Ok(Some(text.to_owned()));
        }
    }
    Ok(None)
}
