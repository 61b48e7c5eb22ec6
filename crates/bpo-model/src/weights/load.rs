//! Weights as tensors, with all that is wrong gathered before loading fails.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Device, FloatDType, Tensor};

use super::index::WeightIndex;
use crate::error::{ModelError, WeightProblems};

/// Hands out weights by name and remembers what was missing, misshapen or never asked for.
///
/// Each tensor is converted and moved to the device on its own, so that no second copy of the model ever exists.
pub struct WeightLoader {
    dir: PathBuf,
    index: WeightIndex,
    device: Device,
    dtype: FloatDType,
    asked: BTreeSet<String>,
    problems: WeightProblems,
}

impl WeightLoader {
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
        Self { dir: dir.into(), index, device: device.clone(), dtype, asked: BTreeSet::new(), problems }
    }

    /// Whether the files hold this weight.
    pub fn has(&self, name: &str) -> bool {
        self.index.entries().contains_key(name)
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
        let data = match self.index.entries().get(name) {
            None => {
                self.problems.missing.push(name.to_owned());
                None
            }
            Some(entry) if entry.shape != shape => {
                self.problems.misshapen.push((name.to_owned(), shape.to_vec(), entry.shape.clone()));
                None
            }
            Some(entry) => {
                let data = self.index.data(entry).map(|data| data.convert_dtype(self.dtype.into()));
                if data.is_none() {
                    self.problems.mistyped.push((name.to_owned(), format!("{:?}", entry.dtype)));
                }
                data
            }
        };
        match data {
            Some(data) => Tensor::from_data(data, (&self.device, self.dtype.into())),
            None => Tensor::zeros([1; D], (&self.device, self.dtype.into())),
        }
    }

    /// Ends loading. Extra weights are only a warning: checkpoints carry layers and buffers that LLaVA never runs.
    ///
    /// # Errors
    /// If any weight was missing, misshapen, of another type or there twice; all of them are listed.
    pub fn finish(mut self) -> Result<(), ModelError> {
        let extra =
            self.index.entries().keys().filter(|name| !self.asked.contains(*name) && !is_unused(name));
        self.problems.extra = extra.cloned().collect();
        if self.problems.is_fatal() {
            return Err(ModelError::Weights { dir: self.dir, problems: self.problems });
        }
        if !self.problems.extra.is_empty() {
            tracing::warn!(dir = %self.dir.display(), names = ?self.problems.extra, "weights that nothing asked for");
        }
        Ok(())
    }
}

/// Weights that a LLaVA-1.5 checkpoint has and never runs: what lies behind the chosen vision layer, and buffers.
fn is_unused(name: &str) -> bool {
    name.starts_with("vision_tower.encoder.layers.")
        || name.starts_with("vision_tower.post_layernorm.")
        || name.ends_with("position_ids")
        || name.ends_with("rotary_emb.inv_freq")
}
