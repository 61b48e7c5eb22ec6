//! Training of the weights themselves, without adapters.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use super::Llava;

impl Llava {
    /// Makes the parameters train whose path `chosen` takes, and freezes all others.
    ///
    /// Paths are those of the module, as `vision_tower.encoder.layers.0.mlp.fc1.weight`,
    /// `multi_modal_projector.linear_1.bias` or `language_model.layers.3.self_attn.q_proj.weight`. Gradients need a
    /// device with autodiff: see burn's [`Module::train`].
    pub fn unfreeze(self, chosen: impl Fn(&str) -> bool) -> Self {
        self.map(&mut Unfreeze { path: Vec::new(), chosen })
    }
}

struct Unfreeze<F> {
    path: Vec<String>,
    chosen: F,
}

impl<F: Fn(&str) -> bool> ModuleMapper for Unfreeze<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trains = (self.chosen)(&self.path.join("."));
        param.set_require_grad(trains)
    }
}
