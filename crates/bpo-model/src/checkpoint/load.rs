//! Loading of weights as tensors. One error lists all problems.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::hints::families;
use super::index::{TensorEntry, WeightIndex};
use crate::error::{ModelError, WeightProblems};
use crate::families::FamilySpec;

/// Loads weights by name, and collects those that are missing, misshapen or not used.
///
/// Each tensor is converted and moved to the device on its own, so a second copy of the model never
/// exists.
pub(crate) struct WeightLoader {
    dir: PathBuf,
    source: Source,
    device: Device,
    dtype: FloatDType,
    asked: BTreeSet<String>,
    problems: WeightProblems,
    /// Only looks for problems and reads no weights.
    only_checks: bool,
}

/// The source of weights.
enum Source {
    Files(WeightIndex),
    /// Normal draws on the host: matrices scaled by `1/sqrt(d_in)`, norms around 1.
    Random(Box<ChaCha8Rng>),
    /// Draws on the device, with the distribution of transformers.
    OfDevice,
}

impl WeightLoader {
    /// Creates random weights. The same seed gives the same model on every device.
    pub(crate) fn random(seed: u64, dtype: FloatDType, device: &Device) -> Self {
        let source = Source::Random(Box::new(ChaCha8Rng::seed_from_u64(seed)));
        Self::of(PathBuf::new(), source, dtype, device)
    }

    /// Creates random weights that the device draws, with the distribution of transformers. For
    /// large models this is much faster than [`random`](Self::random), and each device gives
    /// another model.
    pub(crate) fn random_of_device(seed: u64, dtype: FloatDType, device: &Device) -> Self {
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

    /// Opens a checkpoint to check it: no weight is read, and single zeros stand in for tensors
    /// until [`finish`](Self::finish).
    ///
    /// # Errors
    /// Those of [`WeightIndex::open`].
    pub(crate) fn check(dir: &Path, spec: &FamilySpec, device: &Device) -> Result<Self, ModelError> {
        let loader = Self::open(dir, spec, FloatDType::F32, device)?;
        Ok(Self { only_checks: true, ..loader })
    }

    /// Opens the weights of a checkpoint directory.
    ///
    /// # Errors
    /// Those of [`WeightIndex::open`].
    pub(crate) fn open(
        dir: &Path,
        spec: &FamilySpec,
        dtype: FloatDType,
        device: &Device,
    ) -> Result<Self, ModelError> {
        Ok(Self::new(dir, WeightIndex::open(dir, spec)?, dtype, device))
    }

    /// Loads from an opened index. `dir` is used in messages.
    pub(crate) fn new(dir: &Path, index: WeightIndex, dtype: FloatDType, device: &Device) -> Self {
        let problems = WeightProblems { repeated: index.repeated().to_vec(), ..WeightProblems::default() };
        Self { problems, ..Self::of(dir.into(), Source::Files(index), dtype, device) }
    }

    /// Whether the files contain a weight.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.source {
            Source::Files(index) => index.entries().contains_key(name),
            Source::Random(_) | Source::OfDevice => false,
        }
    }

    /// Loads a weight of the given shape as a frozen parameter.
    ///
    /// A problem is recorded for [`finish`](Self::finish), and a single zero stands in for the
    /// weight.
    pub(crate) fn param<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(name, shape)).set_require_grad(false)
    }

    /// Loads a weight as [`param`](Self::param) does, as a tensor.
    pub(crate) fn tensor<const D: usize>(&mut self, name: &str, shape: [usize; D]) -> Tensor<D> {
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

    /// Ends loading. A weight in the files that was not used is an error unless `unused` accepts
    /// its name, because the checkpoint computes something else with it. Buffers that are computed
    /// anew are never an error.
    ///
    /// # Errors
    /// [`ModelError::Weights`] with every weight that was missing, misshapen, of an unsupported
    /// type, duplicate or not used.
    pub(crate) fn finish(mut self, unused: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        if let Source::Files(index) = &self.source {
            let names = index.entries().keys();
            let extra = names.filter(|name| !self.asked.contains(*name) && !is_buffer(name) && !unused(name));
            self.problems.extra = extra.cloned().collect();
            self.problems.hints = families(&self.problems.extra);
            for name in self.problems.names_mut() {
                *name = index.file_name(name);
            }
        }
        if self.problems.is_fatal() {
            return Err(ModelError::Weights { dir: self.dir, problems: self.problems.into() });
        }
        Ok(())
    }
}

/// Finds a weight in the files, or records a problem.
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
    // the sum of twelve uniform draws is close enough to normal for weights, and needs no logarithm
    let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
    let values: Vec<f32> = (0..count).map(|_| center + spread * normal()).collect();
    TensorData::new(values, shape.to_vec())
}

/// The initialization of transformers, with its `initializer_range` of 0.02: norms 1, other vectors
/// 0.
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

/// Whether this is a buffer of older checkpoints whose values follow from the configuration.
fn is_buffer(name: &str) -> bool {
    name.ends_with("position_ids") || name.ends_with("rotary_emb.inv_freq")
}
