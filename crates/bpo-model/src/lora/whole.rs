//! Copies of modules that are trained in full beside adapters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

use super::names::AdapterTensor;
use crate::checkpoint::WeightLoader;
use crate::families::FamilySpec;
use crate::families::spec::file_leaf;

/// Replaces the parameters of the modules `whole` by copies that require gradients, in f32 as
/// adapters are. `path` is the path of `module` in the model.
pub(super) fn trainable<M: Module>(module: M, path: &str, whole: &[&str]) -> M {
    module.map(&mut Copies { path: vec![path.to_owned()], whole, saved: None })
}

/// Copies a module as [`trainable`] does, with values from an adapter's file. Values that are
/// missing or misshapen are recorded for [`WeightLoader::finish`].
pub(super) fn saved<M: Module>(
    module: M,
    path: &str,
    whole: &[&str],
    weights: &mut WeightLoader,
    spec: &FamilySpec,
) -> M {
    module.map(&mut Copies { path: vec![path.to_owned()], whole, saved: Some((weights, spec)) })
}

struct Copies<'a> {
    path: Vec<String>,
    whole: &'a [&'a str],
    /// Where values come from, if not from the module itself.
    saved: Option<(&'a mut WeightLoader, &'a FamilySpec)>,
}

impl ModuleMapper for Copies<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        if !path.rsplit_once('.').is_some_and(|(module, _)| self.whole.contains(&module)) {
            return param;
        }
        let value = match &mut self.saved {
            None => param.base(),
            Some((weights, spec)) => {
                let name = AdapterTensor::Saved(file_leaf(&path)).name(spec);
                let mut shape = param.base().dims();
                if D == 2 {
                    // files keep the weights of linears as [d_out, d_in]
                    shape.reverse();
                    weights.tensor(&name, shape).swap_dims(D - 2, D - 1)
                } else {
                    weights.tensor(&name, shape)
                }
            }
        };
        Param::from_tensor(value.cast(DType::F32))
    }
}
