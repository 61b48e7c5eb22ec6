//! A reference that follows the policy.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{DpoError, Mismatch};
use crate::tensors::ModulePath;
use crate::trainable::trainable_values;

/// How a [frozen](super::Reference::Frozen) reference follows the policy:
///
/// ```text
/// ref <- mixup * policy + (1 - mixup) * ref    after every `every` steps
/// ```
///
/// Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment" (arXiv 2404.09656): `mixup` 1 is its hard update,
/// less its soft one. Parameters that are not trained stay as they are. TRL's `sync_ref_model`, with the same defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MovingReference {
    /// Steps between updates. Default: 512 (TRL's `ref_model_sync_steps`).
    pub every: usize,
    /// How much of the policy comes in. Default: 0.6 (TRL's `ref_model_mixup_alpha`).
    pub mixup: f64,
}

impl Default for MovingReference {
    fn default() -> Self {
        Self { every: 512, mixup: 0.6 }
    }
}

impl MovingReference {
    /// Moves by `mixup` after every `every` steps.
    pub fn new(every: usize, mixup: f64) -> Self {
        Self { every, mixup }
    }
}

/// Moves the reference's parameters towards those of the policy that are trained.
///
/// # Errors
/// [`DpoError::Mismatch`] if the reference lacks one of them, or has it in another shape.
pub(crate) fn follow<P: Module>(reference: P, policy: &P, mixup: f64) -> Result<P, DpoError> {
    let trained = trainable_values(policy);
    let mut mixer = Mixer { path: ModulePath::default(), trained, mixup, misshapen: Vec::new() };
    let reference = reference.map(&mut mixer);
    let missing = mixer.trained.into_keys().collect();
    let mismatch = Mismatch { missing, misshapen: mixer.misshapen, ..Mismatch::default() };
    match mismatch.is_empty() {
        true => Ok(reference),
        false => Err(DpoError::Mismatch { what: "reference", path: None, mismatch }),
    }
}

struct Mixer {
    path: ModulePath,
    trained: BTreeMap<String, Tensor<1>>,
    mixup: f64,
    misshapen: Vec<String>,
}

impl ModuleMapper for Mixer {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join();
        let Some(policy) = self.trained.remove(&path) else { return param };
        let shape = param.base().shape();
        if shape.num_elements() != policy.shape().num_elements() {
            self.misshapen.push(format!("{path} is {shape:?}"));
            return param;
        }
        param.map(|old| {
            let policy = policy.reshape(old.shape()).cast(old.dtype());
            policy.mul_scalar(self.mixup) + old.mul_scalar(1.0 - self.mixup)
        })
    }
}
