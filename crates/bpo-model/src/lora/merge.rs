//! Folds an adapter into a checkpoint directory, file by file.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::UntrustedPath;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::linears::is_in_part;
use super::names::{AdapterTensor, Factor};
use super::patterns::Ranks;
use super::peft::{Fit, PeftAdapter, WEIGHTS};
use crate::checkpoint::{TensorEntry, WeightIndex, rewrite};
use crate::error::{ModelError, WeightProblems};
use crate::families::FamilySpec;
use crate::vlm::{HEAD, Vlm};

/// Writes a plain checkpoint: the directory `model` with the PEFT adapter `adapter` folded in, as
/// `out`.
///
/// Names, types and shards stay as they are; `W + s B A` is computed in f32 on `device`. Weights
/// without an adapter are copied byte for byte, and only one weight is in memory at a time. `out`
/// is written whole or not at all (see [`StagedDir`](bpo_pairs::files::StagedDir)).
///
/// `share` is the part of the change that the result has, above 0 and at most 1. With 1 it is the
/// trained model, and with less an interpolation between the weights of both models,
/// `W + share (W' - W)`: WiSE-FT (Wortsman et al., arXiv 2109.01903). This also holds for modules that
/// the adapter has in full.
///
/// # Errors
/// If the share is out of its range, the checkpoint lacks weights, the adapter does not fit it, a
/// merged weight is not finite, or `out` cannot be written or holds anything already.
pub fn merge_checkpoint(
    model: &Path,
    adapter: &Path,
    share: f64,
    out: &Path,
    device: &Device,
) -> Result<(), ModelError> {
    if !(share > 0.0 && share <= 1.0) {
        let (key, expected) = ("share", "above 0 and at most 1");
        return Err(ModelError::Setting { key, expected, found: share.to_string() });
    }
    let spec = FamilySpec::of_checkpoint(model)?;
    let base = WeightIndex::open(model, spec)?;
    let adapter_dir = adapter;
    let adapter = PeftAdapter::open(adapter, Some(spec))?;
    let linears = || base.entries().iter().filter_map(linear);
    if linears().all(|linear| linear != HEAD) {
        check_head(&adapter, adapter_dir, model)?;
    }
    // the checkpoint also has the weights of modules that never run
    let Fit { present, .. } = adapter.fit(adapter_dir, linears(), |_| true)?;
    let ranks = adapter.ranks()?;
    ranks.warn_of_unused(&present)?;
    check(&base, &adapter, &present, &ranks, adapter_dir)?;
    Vlm::check_weights(model, device)?;
    let mut scales = BTreeMap::new();
    for module in present {
        let scale = ranks.scale(&module)?;
        scales.insert(module, scale);
    }
    let merge = Merge { base: &base, adapter: &adapter, scales, share, device };
    rewrite(&base, model, out, &|name, entry| merge.changed(name, entry))
}

/// The module of a weight, if it is a linear.
fn linear<'a>((name, entry): (&'a String, &TensorEntry)) -> Option<&'a str> {
    let module = name.strip_suffix(".weight")?;
    let is_part = module == HEAD || is_in_part(module);
    (is_part && entry.shape.len() == 2 && !module.contains("embed")).then_some(module)
}

/// Refuses an adapter of the head where the head is the embedding, which merging would change as
/// well.
fn check_head(adapter: &PeftAdapter, dir: &Path, model: &Path) -> Result<(), ModelError> {
    let of_head = |name: &String| match AdapterTensor::parse(name, adapter.spec) {
        Some(AdapterTensor::Lora(module, _) | AdapterTensor::Base(module)) => module == HEAD,
        Some(AdapterTensor::Saved(weight)) => weight.starts_with("lm_head."),
        None => false,
    };
    if !adapter.index.entries().keys().any(of_head) {
        return Ok(());
    }
    let reason = format!(
        "it changes the head (lm_head), and {} has none of its own: its head is the embedding \
         (tie_word_embeddings), which merging would change too. Use the adapter without merging it",
        UntrustedPath(model)
    );
    Err(ModelError::Adapter { path: dir.join(WEIGHTS), reason })
}

/// Checks all weights before anything is written.
fn check(
    base: &WeightIndex,
    adapter: &PeftAdapter,
    modules: &[String],
    ranks: &Ranks<'_>,
    dir: &Path,
) -> Result<(), ModelError> {
    let repeated = base.repeated().iter().chain(adapter.index.repeated()).cloned().collect();
    let mut problems = WeightProblems { repeated, ..WeightProblems::default() };
    for (name, entry) in adapter.index.entries() {
        let (weight, factor) = match AdapterTensor::parse(name, adapter.spec) {
            Some(AdapterTensor::Saved(weight)) => (weight, None),
            Some(AdapterTensor::Base(module)) => (format!("{module}.weight"), None),
            Some(AdapterTensor::Lora(module, _)) if !modules.contains(&module) => continue,
            Some(AdapterTensor::Lora(module, factor)) => {
                let (r, _) = ranks.of(&module)?;
                (format!("{module}.weight"), Some((factor, r)))
            }
            None => (name.clone(), None),
        };
        let Some(target) = base.entries().get(&weight) else {
            problems.missing.push(format!("{} (in the base model, for {name})", base.file_name(&weight)));
            continue;
        };
        // both are converted to f32, so other types are an error
        for (name, entry) in [(name, entry), (&target.name, target)] {
            if entry.float_type().is_none() {
                problems.mistyped.push((name.clone(), entry.dtype.to_string()));
            }
        }
        let expected = match (factor, target.shape.as_slice()) {
            (Some((Factor::A, r)), [_, d_in]) => vec![r, *d_in],
            (Some((Factor::B, r)), [d_out, _]) => vec![*d_out, r],
            (_, shape) => shape.to_vec(),
        };
        if expected != entry.shape {
            problems.misshapen.push((name.clone(), expected, entry.shape.clone()));
        }
    }
    // a saved linear is saved with all its tensors
    let is_whole = |name: &&String| {
        name.rsplit_once('.').is_some_and(|(linear, _)| adapter.config.is_whole(linear, adapter.spec))
    };
    for weight in base.entries().keys().filter(is_whole) {
        let name = AdapterTensor::Saved(weight.clone()).name(adapter.spec);
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

/// Computes `B A`, `[d_out, d_in]`, from `[d_out, r]` and `[r, d_in]`, with the bits of PEFT: PyTorch
/// adds each product to the sum of those before without rounding it. The CPU backend does so from
/// three products on, so smaller ranks are padded with zeros, which change no sum.
fn product(b: Tensor<2>, a: Tensor<2>) -> Tensor<2> {
    const FUSED: usize = 3;
    let ([d_out, rank], [_, d_in]) = (b.dims(), a.dims());
    if rank >= FUSED {
        return b.matmul(a);
    }
    let zeros = |shape: [usize; 2]| Tensor::zeros(shape, (&b.device(), b.dtype()));
    let (columns, rows) = (zeros([d_out, FUSED - rank]), zeros([FUSED - rank, d_in]));
    Tensor::cat(vec![b, columns], 1).matmul(Tensor::cat(vec![a, rows], 0))
}

/// Computes the weights of the merged checkpoint.
struct Merge<'a> {
    base: &'a WeightIndex,
    adapter: &'a PeftAdapter,
    /// Scales by module.
    scales: BTreeMap<String, f64>,
    /// The part of the change.
    share: f64,
    device: &'a Device,
}

impl Merge<'_> {
    fn of_adapter<const D: usize>(&self, tensor: &AdapterTensor) -> Option<Tensor<D>> {
        let index = &self.adapter.index;
        self.tensor(index, index.entries().get(&tensor.name(self.adapter.spec))?)
    }

    fn tensor<const D: usize>(&self, index: &WeightIndex, entry: &TensorEntry) -> Option<Tensor<D>> {
        Some(Tensor::from_data(index.data_as(entry, DType::F32)?, (self.device, DType::F32)))
    }

    /// The changed value, or `None` if the adapter does not change this weight.
    fn changed(&self, name: &str, entry: &TensorEntry) -> Option<TensorData> {
        let trained = self.trained(name, entry)?;
        if self.share == 1.0 {
            return Some(trained);
        }
        let shape = trained.shape().clone();
        let flat = |data: TensorData| {
            let length = data.num_elements();
            let (bytes, _, dtype) = data.into_parts();
            Tensor::<1>::from_data(TensorData::from_bytes(bytes, [length], dtype), (self.device, DType::F32))
        };
        let (base, trained) = (flat(self.base.data_as(entry, DType::F32)?), flat(trained));
        let part = base.clone() + (trained - base).mul_scalar(self.share);
        let (bytes, _, dtype) = part.into_data().into_parts();
        Some(TensorData::from_bytes(bytes, shape, dtype))
    }

    /// The value of the trained model, or `None` if the adapter does not change this weight.
    fn trained(&self, name: &str, entry: &TensorEntry) -> Option<TensorData> {
        let module = name.strip_suffix(".weight").unwrap_or_default();
        if let Some(scale) = self.scales.get(module) {
            let factor = |factor| self.of_adapter::<2>(&AdapterTensor::Lora(module.to_owned(), factor));
            let (a, b) = (factor(Factor::A)?, factor(Factor::B)?);
            let of_adapter = self.of_adapter(&AdapterTensor::Base(module.to_owned()));
            let weight: Tensor<2> = of_adapter.or_else(|| self.tensor(self.base, entry))?;
            return Some((weight + product(b, a).mul_scalar(*scale)).into_data());
        }
        let saved = AdapterTensor::Saved(name.to_owned()).name(self.adapter.spec);
        self.adapter.index.data(self.adapter.index.entries().get(&saved)?)
    }
}
