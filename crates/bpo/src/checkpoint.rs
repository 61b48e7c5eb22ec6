//! A checkpoint with its processor, from disk to device.

use std::path::Path;

use bpo_model::{LoadOptions, LoraConfig, Processor, Vlm, VlmConfig, base_of_adapter};
use bpo_pairs::files::{read_bytes, write_bytes};
use bpo_pairs::{Fingerprint, Limits};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::device::Dtype;
use crate::error::BpoError;
use crate::fingerprint::{ADAPTER_CONFIG, check_checkpoint, check_is_adapter, fingerprint_weights};

/// Which weights an adapter was trained on. PEFT passes it over.
const ADAPTER_BASE: &str = "base.json";

/// A model with what stands between it and images and text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The model, frozen.
    pub model: Vlm,
    /// Image processor, chat template and tokenizer.
    pub processor: Processor,
    /// The settings of the model's adapter, where it was loaded with one.
    pub adapter: Option<LoraConfig>,
}

impl Checkpoint {
    /// Loads a Hugging Face directory of a supported model.
    ///
    /// # Errors
    /// If a file is missing or broken, the files are of different checkpoints, or weights do not fit the configuration (all
    /// are listed).
    pub fn load(dir: &Path, dtype: Dtype, device: &Device) -> Result<Self, BpoError> {
        check_base(dir)?;
        // config.json first: processor files of another family of models are only misunderstood. Then the other small files:
        // what is wrong with them shows before the weights are read
        let config = VlmConfig::from_dir(dir)?;
        let processor = Processor::from_dir(dir, &config)?;
        let model = Vlm::from_pretrained(dir, &LoadOptions::default().with_dtype(dtype.into()), device)?;
        model.config().check_processor(&processor)?;
        Ok(Self { model, processor, adapter: None })
    }

    /// Loads a checkpoint and, where one is given, a PEFT adapter onto it.
    ///
    /// # Errors
    /// As [`load`](Self::load), those of [`check_adapter`], and if the adapter does not fit.
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

/// Checks that a directory is a checkpoint, that it is no adapter, and that no adapter is in it that
/// would be ignored.
///
/// # Errors
/// [`BpoError::NoCheckpoint`] and [`BpoError::AdapterAsModel`].
pub fn check_base(dir: &Path) -> Result<(), BpoError> {
    check_checkpoint(dir)?;
    match dir.join(ADAPTER_CONFIG).exists() {
        true => Err(BpoError::AdapterAsModel { path: dir.to_owned() }),
        false => Ok(()),
    }
}

/// What is in [`ADAPTER_BASE`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdapterBase {
    weights: Fingerprint,
}

/// Records beside an adapter which weights it was trained on, so that [`check_adapter`] tells others from them.
///
/// # Errors
/// If the checkpoint cannot be read or the file not be written.
pub fn record_base(adapter: &Path, base: &Path) -> Result<(), BpoError> {
    let path = adapter.join(ADAPTER_BASE);
    let text = serde_json::to_string_pretty(&AdapterBase { weights: fingerprint_weights(base)? })
        .map_err(|source| BpoError::Json { path: path.clone(), source })?;
    std::fs::create_dir_all(adapter).map_err(BpoError::io("create", adapter))?;
    Ok(write_bytes(&path, format!("{text}\n").as_bytes())?)
}

/// Checks that an adapter's directory is not that of the run that made it, and that it was trained on the weights of `base`.
///
/// Where the adapter does not say on which, it is warned of one that names another model: a name alone proves nothing, for
/// directories move. Weights of other shapes are an error when it is loaded.
///
/// # Errors
/// [`BpoError::NoAdapter`]; [`BpoError::AdapterInside`]; [`BpoError::AdapterOfAnother`]; if a file cannot be read.
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
        && !is_named(base, Path::new(&named))
    {
        tracing::warn!(
            adapter = %dir.display(), made_for = named, model = %base.display(),
            "by its name this adapter was made for another model, and would spoil this one"
        );
    }
    Ok(())
}

/// Whether a model's path may be that of a name or of another path: one of them ends in a part of the other, as the last part
/// of `llava-hf/llava-1.5-7b-hf` is in `models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b`.
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
    fn names_of_models_are_compared_by_their_ends() {
        let same = |path, name| is_named(Path::new(path), Path::new(name));
        assert!(same("models/llava-1.5-7b-hf/", "llava-hf/llava-1.5-7b-hf"));
        assert!(same("hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b", "llava-hf/llava-1.5-7b-hf"));
        assert!(same("llava-1.5-7b-hf", "/old/hub/models--llava-hf--llava-1.5-7b-hf/snapshots/0a1b"));
        assert!(!same("models/llava-1.5-13b-hf", "llava-hf/llava-1.5-7b-hf"));
        assert!(!same("tiny", "base"));
    }
}
