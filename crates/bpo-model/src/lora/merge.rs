//! Folds an adapter into a checkpoint directory, file by file.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::names::{AdapterTensor, Factor};
use super::peft::PeftAdapter;
use crate::error::{ModelError, WeightProblems};
use crate::llava::Llava;
use crate::weights::{TensorEntry, WeightIndex, rewrite};

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
    let merge = Merge { base: &base, adapter: &adapter, device };
    rewrite(&base, model, out, &|name, entry| merge.changed(name, entry))
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

/// Computes weights of the result.
struct Merge<'a> {
    base: &'a WeightIndex,
    adapter: &'a PeftAdapter,
    device: &'a Device,
}

impl Merge<'_> {
    fn lora(&self, name: &str, factor: Factor) -> Option<Tensor<2>> {
        let module = name.strip_suffix(".weight")?;
        let name = AdapterTensor::Lora(module.to_owned(), factor).name();
        let entry = self.adapter.index.entries().get(&name)?;
        self.tensor(&self.adapter.index, entry)
    }

    fn tensor<const D: usize>(&self, index: &WeightIndex, entry: &TensorEntry) -> Option<Tensor<D>> {
        Some(Tensor::from_data(index.data_as(entry, DType::F32)?, (self.device, DType::F32)))
    }

    /// The changed value, or `None` if the adapter does not touch this weight.
    fn changed(&self, name: &str, entry: &TensorEntry) -> Option<TensorData> {
        if let (Some(a), Some(b)) = (self.lora(name, Factor::A), self.lora(name, Factor::B)) {
            let weight: Tensor<2> = self.tensor(self.base, entry)?;
            return Some((weight + b.matmul(a).mul_scalar(self.adapter.config.scale())).into_data());
        }
        let saved = AdapterTensor::Saved(name.to_owned()).name();
        self.adapter.index.data(self.adapter.index.entries().get(&saved)?)
    }
}
