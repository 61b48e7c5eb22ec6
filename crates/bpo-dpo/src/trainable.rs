//! The trainable parameters of a module, by path.
//!
//! A parameter is trainable if it requires a gradient, so the module must be in training
//! ([`Module::train`], not `valid`).

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::error::{DpoError, Mismatch};
use crate::tensors::{ModulePath, Tensors, decode, describe, encode, flat, replace_leaf};

/// Paths of the trainable parameters, in the order of the module's fields.
pub fn trainable_paths<M: Module>(module: &M) -> Vec<String> {
    #[derive(Default)]
    struct Paths {
        path: ModulePath,
        found: Vec<String>,
    }

    impl ModuleVisitor for Paths {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.found.push(self.path.join());
            }
        }
    }

    let mut paths = Paths::default();
    module.visit(&mut paths);
    paths.found
}

/// The trainable parameters by path: flat, and on no tape.
pub(crate) fn trainable_values<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    #[derive(Default)]
    struct Values {
        path: ModulePath,
        found: BTreeMap<String, Tensor<1>>,
    }

    impl ModuleVisitor for Values {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.found.insert(self.path.join(), flat(param.base().inner()));
            }
        }
    }

    let mut values = Values::default();
    module.visit(&mut values);
    values.found
}

/// The trainable parameters as safetensors bytes: names are paths, values exact.
///
/// # Errors
/// [`DpoError::Device`] if the device fails; [`DpoError::ElementType`] for elements that safetensors has no type for.
pub fn save_trainable<M: Module>(module: &M) -> Result<Vec<u8>, DpoError> {
    encode(&read_trainable(module)?)
}

/// Puts parameters from [`save_trainable`] into a module whose trainable parameters are the same.
///
/// # Errors
/// [`DpoError::Safetensors`] for other bytes; [`DpoError::Mismatch`] with every missing, extra and misshapen parameter.
pub fn load_trainable<M: Module>(module: M, bytes: &[u8]) -> Result<M, DpoError> {
    load(module, &Which::Trainable, bytes)
}

/// The parameters of a module whose paths are those of what is trained in `policy`, as [`save_trainable`] has them.
pub(crate) fn save_as_trainable<M: Module>(module: &M, policy: &M) -> Result<Vec<u8>, DpoError> {
    encode(&read(module, &Which::of(policy))?)
}

/// Puts parameters from [`save_as_trainable`] back.
pub(crate) fn load_as_trainable<M: Module>(module: M, policy: &M, bytes: &[u8]) -> Result<M, DpoError> {
    load(module, &Which::of(policy), bytes)
}

pub(crate) fn read_trainable<M: Module>(module: &M) -> Result<Tensors, DpoError> {
    read(module, &Which::Trainable)
}

fn read<M: Module>(module: &M, which: &Which) -> Result<Tensors, DpoError> {
    let mut reader = Reader { path: ModulePath::default(), which, tensors: Ok(Tensors::new()) };
    module.visit(&mut reader);
    reader.tensors
}

fn load<M: Module>(module: M, which: &Which, bytes: &[u8]) -> Result<M, DpoError> {
    let tensors = decode(bytes)?;
    let mismatch = compare(&read(&module, which)?, &tensors);
    if !mismatch.is_empty() {
        return Err(DpoError::Mismatch { what: "parameters", path: None, mismatch });
    }
    Ok(module.map(&mut Writer { path: ModulePath::default(), which, tensors }))
}

/// Which parameters a walk over a module takes.
enum Which {
    /// Those that require a gradient.
    Trainable,
    /// Those of these paths.
    Named(BTreeSet<String>),
}

impl Which {
    /// What is trained in a policy.
    fn of<M: Module>(policy: &M) -> Self {
        Self::Named(trainable_paths(policy).into_iter().collect())
    }

    fn takes<const D: usize>(&self, path: &str, param: &Param<Tensor<D>>) -> bool {
        match self {
            Self::Trainable => param.is_require_grad(),
            Self::Named(paths) => paths.contains(path),
        }
    }
}

fn compare(expected: &Tensors, found: &Tensors) -> Mismatch {
    let mut mismatch = Mismatch::default();
    for (path, data) in expected {
        match found.get(path) {
            None => mismatch.missing.push(path.clone()),
            Some(other) if other.shape() != data.shape() || other.dtype() != data.dtype() => {
                mismatch.misshapen.push(format!("{path} is {}, not {}", describe(other), describe(data)));
            }
            Some(_) => {}
        }
    }
    mismatch.extra = found.keys().filter(|path| !expected.contains_key(*path)).cloned().collect();
    mismatch
}

struct Reader<'a> {
    path: ModulePath,
    which: &'a Which,
    tensors: Result<Tensors, DpoError>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(tensors) = &mut self.tensors else { return };
        let path = self.path.join();
        if !self.which.takes(&path, param) {
            return;
        }
        let value = param.base();
        let value = if value.is_autodiff() { value.inner() } else { value };
        match value.try_into_data().map_err(DpoError::device("a parameter")) {
            Ok(data) => drop(tensors.insert(path, data)),
            Err(error) => self.tensors = Err(error),
        }
    }
}

struct Writer<'a> {
    path: ModulePath,
    which: &'a Which,
    tensors: Tensors,
}

impl ModuleMapper for Writer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join();
        if !self.which.takes(&path, &param) {
            return param;
        }
        let Some(data) = self.tensors.remove(&path) else { return param };
        param.map(|old| {
            let new = on_device_of(&old, data);
            if old.is_autodiff() { replace_leaf(&old, new) } else { new }
        })
    }
}

/// The data as a plain tensor where the other tensor is.
pub(crate) fn on_device_of<const D: usize, const E: usize>(other: &Tensor<D>, data: TensorData) -> Tensor<E> {
    let dtype = data.dtype();
    Tensor::from_data(data, (&other.device().inner(), dtype))
}
