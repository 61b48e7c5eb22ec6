//! The order of files for settings that several files can have. It is that of transformers 5. Where
//! two files differ, a warning names both and the one that is used.
//!
//! The first file that has the setting is used:
//!
//! - image processor: `processor_config.json` (`image_processor`), `preprocessor_config.json`
//! - chat template: `processor_config.json`, `chat_template.json`, `chat_template.jinja`,
//!   `additional_chat_templates/default.jinja`, `tokenizer_config.json`
//! - named tokens: `special_tokens_map.json` unless `tokenizer_config.json` has
//!   `added_tokens_decoder`; `tokenizer_config.json`
//! - flags of added tokens: `tokenizer_config.json` (`added_tokens_decoder`), `tokenizer.json`,
//!   `added_tokens.json`
//! - tokens that end generation: `generation_config.json`, `config.json`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bpo_pairs::UntrustedPath;
use serde::Deserialize;
use serde_json::Value;

use super::ProcessorError;
use crate::json::{JsonError, optional, read_json, read_plain};

/// Settings of the processor.
pub(super) const PROCESSOR: &str = "processor_config.json";
/// Settings of the image processor.
pub(super) const IMAGES: &str = "preprocessor_config.json";
/// Settings of the tokenizer.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Named tokens, as versions of transformers before 5 write them.
pub(super) const TOKENS_MAP: &str = "special_tokens_map.json";
/// Settings of generation.
pub(super) const GENERATION: &str = "generation_config.json";
/// The model's configuration.
pub(super) const MODEL: &str = "config.json";

/// Files of chat templates.
pub(crate) const CHAT_TEMPLATES: [&str; 3] = [TEMPLATE_JSON, TEMPLATE, ADDITIONAL_TEMPLATE];
const TEMPLATE: &str = "chat_template.jinja";
/// The only file in a subdirectory.
pub(crate) const ADDITIONAL_TEMPLATE: &str = "additional_chat_templates/default.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";
/// Files that a model and its processor are read from, besides weights.
pub(crate) const READ: [&str; 13] = [
    MODEL,
    GENERATION,
    PROCESSOR,
    IMAGES,
    super::video::VIDEOS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TOKENS_MAP,
    super::tokens::ADDED,
    "model.safetensors.index.json",
    TEMPLATE,
    TEMPLATE_JSON,
    ADDITIONAL_TEMPLATE,
];

/// Warns that two files of a checkpoint differ.
pub(crate) fn warn_of(dir: &Path, setting: &str, counts: &str, other: &str) {
    let dir = UntrustedPath(dir);
    tracing::warn!(
        "{dir}: {counts} and {other} disagree about {setting}; {counts} counts, as in transformers"
    );
}

/// Returns the first of `sources` that is present, and warns of each later one that differs from
/// it.
pub(super) fn first<T: PartialEq, S: AsRef<str>>(
    dir: &Path,
    setting: &str,
    sources: impl IntoIterator<Item = (S, Option<T>)>,
) -> Option<(S, T)> {
    let mut present = sources.into_iter().filter_map(|(file, value)| Some((file, value?)));
    let (counts, value) = present.next()?;
    for (other, _) in present.filter(|(_, other)| *other != value) {
        warn_of(dir, setting, counts.as_ref(), other.as_ref());
    }
    Some((counts, value))
}

/// The chat template and its file.
pub(super) fn chat_template(dir: &Path) -> Result<Option<(String, String)>, ProcessorError> {
    let mut sources = Vec::new();
    for name in [PROCESSOR, TEMPLATE_JSON] {
        sources.push((name, template_in(dir.join(name))?));
    }
    for name in [TEMPLATE, ADDITIONAL_TEMPLATE] {
        sources.push((name, optional(read_plain(&dir.join(name)))?));
    }
    sources.push((TOKENIZER_CONFIG, template_in(dir.join(TOKENIZER_CONFIG))?));
    // Jinja does not distinguish line ends
    let same = |source: String| source.replace("\r\n", "\n").trim_end_matches('\n').to_owned();
    let texts: BTreeMap<_, _> =
        sources.iter().filter_map(|(name, source)| Some((*name, source.clone()?))).collect();
    let compared = sources.into_iter().map(|(name, source)| (name, source.map(same)));
    let counts = first(dir, "the chat template", compared);
    Ok(counts.and_then(|(name, _)| Some((texts.get(name)?.clone(), name.to_owned()))))
}

/// The forms of a `chat_template` in JSON.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a template, a list of {name, template}, or a map from names to templates"
)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
    Map(BTreeMap<String, String>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// The chat template in a JSON file. Of several, the one named `default`.
fn template_in(path: PathBuf) -> Result<Option<String>, ProcessorError> {
    const DEFAULT: &str = "default";
    #[derive(Deserialize)]
    struct Holder {
        chat_template: Option<Templates>,
    }
    let Some(templates) = optional(read_json::<Holder>(&path))?.and_then(|holder| holder.chat_template)
    else {
        return Ok(None);
    };
    let mut named: BTreeMap<_, _> = match templates {
        Templates::One(template) => return Ok(Some(template)),
        Templates::Named(list) => list.into_iter().map(|t| (t.name, t.template)).collect(),
        Templates::Map(map) => map,
    };
    match named.remove(DEFAULT) {
        Some(template) => Ok(Some(template)),
        None => {
            let names: Vec<_> = named.into_keys().collect();
            Err(JsonError::Value {
                path,
                key: "chat_template".to_owned(),
                expected: "a template named default".to_owned(),
                found: Value::from(names).to_string(),
            }
            .into())
        }
    }
}
