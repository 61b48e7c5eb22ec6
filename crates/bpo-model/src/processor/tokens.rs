//! Tokens in the configuration files beside a tokenizer, and those that these files add to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::ProcessorError;
use super::sources::{TOKENIZER, TOKENIZER_CONFIG, TOKENS_MAP, first, warn_of};
use crate::json::{JsonError, from_value, optional, read_json, shown};

/// Names of tokens that every tokenizer of transformers has, in its order.
const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// The key with tokens and the flags that are used.
const DECODER: &str = "added_tokens_decoder";
/// Added tokens and their ids, as old versions of transformers write them.
pub(super) const ADDED: &str = "added_tokens.json";

/// The tokens that the configuration files name.
pub(super) struct TokenSettings {
    /// Names and texts, for chat templates.
    pub named: Vec<(String, String)>,
    /// Whether a sequence begins with BOS, as `tokenizer_config.json` says.
    pub add_bos: Option<bool>,
}

/// A token, as old or new versions of transformers write it.
#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "expected a token's text, or an object with `content`")]
enum Token {
    Plain(String),
    Added(Flags),
}

/// A token and its flags. The default of `normalized` depends on whether it is special.
#[derive(Clone, Deserialize)]
struct Flags {
    content: String,
    lstrip: Option<bool>,
    rstrip: Option<bool>,
    normalized: Option<bool>,
    single_word: Option<bool>,
    special: Option<bool>,
}

impl Flags {
    fn into_token(self, is_special: bool) -> AddedToken {
        let token = AddedToken::from(self.content, is_special || self.special.unwrap_or(false));
        let normalized = self.normalized.unwrap_or(token.normalized);
        token
            .lstrip(self.lstrip.unwrap_or(false))
            .rstrip(self.rstrip.unwrap_or(false))
            .single_word(self.single_word.unwrap_or(false))
            .normalized(normalized)
    }
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Added(Flags { content: text, .. }) => text,
        }
    }

    fn into_special(self) -> AddedToken {
        match self {
            Self::Plain(text) => AddedToken::from(text, true),
            Self::Added(flags) => flags.into_token(true),
        }
    }
}

/// An object whose keys keep their order, in which new tokens get their ids.
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// `extra_special_tokens`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a list of tokens, or a map from names to tokens")]
enum Extra {
    List(Vec<Token>),
    Named(Ordered<Token>),
}

/// `tokenizer_config.json` and `special_tokens_map.json`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    added_tokens_decoder: Option<BTreeMap<String, Flags>>,
    extra_special_tokens: Option<Extra>,
    additional_special_tokens: Option<Vec<Token>>,
    add_bos_token: Option<bool>,
    #[serde(flatten)]
    rest: Ordered<Value>,
}

/// The tokens that one file names.
#[derive(Default)]
struct Named {
    standard: BTreeMap<&'static str, Token>,
    /// Further tokens of the model, written as strings.
    own: Vec<(String, Token)>,
    /// Further tokens of the model, written as objects. They come before those written as strings.
    objects: Vec<(String, Token)>,
    /// Tokens without a name.
    extra: Vec<Token>,
}

impl Raw {
    fn read(path: &Path) -> Result<Self, ProcessorError> {
        Ok(optional(read_json(path))?.unwrap_or_default())
    }

    fn named(self, path: &Path) -> Result<Named, ProcessorError> {
        let mut named = Named::default();
        for (key, value) in self.rest.0.into_iter().filter(|(key, _)| key.ends_with("_token")) {
            let standard = STANDARD.iter().find(|name| **name == key);
            match (&value, standard) {
                (Value::Null, _) => {}
                (_, Some(name)) => {
                    named.standard.insert(name, from_value(&value, path, &key)?);
                }
                (Value::String(_), None) => named.own.push((key.clone(), from_value(&value, path, &key)?)),
                (Value::Object(object), None) if object.contains_key("__type") => {
                    named.objects.push((key.clone(), from_value(&value, path, &key)?));
                }
                _ => {}
            }
        }
        match (self.extra_special_tokens, self.additional_special_tokens) {
            (Some(Extra::Named(tokens)), _) => named.own.extend(tokens.0),
            (Some(Extra::List(tokens)), other) if !tokens.is_empty() || other.is_none() => {
                named.extra = tokens
            }
            (_, other) => named.extra = other.unwrap_or_default(),
        }
        Ok(named)
    }
}

impl TokenSettings {
    /// Reads the configuration files in `dir`, and adds their tokens and flags to `tokenizer`, as
    /// transformers does.
    ///
    /// # Errors
    /// [`ProcessorError::Json`] for a file that cannot be used, or an id that a new token cannot
    /// have.
    pub fn apply(dir: &Path, tokenizer: &mut Tokenizer) -> Result<Self, ProcessorError> {
        let (config_path, map_path) = (dir.join(TOKENIZER_CONFIG), dir.join(TOKENS_MAP));
        let mut config = Raw::read(&config_path)?;
        let map = Raw::read(&map_path)?.named(&map_path)?;
        let decoder = config.added_tokens_decoder.take();
        // the file and key of ids, for errors
        let (ids_path, ids_key) = match &decoder {
            Some(_) => (config_path.clone(), DECODER),
            None => (dir.join(ADDED), ""),
        };
        let add_bos = config.add_bos_token;
        let config = config.named(&config_path)?;
        let known = tokenizer.get_added_tokens_decoder();
        let (named, extra) = merged(dir, config, map, decoder.is_some(), tokenizer);

        let named_texts: HashSet<_> = named.iter().map(|(_, token)| token.text()).collect();
        let is_named = |text: &str| named_texts.contains(text);
        let mut ids = BTreeMap::new();
        match decoder {
            Some(decoder) => {
                for (id, flags) in decoder {
                    let special = is_named(&flags.content);
                    ids.insert(parse_id(&config_path, id)?, flags.into_token(special));
                }
                warn_of_flags(dir, known.values(), &ids);
            }
            None => {
                let is_special = |text: &str| {
                    named
                        .iter()
                        .any(|(name, token)| STANDARD.contains(&name.as_str()) && token.text() == text)
                        || extra.iter().any(|token| token.text() == text)
                };
                let legacy: Option<BTreeMap<String, u32>> = optional(read_json(&dir.join(ADDED)))?;
                let is_known: HashSet<_> = known.values().map(|token| token.content.as_str()).collect();
                let legacy = legacy.into_iter().flatten();
                for (text, id) in legacy.filter(|(text, _)| !is_known.contains(text.as_str())) {
                    let special = is_special(&text);
                    ids.insert(id, AddedToken::from(text, special));
                }
                ids.extend(known.iter().map(|(id, token)| (*id, token.clone())));
                for token in ids.values_mut().filter(|token| is_named(&token.content)) {
                    token.special = true;
                }
            }
        }
        let mut texts: BTreeSet<_> =
            known.values().chain(ids.values()).map(|token| token.content.clone()).collect();
        let mut tokens: Vec<_> = ids.values().cloned().collect();
        for token in named.iter().map(|(_, token)| token).chain(&extra) {
            if texts.insert(token.text().to_owned()) {
                tokens.push(token.clone().into_special());
            }
        }
        tokenizer.add_tokens(tokens).map_err(|source| ProcessorError::Tokenize { source })?;
        for (id, token) in ids {
            let has = tokenizer.token_to_id(&token.content);
            if has != Some(id) {
                let text = shown(&Value::from(token.content));
                return Err(JsonError::Value {
                    path: ids_path,
                    key: ids_key.to_owned(),
                    expected: match has {
                        Some(has) => format!("the id {has} for the token {text}, as the tokenizer has it"),
                        None => "tokens that are not empty".to_owned(),
                    },
                    found: id.to_string(),
                }
                .into());
            }
        }
        let named = named.into_iter().map(|(name, token)| (name, token.text().to_owned())).collect();
        Ok(Self { named, add_bos })
    }

    /// The text of a named token.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(other, _)| other == name).map(|(_, text)| text.as_str())
    }
}

/// Merges the tokens of both files. `decoder` says whether `tokenizer_config.json` lists added
/// tokens, in which case transformers does not read `special_tokens_map.json`.
fn merged(
    dir: &Path,
    mut config: Named,
    mut map: Named,
    decoder: bool,
    tokenizer: &Tokenizer,
) -> (Vec<(String, Token)>, Vec<Token>) {
    let mut named: Vec<(String, Token)> = Vec::new();
    for name in STANDARD {
        let (of_config, of_map) = (config.standard.remove(name), map.standard.remove(name));
        let text = |token: &Option<Token>| token.as_ref().map(|token| token.text().to_owned());
        let mut sources =
            [(TOKENS_MAP, text(&of_map), of_map), (TOKENIZER_CONFIG, text(&of_config), of_config)];
        if decoder {
            sources.reverse();
        }
        let texts = sources.iter().map(|(file, text, _)| (*file, text.clone()));
        first(dir, &format!("`{name}`"), texts);
        let token =
            sources.into_iter().find_map(|(file, _, token)| token.filter(|_| !decoder || file != TOKENS_MAP));
        // padding that was saved with the tokenizer names a token
        let padding = || {
            let padding = tokenizer.get_padding().filter(|_| name == "pad_token")?;
            Some(Token::Plain(padding.pad_token.clone()))
        };
        named.extend(token.or_else(padding).map(|token| (name.to_owned(), token)));
    }
    let of_map = if decoder { Named::default() } else { map };
    let own = of_map.objects.into_iter().chain(of_map.own).chain(config.objects).chain(config.own);
    for (name, token) in own {
        match named.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = token,
            None => named.push((name, token)),
        }
    }
    let mut extra = config.extra;
    for token in of_map.extra {
        if !extra.iter().any(|other| other.text() == token.text()) {
            extra.push(token);
        }
    }
    (named, extra)
}

fn parse_id(path: &Path, id: String) -> Result<u32, JsonError> {
    id.parse().map_err(|_| JsonError::Value {
        path: path.to_owned(),
        key: DECODER.to_owned(),
        expected: "ids of tokens as keys".to_owned(),
        found: shown(&Value::from(id)),
    })
}

/// Warns of tokens whose flags differ from those in the tokenizer's own file.
fn warn_of_flags<'a>(
    dir: &Path,
    known: impl Iterator<Item = &'a AddedToken>,
    counts: &BTreeMap<u32, AddedToken>,
) {
    let counts: HashMap<_, _> = counts.values().map(|token| (token.content.as_str(), token)).collect();
    let differs = |old: &&AddedToken| counts.get(old.content.as_str()).is_some_and(|new| new != old);
    let texts: BTreeSet<_> = known.filter(differs).map(|token| format!("{:?}", token.content)).collect();
    if !texts.is_empty() {
        let texts: Vec<_> = texts.into_iter().collect();
        warn_of(
            dir,
            &format!("how the tokens {} are found in a text", texts.join(", ")),
            TOKENIZER_CONFIG,
            TOKENIZER,
        );
    }
}
