//! Folds an adapter into a checkpoint directory, file by file.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::Dtype;

use super::names::{AdapterTensor, Factor};
use super::peft::PeftAdapter;
use crate::error::{ModelError, WeightProblems};
use crate::files::partial;
use crate::llava::Llava;
use crate::weights::{TensorEntry, WeightIndex};

/// Writes a plain checkpoint: the directory `model` with the PEFT adapter `adapter` folded in, as `out`.
///
/// Names, types and shards stay as they are; `W + s B A` is computed in f32 on `device`. Weights without an adapter are
/// copied byte for byte, and only one weight is in memory at a time. All is written beside `out`, as `OUT.partial`, and then
/// renamed: `out` is there whole or not at all.
///
/// # Errors
/// If the checkpoint lacks weights, the adapter does not fit it, a merged weight is not finite, or `out` cannot be written or
/// holds anything already.
pub fn merge_checkpoint(model: &Path, adapter: &Path, out: &Path, device: &Device) -> Result<(), ModelError> {
    let base = WeightIndex::open(model)?;
    let adapter_dir = adapter;
    let adapter = PeftAdapter::open(adapter)?;
    check(&base, &adapter, adapter_dir)?;
    Llava::check_weights(model, device)?;
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
    let written = write(&base, &adapter, model, staging, device);
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

/// All files of the merged checkpoint, into an empty directory.
fn write(
    base: &WeightIndex,
    adapter: &PeftAdapter,
    model: &Path,
    out: &Path,
    device: &Device,
) -> Result<(), ModelError> {
    copy_small_files(model, out)?;
    let unusable = RefCell::new(Vec::new());
    for (number, path) in base.paths().enumerate() {
        let Some(name) = path.file_name() else { continue };
        let merged = base.entries().iter().filter(|(_, entry)| entry.file == number).map(|(key, entry)| {
            (entry.name.clone(), Merged { key, entry, base, adapter, device, unusable: &unusable })
        });
        let target = out.join(name);
        let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
        safetensors::serialize_to_file(merged, metadata, &target)
            .map_err(|error| ModelError::Safetensors { path: target.clone(), reason: error.to_string() })?;
        // the writer makes files that only their owner may read
        std::fs::metadata(path)
            .and_then(|source| std::fs::set_permissions(&target, source.permissions()))
            .map_err(|source| ModelError::Io { path: target.clone(), source })?;
    }
    match unusable.into_inner() {
        names if names.is_empty() => Ok(()),
        names => Err(ModelError::NotFinite { what: format!("merged weights {}", names.join(", ")) }),
    }
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

/// All that does not fit, before anything is written.
fn check(base: &WeightIndex, adapter: &PeftAdapter, dir: &Path) -> Result<(), ModelError> {
    let repeated = base.repeated().iter().chain(adapter.index.repeated()).cloned().collect();
    let mut problems = WeightProblems { repeated, ..WeightProblems::default() };
    for (name, entry) in adapter.index.entries() {
        let (weight, factor) = match AdapterTensor::parse(name) {
            Some(AdapterTensor::Saved(weight)) => (weight, None),
            Some(AdapterTensor::Lora(module, factor)) => (format!("{module}.weight"), Some(factor)),
            None => (name.clone(), None),
        };
        let Some(target) = base.entries().get(&weight) else {
            problems.missing.push(format!("{weight} (in the base model, for {name})"));
            continue;
        };
        // both are read as numbers: a type that cannot be is not to be passed over
        for (name, entry) in [(name, entry), (&weight, target)] {
            if entry.float_type().is_none() {
                problems.mistyped.push((name.clone(), format!("{:?}", entry.dtype)));
            }
        }
        let expected = match (factor, target.shape.as_slice()) {
            (Some(Factor::A), [_, d_in]) => vec![adapter.config.r, *d_in],
            (Some(Factor::B), [d_out, _]) => vec![*d_out, adapter.config.r],
            (Some(_), shape) => {
                let rank = format!("{weight} (adapted, but no matrix)");
                problems.misshapen.push((rank, Vec::new(), shape.to_vec()));
                continue;
            }
            (None, shape) => shape.to_vec(),
        };
        if expected != entry.shape {
            problems.misshapen.push((name.clone(), expected, entry.shape.clone()));
        }
    }
    // a module that is saved is saved whole
    let projector = base.entries().keys().filter(|name| name.starts_with("multi_modal_projector."));
    for weight in projector.filter(|_| adapter.config.train_projector) {
        let name = AdapterTensor::Saved(weight.clone()).name();
        if !adapter.index.entries().contains_key(&name) {
            problems.missing.push(name);
        }
    }
    if problems.is_fatal() {
        Err(ModelError::Weights { dir: dir.into(), problems: problems.into() })
    } else {
        Ok(())
    }
}

/// A weight of the result, computed when it is written.
struct Merged<'a> {
    key: &'a str,
    entry: &'a TensorEntry,
    base: &'a WeightIndex,
    adapter: &'a PeftAdapter,
    device: &'a Device,
    /// Gathers names of weights that are not finite: a view cannot fail.
    unusable: &'a RefCell<Vec<String>>,
}

impl Merged<'_> {
    fn lora(&self, factor: Factor) -> Option<Tensor<2>> {
        let module = self.key.strip_suffix(".weight")?;
        let name = AdapterTensor::Lora(module.to_owned(), factor).name();
        let entry = self.adapter.index.entries().get(&name)?;
        self.tensor(&self.adapter.index, entry)
    }

    fn tensor<const D: usize>(&self, index: &WeightIndex, entry: &TensorEntry) -> Option<Tensor<D>> {
        Some(Tensor::from_data(index.data(entry)?.convert_dtype(DType::F32), (self.device, DType::F32)))
    }

    /// The changed value in the stored type, or `None` if the adapter does not touch this weight.
    fn changed(&self) -> Option<TensorData> {
        let stored = self.entry.float_type()?;
        if let (Some(a), Some(b)) = (self.lora(Factor::A), self.lora(Factor::B)) {
            let weight: Tensor<2> = self.tensor(self.base, self.entry)?;
            let merged = weight + b.matmul(a).mul_scalar(self.adapter.config.scale());
            return Some(merged.into_data().convert_dtype(stored));
        }
        let saved = AdapterTensor::Saved(self.key.to_owned()).name();
        let entry = self.adapter.index.entries().get(&saved)?;
        Some(self.adapter.index.data(entry)?.convert_dtype(stored))
    }
}

impl safetensors::View for Merged<'_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.changed() {
            Some(data) => {
                if !data.iter::<f32>().all(f32::is_finite) {
                    self.unusable.borrow_mut().push(self.entry.name.clone());
                }
                data.into_bytes().to_vec().into()
            }
            None => self.base.bytes(self.entry).into(),
        }
    }

    fn data_len(&self) -> usize {
        self.base.bytes(self.entry).len()
    }
}
