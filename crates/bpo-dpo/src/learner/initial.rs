//! What makes a reference of a policy that is being trained.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::trainable::{replace_values, trainable_values};

/// The trainable parameters of a policy as they were before training: flat, plain and by path.
///
/// All other parameters are those of the policy, so that wherever it is moved they are there once and not twice.
#[derive(Clone, Debug)]
pub(super) struct InitialValues {
    values: BTreeMap<String, Tensor<1>>,
}

impl InitialValues {
    /// Those that the policy has now.
    pub(super) fn of<M: Module>(policy: &M) -> Self {
        Self { values: trainable_values(policy) }
    }

    /// Where the parameters are in the policy.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The policy with these values, on plain tensors, on the policy's device.
    pub(super) fn reference<M: Module>(&self, policy: &M) -> M {
        replace_values(policy.valid(), |path, old| {
            Some(self.values.get(path)?.clone().to_device(&old.device()))
        })
    }
}
