//! A checkpoint directory again, with other values in some of its weights.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, TensorData};
use safetensors::Dtype;

use super::finite;
use super::index::{TensorEntry, WeightIndex};
use crate::error::ModelError;
use crate::files::partial;

/// Writes the checkpoint `model` as `out`, with the values that `change` gives for a weight of a
/// name in place of its own.
///
/// Names, types and shards stay as they are, and so do all other files. Weights that do not change
/// are copied byte for byte, and only one weight is in memory at a time. All is written beside
/// `out`, as `OUT.partial`, and then renamed: `out` is there whole or not at all.
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
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ModelError::Io { path, source }
    };
    // without the slash that a shell may put behind it, so that there is a name to write beside
    let out = &std::path::absolute(out).map_err(io(out))?.components().collect::<PathBuf>();
    if std::fs::symlink_metadata(out).is_ok()
        && (!out.is_dir() || std::fs::read_dir(out).map_err(io(out))?.next().is_some())
    {
        let text = "there already, and no empty directory: give another output";
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, text);
        return Err(ModelError::Io { path: out.into(), source });
    }
    let staging = &partial(out);
    if staging.exists() {
        std::fs::remove_dir_all(staging).map_err(io(staging))?;
    }
    std::fs::create_dir_all(staging).map_err(io(staging))?;
    let written = write(base, model, staging, change);
    if written.is_err() {
        // the error matters more than what is left of the attempt
        let _ = std::fs::remove_dir_all(staging);
    }
    written?;
    if out.is_dir() {
        std::fs::remove_dir(out).map_err(io(out))?;
    }
    std::fs::rename(staging, out).map_err(io(out))
}

/// All files, into an empty directory.
fn write(
    base: &WeightIndex,
    model: &Path,
    out: &Path,
    change: &dyn Fn(&str, &TensorEntry) -> Option<TensorData>,
) -> Result<(), ModelError> {
    copy_small_files(model, out)?;
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

/// Everything but weights: configuration, tokenizer, processor, template, shard index.
fn copy_small_files(model: &Path, out: &Path) -> Result<(), ModelError> {
    const WEIGHTS: [&str; 4] = ["safetensors", "bin", "pt", "pth"];
    let io = |source| ModelError::Io { path: model.into(), source };
    for file in std::fs::read_dir(model).map_err(io)? {
        let path = file.map_err(io)?.path();
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        if let (true, false, Some(name)) = (path.is_file(), WEIGHTS.contains(&kind), path.file_name()) {
            let target = out.join(name);
            std::fs::copy(&path, &target).map_err(|source| ModelError::Io { path: target, source })?;
        }
    }
    Ok(())
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
