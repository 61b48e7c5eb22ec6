//! The small files of a converted checkpoint.

use std::path::Path;

use bpo_pairs::files::write_bytes;
use serde_json::{Map, Value, json};

use super::config::Original;
use super::tokenizer::Tokens;
use crate::checkpoint::copy_small_files;
use crate::error::ModelError;
use crate::json::{optional, read_json};
use crate::processor::{CHAT_TEMPLATES, IMAGE_TOKEN};

/// The conversations of Vicuna, as the checkpoints of llava-hf have them.
const VICUNA: &str = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'] | upper + ': ' }}{% endif %}\
    {% for c in m['content'] if c['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}\
    {% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}\
    {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// Writes the tokenizer and the processor of the converted checkpoint. Returns whether it has the
/// chat template of Vicuna, because the original has none.
pub(super) fn write(
    dir: &Path,
    out: &Path,
    original: &Original,
    tokens: &Tokens,
    tokenizer: &Value,
) -> Result<bool, ModelError> {
    copy_small_files(dir, out, is_copied)?;
    write_json(&out.join("tokenizer.json"), tokenizer)?;
    edit(out, "tokenizer_config.json", true, |settings| {
        settings.insert("pad_token".to_owned(), tokens.pad_text.as_str().into());
        settings.insert("image_token".to_owned(), IMAGE_TOKEN.into());
        settings.insert("processor_class".to_owned(), "LlavaProcessor".into());
        if let Some(Value::Object(decoder)) = settings.get_mut("added_tokens_decoder") {
            for (text, id) in &tokens.added {
                let token = json!({
                    "content": text, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                    "special": true,
                });
                decoder.insert(id.to_string(), token);
            }
        }
    })?;
    edit(out, "special_tokens_map.json", false, |settings| {
        settings.insert("pad_token".to_owned(), tokens.pad_text.as_str().into());
        settings.insert("image_token".to_owned(), IMAGE_TOKEN.into());
    })?;
    edit(out, "added_tokens.json", false, |ids| {
        ids.extend(tokens.added.iter().map(|(text, id)| (text.clone(), (*id).into())));
    })?;
    edit(out, "generation_config.json", false, |settings| {
        settings.insert("pad_token_id".to_owned(), tokens.pad.into());
    })?;
    write_json(&out.join("processor_config.json"), &original.processor())?;
    let mut images = original.images.clone();
    images.insert("processor_class".to_owned(), "LlavaProcessor".into());
    write_json(&out.join("preprocessor_config.json"), &images.into())?;

    let settings: Map<String, Value> = read_json(&out.join("tokenizer_config.json"))?;
    let has_file = CHAT_TEMPLATES.iter().any(|name| out.join(name).exists());
    if has_file || settings.get("chat_template").is_some_and(|template| !template.is_null()) {
        return Ok(false);
    }
    if !original.is_vicuna() {
        return Err(ModelError::Unsupported {
            path: dir.join("tokenizer_config.json"),
            key: "chat_template".to_owned(),
            found: "missing".to_owned(),
            supported: "a template, here or in chat_template.jinja, with <image> for each image".to_owned(),
        });
    }
    write_bytes(&out.join("chat_template.jinja"), VICUNA.as_bytes())?;
    Ok(true)
}

/// Files of the tokenizer and of generation, and licences.
fn is_copied(name: &Path) -> bool {
    const STARTS: [&str; 10] = [
        "tokenizer",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "merges.txt",
        "vocab.",
        "chat_template.",
        "additional_chat_templates/",
        "LICENSE",
        "NOTICE",
    ];
    name.to_str().is_some_and(|name| STARTS.iter().any(|start| name.starts_with(start)))
}

/// Changes a JSON file. A missing file is created with `is_needed`, and otherwise left out.
fn edit(
    dir: &Path,
    name: &str,
    is_needed: bool,
    change: impl FnOnce(&mut Map<String, Value>),
) -> Result<(), ModelError> {
    let path = dir.join(name);
    let found: Option<Map<String, Value>> = optional(read_json(&path))?;
    let Some(mut settings) = found.or_else(|| is_needed.then(Map::new)) else { return Ok(()) };
    change(&mut settings);
    write_json(&path, &settings.into())
}

/// Writes a JSON file with indentation.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    // the alternate form of a value is indented JSON
    Ok(write_bytes(path, format!("{value:#}\n").as_bytes())?)
}
