//! What makes a reference of a policy that is being trained.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::tensors::ModulePath;
use crate::trainable::trainable_values;

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
        policy.valid().map(&mut Writer { path: ModulePath::default(), initial: self })
    }
}

struct Writer<'a> {
    path: ModulePath,
    initial: &'a InitialValues,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.initial.values.get(&self.path.join()) {
            Some(value) => param.map(|old| value.clone().to_device(&old.device()).reshape(old.shape())),
            None => param,
        }
    }
}
