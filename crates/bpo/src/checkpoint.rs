//! Loading of a checkpoint with its processor and adapter.

use std::path::Path;

use bpo_model::{LoadOptions, LoraConfig, Processor, Vlm, VlmConfig, base_of_adapter};
use bpo_pairs::files::{read_bytes, write_bytes};
use bpo_pairs::{Fingerprint, Limits};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::device::Dtype;
use crate::error::BpoError;
use crate::fingerprint::{ADAPTER_CONFIG, check_checkpoint, check_is_adapter, fingerprint_weights};
use crate::hub::HubModel;

/// File in an adapter's directory that records which weights the adapter was trained on. PEFT
/// ignores it.
const ADAPTER_BASE: &str = "base.json";

/// A model with its processor, and the settings of its adapter.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The model, frozen.
    pub model: Vlm,
    /// Image processor, chat template and tokenizer.
    pub processor: Processor,
    /// Settings of the adapter, if the model was loaded with one.
    pub adapter: Option<LoraConfig>,
}

impl Checkpoint {
    /// Loads a Hugging Face directory of a supported model.
    ///
    /// # Errors
    /// Returns an error if a file is missing or broken, if the files belong to different
    /// checkpoints, or if weights do not match the configuration, in which case the error lists all
    /// of them.
    pub fn load(dir: &Path, dtype: Dtype, device: &Device) -> Result<Self, BpoError> {
        Self::load_as(ModelUse::Images, dir, dtype, device)
    }

    /// Loads a Hugging Face directory of a language model without images, or of a vision-language
    /// model, to answer texts.
    ///
    /// # Errors
    /// Returns the errors of [`load`](Self::load).
    pub fn load_language_model(dir: &Path, dtype: Dtype, device: &Device) -> Result<Self, BpoError> {
        Self::load_as(ModelUse::Text, dir, dtype, device)
    }

    fn load_as(usage: ModelUse, dir: &Path, dtype: Dtype, device: &Device) -> Result<Self, BpoError> {
        // all small files are read before the weights, so that their errors show early
        let processor = usage.processor(dir)?;
        let options = LoadOptions::default().with_dtype(dtype.into());
        let model = match usage {
            ModelUse::Images => Vlm::from_pretrained(dir, &options, device)?,
            ModelUse::Text => Vlm::from_pretrained_for_text(dir, &options, device)?,
        };
        model.config().check_processor(&processor)?;
        Ok(Self { model, processor, adapter: None })
    }

    /// Loads a checkpoint and, if `adapter` is given, a PEFT adapter onto it.
    ///
    /// # Errors
    /// Returns the errors of [`load`](Self::load) and [`check_adapter`], and an error if the
    /// adapter does not match the model.
    pub fn load_with_adapter(
        dir: &Path,
        adapter: Option<&Path>,
        dtype: Dtype,
        device: &Device,
    ) -> Result<Self, BpoError> {
        adapter.map_or(Ok(()), |adapter| check_adapter(adapter, dir))?;
        let checkpoint = Self::load(dir, dtype, device)?;
        let Some(adapter) = adapter else { return Ok(checkpoint) };
        let (model, settings) = bpo_model::load_adapter(checkpoint.model, adapter)?;
        Ok(Self { model, adapter: Some(settings), ..checkpoint })
    }
}

/// What a model is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelUse {
    /// Questions about images: a vision-language model.
    Images,
    /// Texts: a language model without images, or a vision-language model.
    Text,
}

impl ModelUse {
    /// Reads the processor of a model. Checks that the model is supported, without its weights.
    ///
    /// # Errors
    /// Returns an error if a file is missing or broken, or the model is not supported.
    pub(crate) fn processor(self, dir: &Path) -> Result<Processor, BpoError> {
        check_base(dir)?;
        // `config.json` comes first, because the processor files of another model family give
        // misleading errors
        let config = match self {
            Self::Images => VlmConfig::from_dir(dir)?,
            Self::Text => VlmConfig::from_dir_for_text(dir)?,
        };
        Ok(Processor::from_dir(dir, &config)?)
    }
}

/// Checks that a directory exists and does not hold an adapter.
///
/// A directory with an `adapter_config.json` is rejected even if it also holds a model, because its
/// adapter would be ignored.
///
/// # Errors
/// Returns [`BpoError::NoCheckpoint`] or [`BpoError::AdapterAsModel`].
pub fn check_base(dir: &Path) -> Result<(), BpoError> {
    check_checkpoint(dir)?;
    if dir.join(ADAPTER_CONFIG).exists() {
        return Err(BpoError::AdapterAsModel { path: dir.to_owned() });
    }
    Ok(())
}

/// Content of [`ADAPTER_BASE`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterBase {
    weights: Fingerprint,
}

/// Records in an adapter's directory which weights the adapter was trained on, for
/// [`check_adapter`].
///
/// # Errors
/// Returns an error if the checkpoint cannot be read or the file cannot be written.
pub fn record_base(adapter: &Path, base: &Path) -> Result<(), BpoError> {
    let path = adapter.join(ADAPTER_BASE);
    let text = serde_json::to_string_pretty(&AdapterBase { weights: fingerprint_weights(base)? })
        .map_err(|source| BpoError::Json { path: path.clone(), source })?;
    std::fs::create_dir_all(adapter).map_err(BpoError::io("create", adapter))?;
    Ok(write_bytes(&path, format!("{text}\n").as_bytes())?)
}

/// Checks that a directory holds an adapter, and that the adapter was trained on the weights of
/// `base`.
///
/// If the directory does not record the weights, a base model with another name in
/// `adapter_config.json` only causes a warning, because directories can be renamed. Weights of
/// other shapes are an error when the adapter is loaded.
///
/// # Errors
/// Returns [`BpoError::NoAdapter`], [`BpoError::AdapterInside`], [`BpoError::AdapterOfAnother`], or
/// an error if a file cannot be read.
pub fn check_adapter(dir: &Path, base: &Path) -> Result<(), BpoError> {
    check_is_adapter(dir)?;
    let record = dir.join(ADAPTER_BASE);
    if record.exists() {
        let bytes = read_bytes(&record, Limits::DEFAULT.settings_bytes)?;
        let AdapterBase { weights } = serde_json::from_slice(&bytes)
            .map_err(|source| BpoError::Json { path: record.clone(), source })?;
        if weights != fingerprint_weights(base)? {
            return Err(BpoError::AdapterOfAnother { path: dir.into(), model: base.into(), record });
        }
    } else if let Some(named) = base_of_adapter(dir)?
        && (!is_named(base, Path::new(&named.name)) || is_other_commit(base, named.revision.as_deref()))
    {
        let made_for = match named.revision {
            Some(revision) => format!("{}@{revision}", named.name),
            None => named.name,
        };
        tracing::warn!(
            adapter = %dir.display(), made_for, model = %base.display(),
            "this adapter names another base model and may have been made for another model"
        );
    }
    Ok(())
}

/// Returns whether a model is a snapshot in a Hugging Face cache of another commit than `revision`.
/// A branch or a tag can be any commit.
fn is_other_commit(base: &Path, revision: Option<&str>) -> bool {
    let is_commit = |text: &&str| text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit());
    let Some(revision) = revision.filter(is_commit) else { return false };
    HubModel::of_snapshot(base).is_some_and(|model| model.revision() != revision)
}

/// Returns whether a model's path and a recorded name or path may mean the same model: the last
/// component of one ends a component of the other. For example, `llava-hf/llava-1.5-7b-hf` matches
/// `models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b`.
fn is_named(path: &Path, name: &Path) -> bool {
    let ends = |one: &Path, other: &Path| {
        let Some(last) = one.file_name() else { return true };
        let last = last.to_string_lossy();
        other.iter().any(|part| part.to_string_lossy().ends_with(&*last))
    };
    ends(path, name) || ends(name, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_are_compared_by_their_last_parts() {
        let same = |path, name| is_named(Path::new(path), Path::new(name));
        assert!(same("models/llava-1.5-7b-hf/", "llava-hf/llava-1.5-7b-hf"));
        assert!(same("hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b", "llava-hf/llava-1.5-7b-hf"));
        assert!(same("llava-1.5-7b-hf", "/old/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b"));
        assert!(!same("models/llava-1.5-13b-hf", "llava-hf/llava-1.5-7b-hf"));
        assert!(!same("tiny", "base"));
    }

    #[test]
    fn commits_of_snapshots_are_compared() {
        let (one, other) = ("0".repeat(40), "1".repeat(40));
        let base = format!("hub/models--a--b/snapshots/{one}");
        let is_other = |base: &str, revision| is_other_commit(Path::new(base), revision);
        assert!(is_other(&base, Some(&other)));
        assert!(!is_other(&base, Some(&one)) && !is_other(&base, Some("main")) && !is_other(&base, None));
        assert!(!is_other("models/b", Some(&other)));
    }
}
