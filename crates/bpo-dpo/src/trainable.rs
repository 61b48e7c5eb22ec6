//! The trainable parameters of a module, by path.
//!
//! A parameter is trainable if it requires a gradient, so the module must be in training
//! ([`Module::train`], not `valid`).

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Shape, Tensor, TensorData};

use crate::error::{DpoError, Mismatch};
use crate::loss::off_tape;
use crate::tensors::{ModulePath, Tensors, decode, describe, dims, encode, flat, replace_leaf};

/// Paths of the trainable parameters, in the order of the module's fields.
pub fn trainable_paths<M: Module>(module: &M) -> Vec<String> {
    let mut paths = Vec::new();
    each(module, &Which::Trainable, |path, _, _| paths.push(path));
    paths
}

/// The trainable parameters by path: flat, and on no tape.
pub(crate) fn trainable_values<M: Module>(module: &M) -> BTreeMap<String, Tensor<1>> {
    let mut values = BTreeMap::new();
    each(module, &Which::Trainable, |path, value, _| drop(values.insert(path, value)));
    values
}

/// The trainable parameters as safetensors bytes: names are paths, values exact.
///
/// # Errors
/// [`DpoError::Device`] if the device fails; [`DpoError::ElementType`] for elements that
/// safetensors has no type for.
pub fn save_trainable<M: Module>(module: &M) -> Result<Vec<u8>, DpoError> {
    encode(&read_trainable(module)?)
}

/// Puts parameters from [`save_trainable`] into a module whose trainable parameters are the same.
///
/// # Errors
/// [`DpoError::Safetensors`] for other bytes; [`DpoError::Mismatch`] with every missing, extra and
/// misshapen parameter.
pub fn load_trainable<M: Module>(module: M, bytes: &[u8]) -> Result<M, DpoError> {
    load(module, &Which::Trainable, bytes)
}

/// What a module lacks, or has in other shapes, of the parameters that are trained in `policy`.
pub(crate) fn unlike<M: Module>(module: &M, policy: &M) -> Mismatch {
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

/// The parameters of a module that have the paths of the trained ones in `policy`, in the form of
/// [`save_trainable`].
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

/// Which parameters a walk over a module takes.
enum Which {
    /// Those that require a gradient.
    Trainable,
    /// Those of these paths.
    Named(BTreeSet<String>),
}

impl Which {
    /// The trained parameters of a policy.
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

/// The same elements in another shape.
fn shaped(data: TensorData, shape: Shape) -> TensorData {
    let dtype = data.dtype();
    TensorData::from_bytes(data.into_bytes(), shape, dtype)
}

/// Calls `take` with path, value and shape of each parameter of `which`: flat, and on no tape.
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
            let value = off_tape(param.base());
            let shape = value.shape();
            (self.take)(path, flat(value), shape);
        }
    }
}

/// Puts what `new` gives for a parameter's path and value in its place; where it gives nothing, the
/// parameter stays.
///
/// Values are flat and on no tape, old and new ones. A new one has the elements of the old one, on
/// its device.
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
        let Some(new) = (self.new)(&self.path.join(), flat(off_tape(param.base()))) else { return param };
        param.map(|old| {
            let new = new.reshape(old.shape());
            if old.is_autodiff() { replace_leaf(&old, new) } else { new }
        })
    }
}
