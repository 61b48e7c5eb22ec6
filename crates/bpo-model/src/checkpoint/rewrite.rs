//! A checkpoint directory again, with other values in some of its weights.

use std::borrow::Cow;
use std::path::Path;

use bpo_pairs::files::StagedDir;
use burn::tensor::{DType, TensorData};
use safetensors::Dtype;

use super::copy::copy_small_files;
use super::finite;
use super::index::{TensorEntry, WeightIndex};
use crate::error::ModelError;

/// Writes the checkpoint `model` as `out`, with the values that `change` gives for a weight of a
/// name in place of its own.
///
/// Names, types and shards stay as they are, and so do all other files. Weights that do not change
/// are copied byte for byte, and only one weight is in memory at a time. `out` is written whole or
/// not at all (see [`StagedDir`]).
///
/// # Errors
/// [`ModelError::NotFiniteWeights`] with each weight of a file that is not finite; if `out` cannot
/// be written or holds anything already.
pub(crate) fn rewrite(
    base: &WeightIndex,
    model: &Path,
    out: &Path,
    change: &dyn Fn(&str, &TensorEntry) -> Option<TensorData>,
) -> Result<(), ModelError> {
    let staged = StagedDir::new(out)?;
    write(base, model, staged.path(), change)?;
    Ok(staged.commit()?)
}

/// All files, into an empty directory.
fn write(
    base: &WeightIndex,
    model: &Path,
    out: &Path,
    change: &dyn Fn(&str, &TensorEntry) -> Option<TensorData>,
) -> Result<(), ModelError> {
    copy_but_weights(model, out)?;
    for (number, path) in base.paths().enumerate() {
        let Some(name) = path.file_name() else { continue };
        let weights = base
            .entries()
            .iter()
            .filter(|(_, entry)| entry.file == number)
            .map(|(key, entry)| (entry.name.clone(), Rewritten { key, entry, base, change }));
        let target = out.join(name);
        finite::to_file(weights, &target)?;
        // the writer makes files that only their owner may read
        std::fs::metadata(path)
            .and_then(|source| std::fs::set_permissions(&target, source.permissions()))
            .map_err(|source| ModelError::Io { path: target.clone(), source })?;
    }
    Ok(())
}

/// Copies everything but weights: configuration, tokenizer, processor, template, shard index. Of
/// links that lead out of the checkpoint, only those to files that the model is read from.
fn copy_but_weights(model: &Path, out: &Path) -> Result<(), ModelError> {
    const WEIGHTS: [&str; 4] = ["safetensors", "bin", "pt", "pth"];
    let is_small =
        |name: &Path| name.extension().is_none_or(|kind| WEIGHTS.iter().all(|weights| kind != *weights));
    copy_small_files(model, out, is_small)
}

/// A weight of the result, computed when it is written.
struct Rewritten<'a> {
    key: &'a str,
    entry: &'a TensorEntry,
    base: &'a WeightIndex,
    change: &'a dyn Fn(&str, &TensorEntry) -> Option<TensorData>,
}

impl Rewritten<'_> {
    /// The changed value in the stored type.
    fn changed(&self) -> Option<TensorData> {
        let stored: DType = self.entry.float_type()?;
        Some((self.change)(self.key, self.entry)?.convert_dtype(stored))
    }
}

impl safetensors::View for Rewritten<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.changed() {
            Some(data) => data.into_bytes().to_vec().into(),
            None => self.base.bytes(self.entry).into(),
        }
    }

    fn data_len(&self) -> usize {
        self.base.bytes(self.entry).len()
    }
}
