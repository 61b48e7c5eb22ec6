//! A whole model as one safetensors file.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor};

use super::remap::published;
use super::stored::Stored;
use crate::error::ModelError;
use crate::files::write_atomically;
use crate::llava::Llava;

impl Llava {
    /// Writes all weights as `model.safetensors`, in f32, f16 or bf16, under the names that llava-hf publishes.
    ///
    /// With the other files of the checkpoint beside it, this crate and transformers load it. For a model that was
    /// trained in full, or built from nothing; one with adapters is saved by
    /// [`save_adapter`](crate::lora::save_adapter) and [`merge_checkpoint`](crate::lora::merge_checkpoint).
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`], or if the file cannot be written.
    pub fn save_weights(&self, path: &Path, dtype: FloatDType) -> Result<(), ModelError> {
        self.check_plain()?;
        let mut weights = Weights { path: Vec::new(), dtype, found: Vec::new() };
        self.visit(&mut weights);
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        let bytes = safetensors::serialize(weights.found, Some(metadata))
            .map_err(|error| ModelError::Safetensors { path: path.into(), reason: error.to_string() })?;
        write_atomically(path, &bytes)
    }
}

struct Weights {
    /// Names of the fields, and whether each is within a linear.
    path: Vec<(String, bool)>,
    dtype: FloatDType,
    found: Vec<(String, Stored)>,
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container == "Struct:Linear"));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let names: Vec<_> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        let name = published(&names.join("."));
        let in_linear = self.path.last().is_some_and(|(_, linear)| *linear);
        let value = param.base().detach();
        let stored = if in_linear && D == 2 {
            Stored::transposed(value, self.dtype)
        } else {
            Stored::new(value, self.dtype)
        };
        self.found.push((name, stored));
    }
}
