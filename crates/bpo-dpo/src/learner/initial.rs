//! What makes a reference of a policy that is being trained.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::tensors::{ModulePath, flat};

/// The trainable parameters of a policy as they were before training: flat, plain and by path.
///
/// All other parameters are those of the policy, so that wherever it is moved they are there once and not twice.
#[derive(Clone, Debug, Default)]
pub(super) struct InitialValues {
    values: BTreeMap<String, Tensor<1>>,
}

impl InitialValues {
    /// Those that the policy has now.
    pub(super) fn of<M: Module>(policy: &M) -> Self {
        let mut reader = Reader::default();
        policy.visit(&mut reader);
        reader.initial
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

#[derive(Default)]
struct Reader {
    path: ModulePath,
    initial: InitialValues,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            self.initial.values.insert(self.path.join(), flat(param.base().inner()));
        }
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
