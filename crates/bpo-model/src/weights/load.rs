//! Weights as tensors, with all that is wrong gathered before loading fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::index::{TensorEntry, WeightIndex};
use crate::error::{ModelError, WeightProblems};

/// Hands out weights by name and remembers what was missing, misshapen or never asked for.
///
/// Each tensor is converted and moved to the device on its own, so that no second copy of the model ever exists.
pub struct WeightLoader {
    dir: PathBuf,
    source: Source,
    device: Device,
    dtype: FloatDType,
    asked: BTreeSet<String>,
    problems: WeightProblems,
    /// Only looks for problems: no weight is read.
    only_checks: bool,
}

/// Where weights come from.
enum Source {
    Files(WeightIndex),
    /// Normal draws, matrices scaled by `1/sqrt(d_in)`, norms around one.
    Random(Box<ChaCha8Rng>),
    /// Drawn by the device, as transformers draws them.
    OfDevice,
}

impl WeightLoader {
    /// Random weights instead of a checkpoint: the same seed gives the same model on every device.
    pub fn random(seed: u64, dtype: FloatDType, device: &Device) -> Self {
        let source = Source::Random(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        Self::of(PathBuf::new(), source, dtype, device)
    }

    /// Random weights that the device draws itself, as transformers draws them. For large models this is much faster than
    /// [`random`](Self::random); it is another model on each device.
    pub fn random_of_device(seed: u64, dtype: FloatDType, device: &Device) -> Self {
        device.seed(seed);
        Self::of(PathBuf::new(), Source::OfDevice, dtype, device)
    }

    fn of(dir: PathBuf, source: Source, dtype: FloatDType, device: &Device) -> Self {
        Self {
            dir,
            source,
            device: device.clone(),
            dtype,
            asked: BTreeSet::new(),
            problems: WeightProblems::default(),
            only_checks: false,
        }
    }

    /// A loader that reads no weight and hands out single zeros, for what [`finish`](Self::finish) says.
    ///
    /// # Errors
    /// As [`WeightIndex::open`].
    pub(crate) fn check(dir: &Path, device: &Device) -> Result<Self, ModelError> {
        let loader = Self::open(dir, FloatDType::F32, device)?;
        Ok(Self { only_checks: true, ..loader })
    }

    /// Opens the weights of a checkpoint directory.
    ///
    /// # Errors
    /// As [`WeightIndex::open`].
    pub fn open(dir: &Path, dtype: FloatDType, device: &Device) -> Result<Self, ModelError> {
        Ok(Self::new(dir, WeightIndex::open(dir)?, dtype, device))
    }

    /// Loads from an opened index; `dir` is for messages.
    pub fn new(dir: &Path, index: WeightIndex, dtype: FloatDType, device: &Device) -> Self {
        let problems = WeightProblems { repeated: index.repeated().to_vec(), ..WeightProblems::default() };
        Self { problems, ..Self::of(dir.into(), Source::Files(index), dtype, device) }
    }

    /// Whether the files hold this weight.
    pub fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Files(index) => index.entries().contains_key(name),
            Source::Random(_) | Source::OfDevice => false,
        }
    }

    /// A weight of the given shape, as a frozen parameter.
    ///
    /// What is wrong with it is kept for [`finish`](Self::finish); until then a single zero stands in for it.
    pub fn param<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(name, shape)).set_require_grad(false)
    }

    /// As [`param`](Self::param), the tensor alone.
    pub fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
        self.asked.insert(name.to_owned());
        let (dtype, device) = (self.dtype.into(), &self.device);
        match &mut self.source {
            Source::Files(index) => stored(index, name, &shape, &mut self.problems)
                .filter(|_| !self.only_checks)
                .and_then(|entry| index.tensor(entry, dtype, device))
                .unwrap_or_else(|| Tensor::zeros([1; D], (device, dtype))),
            Source::Random(rng) => {
                Tensor::from_data(drawn(rng, name, &shape).convert_dtype(dtype), (device, dtype))
            }
            Source::OfDevice => of_device(name, shape, device).cast(self.dtype),
        }
    }

    /// Ends loading. Weights of the files that nothing asked for are an error, unless they are `unused`: without them the model
    /// would not compute what its checkpoint does. Buffers that are computed anew are never an error.
    ///
    /// # Errors
    /// If any weight was missing, misshapen, of another type, there twice or not asked for.
    pub fn finish(mut self, unused: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        if let Source::Files(index) = &self.source {
            let names = index.entries().keys();
            let extra = names.filter(|name| !self.asked.contains(*name) && !is_buffer(name) && !unused(name));
            self.problems.extra = extra.cloned().collect();
        }
        if self.problems.is_fatal() {
            return Err(ModelError::Weights { dir: self.dir, problems: self.problems.into() });
        }
        Ok(())
    }
}

/// Where a weight of the files is, or a note of what is wrong with it.
fn stored<'a>(
    index: &'a WeightIndex,
    name: &str,
    shape: &[usize],
    problems: &mut WeightProblems,
) -> Option<&'a TensorEntry> {
    let Some(entry) = index.entries().get(name) else {
        problems.missing.push(name.to_owned());
        return None;
    };
    if entry.shape != shape {
        problems.misshapen.push((name.to_owned(), shape.to_vec(), entry.shape.clone()));
        return None;
    }
    if entry.float_type().is_none() {
        problems.mistyped.push((name.to_owned(), entry.dtype.to_string()));
        return None;
    }
    Some(entry)
}

fn drawn(rng: &mut ChaCha8Rng, name: &str, shape: &[usize]) -> TensorData {
    let count = shape.iter().product::<usize>();
    let d_in = (count / shape[0]).max(1) as f32;
    let (center, spread) = match shape.len() {
        1 if is_norm(name) => (1.0, 0.1),
        1 => (0.0, 0.02),
        _ if name.contains("embed") => (0.0, 1.0),
        _ => (0.0, d_in.sqrt().recip()),
    };
    // the sum of twelve uniform draws is normal enough for weights, and needs no logarithm
    let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    let values: Vec<f32> = (0..count).map(|_| center + spread * normal()).collect();
    TensorData::new(values, shape.to_vec())
}

/// As transformers draws them: with its `initializer_range` of 0.02, norms one and other vectors zero.
fn of_device<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    match D {
        1 if is_norm(name) => Tensor::ones(shape, device),
        1 => Tensor::zeros(shape, device),
        _ => Tensor::random(shape, Distribution::Normal(0.0, 0.02), device),
    }
}

fn is_norm(name: &str) -> bool {
    name.contains("norm") && name.ends_with("weight")
}

/// Buffers that older checkpoints hold, whose values follow from the configuration.
fn is_buffer(name: &str) -> bool {
    name.ends_with("position_ids") || name.ends_with("rotary_emb.inv_freq")
}
