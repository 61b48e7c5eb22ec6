//! The trainable parameters of a module, by path.
//!
//! A parameter is trainable if it requires a gradient, so the module must be in training state
//! ([`Module::train`], not `valid`).

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Shape, Tensor, TensorData};

use crate::error::{DpoError, Mismatch};
use crate::loss::without_tape;
use crate::tensors::{ModulePath, Tensors, decode, describe, dims, encode, flat, replace_leaf};

/// Returns the paths of the trainable parameters, in the order of the module's fields.
pub fn trainable_paths<M: Module>(module: &M) -> Vec<String> {
    let mut paths = Vec::new();
    each(module, &Which::Trainable, |path, _, _| paths.push(path));
    paths
}

/// Returns the trainable parameters by path, flattened and without an autodiff tape.
pub(crate) fn trainable_values<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    let mut values = BTreeMap::new();
    each(module, &Which::Trainable, |path, value, _| drop(values.insert(path, value)));
    values
}

/// Encodes the trainable parameters in the safetensors format. Names are paths, and values are
/// exact.
///
/// # Errors
/// Returns [`DpoError::Device`] if a parameter cannot be read from its device,
/// [`DpoError::ElementType`] for an element type that checkpoints do not support, or
/// [`DpoError::NotFiniteTensors`] if values are not finite.
pub fn save_trainable<M: Module>(module: &M) -> Result<Vec<u8>, DpoError> {
    encode(&read_trainable(module)?)
}

/// Loads parameters from [`save_trainable`] into a module with the same trainable parameters.
///
/// # Errors
/// Returns [`DpoError::Safetensors`] if the bytes are not in the safetensors format, or
/// [`DpoError::Mismatch`] with every missing, extra and misshapen parameter.
pub fn load_trainable<M: Module>(module: M, bytes: &[u8]) -> Result<M, DpoError> {
    load(module, &Which::Trainable, bytes)
}

/// Compares a module with the parameters that are trained in `policy`. Returns those that are
/// missing or have another shape.
pub(crate) fn compare_trained<M: Module>(module: &M, policy: &M) -> Mismatch {
    let shapes = |of: &M, which: &Which| {
        let mut shapes = BTreeMap::new();
        each(of, which, |path, _, shape| drop(shapes.insert(path, shape)));
        shapes
    };
    let found = shapes(module, &Which::of(policy));
    let mut mismatch = Mismatch::default();
    for (path, expected) in shapes(policy, &Which::Trainable) {
        match found.get(&path) {
            None => mismatch.missing.push(path),
            Some(shape) if *shape != expected => {
                mismatch.misshapen.push(format!("{path} is {}, not {}", dims(shape), dims(&expected)));
            }
            Some(_) => {}
        }
    }
    mismatch
}

/// Encodes the parameters of a module at the paths of the trained parameters of `policy`, as
/// [`save_trainable`] does.
pub(crate) fn save_as_trainable<M: Module>(module: &M, policy: &M) -> Result<Vec<u8>, DpoError> {
    encode(&read(module, &Which::of(policy))?)
}

/// Loads parameters from [`save_as_trainable`].
pub(crate) fn load_as_trainable<M: Module>(module: M, policy: &M, bytes: &[u8]) -> Result<M, DpoError> {
    load(module, &Which::of(policy), bytes)
}

pub(crate) fn read_trainable<M: Module>(module: &M) -> Result<Tensors, DpoError> {
    read(module, &Which::Trainable)
}

fn read<M: Module>(module: &M, which: &Which) -> Result<Tensors, DpoError> {
    let mut tensors = Ok(Tensors::new());
    each(module, which, |path, value, shape| {
        let Ok(read) = &mut tensors else { return };
        match value.try_into_data().map_err(DpoError::device("a parameter")) {
            Ok(data) => drop(read.insert(path, shaped(data, shape))),
            Err(error) => tensors = Err(error),
        }
    });
    tensors
}

fn load<M: Module>(module: M, which: &Which, bytes: &[u8]) -> Result<M, DpoError> {
    let mut tensors = decode(bytes)?;
    let mismatch = compare(&read(&module, which)?, &tensors);
    if !mismatch.is_empty() {
        return Err(DpoError::Mismatch { what: "parameters", path: None, mismatch });
    }
    Ok(replace_values(module, |path, old| {
        let data = tensors.remove(path)?;
        let dtype = data.dtype();
        Some(Tensor::from_data(shaped(data, old.shape()), (&old.device(), dtype)))
    }))
}

/// The parameters that a traversal of a module selects.
enum Which {
    /// Parameters that require a gradient.
    Trainable,
    /// Parameters at these paths.
    Named(BTreeSet<String>),
}

impl Which {
    /// Selects the paths of the trained parameters of a policy.
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

/// Reshapes data.
fn shaped(data: TensorData, shape: Shape) -> TensorData {
    let dtype = data.dtype();
    TensorData::from_bytes(data.into_bytes(), shape, dtype)
}

/// Calls `take` with the path, value and shape of each selected parameter. Values are flattened and
/// have no autodiff tape.
fn each<M: Module>(module: &M, which: &Which, take: impl FnMut(String, Tensor<1>, Shape)) {
    module.visit(&mut Each { path: ModulePath::default(), which, take });
}

struct Each<'a, F> {
    path: ModulePath,
    which: &'a Which,
    take: F,
}

impl<F: FnMut(String, Tensor<1>, Shape)> ModuleVisitor for Each<'_, F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join();
        if self.which.takes(&path, param) {
            let value = without_tape(param.base());
            let shape = value.shape();
            (self.take)(path, flat(value), shape);
        }
    }
}

/// Replaces each parameter by the result of `new` for its path and value. If `new` returns `None`,
/// the parameter is kept.
///
/// Old and new values are flattened and have no autodiff tape. A new value must have the number of
/// elements and the device of the old one.
pub(crate) fn replace_values<M: Module, F>(module: M, new: F) -> M
where
    F: FnMut(&str, Tensor<1>) -> Option<Tensor<1>>,
{
    module.map(&mut Replace { path: ModulePath::default(), new })
}

struct Replace<F> {
    path: ModulePath,
    new: F,
}

impl<F: FnMut(&str, Tensor<1>) -> Option<Tensor<1>>> ModuleMapper for Replace<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(new) = (self.new)(&self.path.join(), flat(without_tape(param.base()))) else { return param };
        param.map(|old| {
            let new = new.reshape(old.shape());
            if old.is_autodiff() { replace_leaf(&old, new) } else { new }
        })
    }
}
