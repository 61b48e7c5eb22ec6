//! A whole model as safetensors: one file of its own, or the files of a checkpoint with its weights
//! in them.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::files::write_bytes;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor, TensorData};

use super::finite;
use super::index::WeightIndex;
use super::rewrite::rewrite;
use super::stored::Stored;
use crate::error::{ModelError, WeightProblems};
use crate::families::spec::file_leaf;
use crate::vlm::Vlm;

impl Vlm {
    /// Writes all weights as `model.safetensors`, in f32, f16 or bf16, under the names of the
    /// published checkpoints of the family.
    ///
    /// With the other files of the checkpoint beside it, this crate and transformers load it. For a
    /// model that was built from nothing, or trained in full; one with adapters is saved by
    /// [`save_adapter`](crate::lora::save_adapter) and
    /// [`merge_checkpoint`](crate::lora::merge_checkpoint).
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`]; [`ModelError::NotFiniteWeights`]; if the file cannot be
    /// written.
    pub fn save_weights(&self, path: &Path, dtype: FloatDType) -> Result<(), ModelError> {
        self.check_plain()?;
        let spec = self.config().spec();
        let stored = |weight: Weight| (spec.published(&weight.name), Stored::of_data((weight.read)(), dtype));
        Ok(write_bytes(path, &finite::to_bytes(self.weights().into_iter().map(stored), path)?)?)
    }

    /// Writes the checkpoint `base` as `out`, with the weights of this model in place of its own.
    /// For a model that was trained in full.
    ///
    /// Names, types, shards and all other files are those of `base`; so are weights that this model
    /// does not have, as those of vision layers that never run. Only one weight is in memory at a
    /// time. `out` is there whole or not at all.
    ///
    /// # Errors
    /// [`ModelError::HasAdapters`]; [`ModelError::Weights`] if `base` is the checkpoint of another
    /// model; [`ModelError::NotFiniteWeights`]; if `out` cannot be written or holds anything
    /// already.
    pub fn save_checkpoint(&self, base: &Path, out: &Path) -> Result<(), ModelError> {
        self.check_plain()?;
        let index = WeightIndex::open(base, self.config().spec())?;
        let weights: BTreeMap<_, _> =
            self.weights().into_iter().map(|weight| (weight.name.clone(), weight)).collect();
        let mut problems = WeightProblems::default();
        for (name, weight) in &weights {
            match index.entries().get(name) {
                None => problems.missing.push(index.file_name(name)),
                Some(entry) if entry.shape != weight.shape => {
                    problems.misshapen.push((entry.name.clone(), weight.shape.clone(), entry.shape.clone()));
                }
                Some(_) => {}
            }
        }
        if problems.is_fatal() {
            return Err(ModelError::Weights { dir: base.into(), problems: problems.into() });
        }
        rewrite(&index, base, out, &|name, _| Some((weights.get(name)?.read)()))
    }

    fn weights(&self) -> Vec<Weight> {
        let mut weights = Weights::default();
        self.visit(&mut weights);
        weights.found
    }
}

/// A weight that has not been read from its device yet.
struct Weight {
    /// Its canonical name.
    name: String,
    /// As files have it.
    shape: Vec<usize>,
    /// Its values in the layout that files have, in the model's type.
    read: Box<dyn Fn() -> TensorData>,
}

#[derive(Default)]
struct Weights {
    /// Names of the fields, and whether each is within a linear.
    path: Vec<(String, bool)>,
    found: Vec<Weight>,
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
        let name = file_leaf(&names.join("."));
        let in_linear = self.path.last().is_some_and(|(_, linear)| *linear);
        let value = param.base().detach();
        // files keep linears as [d_out, d_in]
        let value = if in_linear && D == 2 { value.swap_dims(D - 2, D - 1) } else { value };
        let shape = value.dims().to_vec();
        self.found.push(Weight { name, shape, read: Box::new(move || value.clone().into_data()) });
    }
}
