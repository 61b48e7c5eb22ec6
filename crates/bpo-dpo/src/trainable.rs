//! The trainable parameters of a module, by path.
//!
//! A parameter is trainable if it requires a gradient, so the module must be in training
//! ([`Module::train`], not `valid`).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::error::{DpoError, Mismatch};
use crate::tensors::{ModulePath, Tensors, decode, describe, encode, replace_leaf};

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
    let tensors = decode(bytes)?;
    let mismatch = compare(&read_trainable(&module)?, &tensors);
    if !mismatch.is_empty() {
        return Err(DpoError::Mismatch { what: "parameters", path: None, mismatch });
    }
    Ok(module.map(&mut Writer { path: ModulePath::default(), tensors }))
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

pub(crate) fn read_trainable<M: Module>(module: &M) -> Result<Tensors, DpoError> {
    let mut reader = Reader { path: ModulePath::default(), tensors: Ok(Tensors::new()) };
    module.visit(&mut reader);
    reader.tensors
}

struct Reader {
    path: ModulePath,
    tensors: Result<Tensors, DpoError>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(tensors) = &mut self.tensors else { return };
        if !param.is_require_grad() {
            return;
        }
        match param.base().inner().try_into_data().map_err(DpoError::device("a parameter")) {
            Ok(data) => drop(tensors.insert(self.path.join(), data)),
            Err(error) => self.tensors = Err(error),
        }
    }
}

struct Writer {
    path: ModulePath,
    tensors: Tensors,
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !param.is_require_grad() {
            return param;
        }
        match self.tensors.remove(&self.path.join()) {
            Some(data) => param.map(|old| replace_leaf(&old, on_device_of(&old, data))),
            None => param,
        }
    }
}

/// The data as a plain tensor where the other tensor is.
pub(crate) fn on_device_of<const D: usize, const E: usize>(other: &Tensor<D>, data: TensorData) -> Tensor<E> {
    let dtype = data.dtype();
    Tensor::from_data(data, (&other.device().inner(), dtype))
}
