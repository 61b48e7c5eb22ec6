//! Training of weights themselves, without adapters.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::Vlm;

impl Vlm {
    /// Trains the parameters whose path `chosen` accepts, and freezes all others.
    ///
    /// Paths are those of the module, such as `vision_tower.encoder.layers.0.mlp.fc1.weight`,
    /// `multi_modal_projector.linear_1.bias` or `language_model.layers.3.self_attn.q_proj.weight`.
    /// Gradients need a device with autodiff: see [`Module::train`].
    pub fn unfreeze(self, chosen: impl Fn(&str) -> bool) -> Self {
        self.map(&mut Unfreeze { path: Vec::new(), chosen })
    }

    /// Whether the vision tower is trained or has adapters. The model must be in training state.
    pub(crate) fn changes_vision(&self) -> bool {
        #[derive(Default)]
        struct Changes(bool);
        impl ModuleVisitor for Changes {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0 |= param.is_require_grad() || param.adapter().is_some();
            }
        }
        let mut changes = Changes::default();
        self.vision_tower.visit(&mut changes);
        changes.0
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
