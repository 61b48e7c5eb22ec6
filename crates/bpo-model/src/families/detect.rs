//! Finds the model family of a checkpoint by its `config.json`. This comes before anything else is
//! read, so the error names the family.

use std::path::Path;

use serde_json::{Map, Value};

use super::{FamilySpec, LANGUAGE_MODELS};
use crate::error::ModelError;
use crate::json::{JsonError, read_json, shown};

/// Keys in `config.json` of LLaVA's original code, which transformers does not write.
const ORIGINAL: [&str; 3] = ["mm_vision_tower", "mm_projector_type", "mm_hidden_size"];

/// Files of LLaVA's original code in a checkpoint's directory.
const ORIGINAL_FILES: [&str; 2] = ["mm_projector.bin", "non_lora_trainables.bin"];

/// Finds the family of a checkpoint among `families`, by `model_type`, or by the class in
/// `architectures` where that is missing.
///
/// # Errors
/// [`ModelError::OriginalLlava`], [`ModelError::NoConfig`], [`ModelError::Family`],
/// [`ModelError::Quantized`] and [`ModelError::Json`].
pub(super) fn detect(
    dir: &Path,
    families: &[&'static FamilySpec],
) -> Result<&'static FamilySpec, ModelError> {
    let path = &dir.join("config.json");
    if !path.exists()
        && let Some(file) = ORIGINAL_FILES.iter().find(|file| dir.join(file).exists())
    {
        return Err(ModelError::OriginalLlava { path: dir.into(), found: (*file).to_owned() });
    }
    if dir.is_dir() && !path.exists() {
        return Err(ModelError::NoConfig { dir: dir.into() });
    }
    let config: Map<String, Value> = read_json(path)?;
    let original = |found: String| Err(ModelError::OriginalLlava { path: path.into(), found });
    if let Some(key) = ORIGINAL.iter().find(|key| config.contains_key(**key)) {
        return original(format!("the key {key}"));
    }
    let architectures = config.get("architectures").and_then(Value::as_array);
    if let Some(name) = architectures
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| name.starts_with("Llava") && name.ends_with("ForCausalLM"))
    {
        return original(format!("the architecture {name}"));
    }
    if let Some(file) = ORIGINAL_FILES.iter().find(|file| dir.join(file).exists()) {
        return original(format!("the file {file} beside it"));
    }
    let refuse = |key: &str, kind: &str, supported: String| {
        let name = known(kind).map(|name| format!(" ({name})")).unwrap_or_default();
        Err(ModelError::Family { path: path.into(), found: format!("{key} is {kind}{name}"), supported })
    };
    const KEY: &str = "model_type";
    let classes = || architectures.into_iter().flatten().filter_map(Value::as_str);
    let of_class = |family: &FamilySpec| classes().any(|name| name == family.class);
    let model_type = match at(&config, KEY) {
        Some(Value::String(model_type)) => model_type.as_str(),
        Some(other) => {
            let (path, key, expected) = (path.clone(), KEY.to_owned(), "a text".to_owned());
            return Err(JsonError::Value { path, key, expected, found: shown(other) }.into());
        }
        None => match families.iter().find(|family| of_class(family)) {
            Some(family) => family.model_type,
            None => {
                let found = match LANGUAGE_MODELS.iter().find(|family| of_class(family)) {
                    Some(family) => format!("the architecture is {} ({TEXT_ONLY})", family.class),
                    None => format!("{KEY} is missing"),
                };
                let path = path.clone();
                return Err(ModelError::Family { path, found, supported: supported(families) });
            }
        },
    };
    if is_original(model_type) {
        return original(format!("the model_type {model_type}"));
    }
    let Some(family) = families.iter().find(|family| family.model_type == model_type) else {
        return refuse(KEY, model_type, supported(families));
    };
    for (key, kinds) in family.kinds {
        // a missing key has the default of transformers, which is supported
        if let Some(Value::String(kind)) = at(&config, key)
            && !kinds.contains(&kind.as_str())
        {
            return refuse(key, kind, format!("with model_type {model_type}: {}", kinds.join(", ")));
        }
    }
    for key in ["quantization_config", "text_config.quantization_config", "vision_config.quantization_config"]
    {
        if let Some(value) = at(&config, key) {
            let method =
                value.get("quant_method").and_then(Value::as_str).unwrap_or("method not given").to_owned();
            return Err(ModelError::Quantized { path: path.into(), key: key.to_owned(), method });
        }
    }
    Ok(family)
}

/// Families with their `model_type`.
fn supported(families: &[&FamilySpec]) -> String {
    let families = families.iter().map(|family| format!("{} ({})", family.model_type, family.title));
    families.collect::<Vec<_>>().join("; ")
}

/// Whether this is a `model_type` of LLaVA's original code. They begin as those of transformers do.
fn is_original(model_type: &str) -> bool {
    ["llava_llama", "llava_mistral", "llava_mpt", "llava_qwen"].contains(&model_type)
}

/// The value at a dotted key. `None` if it is missing or null.
fn at<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let value = config.get(first)?;
    rest.map_or(Some(value), |rest| value.get(rest)).filter(|value| !value.is_null())
}

/// What a language model without images is, where another family is needed.
const TEXT_ONLY: &str =
    "a language model without images, which can only inject errors: `inject.model` (--inject-model)";

/// The name of a model family that is not supported, or not where an image is.
fn known(model_type: &str) -> Option<&'static str> {
    if LANGUAGE_MODELS.iter().any(|family| family.model_type == model_type) {
        return Some(TEXT_ONLY);
    }
    const NAMES: [(&str, &str); 6] = [
        (
            "internvl_chat",
            "InternVL in its own code; names of checkpoints in the format of transformers end with -hf",
        ),
        ("llava_next_video", "LLaVA-NeXT-Video"),
        ("video_llava", "Video-LLaVA"),
        ("qwen3_vl_moe", "Qwen3-VL with a mixture of experts"),
        ("gemma2", "a Gemma 2 language model"),
        ("phi3", "a Phi-3 language model"),
    ];
    NAMES.iter().find(|(name, _)| *name == model_type).map(|(_, name)| *name)
}
