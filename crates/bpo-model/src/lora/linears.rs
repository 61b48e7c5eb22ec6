//! The linears of a model that can have an adapter.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::Linear;
use crate::families::Projector;
use crate::vision::VisionTower;
use crate::vlm::{DECODER, HEAD, PROJECTOR, VISION_TOWER, Vlm};

/// Parts whose linears can be adapted. Copies that are trained in full are not among them.
const PARTS: [&str; 3] = [DECODER, VISION_TOWER, PROJECTOR];

/// Whether linears of the part that a path belongs to can be adapted.
pub(super) fn is_in_part(path: &str) -> bool {
    path.split_once('.').is_some_and(|(first, _)| PARTS.contains(&first))
}

/// The shapes `[d_in, d_out]` of every linear of the language model's layers, the vision tower's
/// layers, the projector and the head, by name. The head is included where it is the embedding.
pub(super) fn linear_shapes(model: &Vlm) -> BTreeMap<String, [usize; 2]> {
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    let text = model.config().decoder();
    shapes.found.insert(HEAD.to_owned(), [text.hidden_size, text.vocab_size]);
    shapes.found
}

impl Vlm {
    /// Every linear of the model, copies that are trained in full included.
    pub(crate) fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let trained = self.trained_projector.iter_mut().flat_map(Projector::linears_mut);
        let projector = self.multi_modal_projector.iter_mut().flat_map(Projector::linears_mut).chain(trained);
        let tower = self.vision_tower.iter_mut().flat_map(VisionTower::linears_mut);
        let towers = tower.chain(self.language_model.linears_mut());
        towers.chain(projector).chain(self.lm_head.iter_mut())
    }
}

#[derive(Default)]
struct Shapes {
    /// Names of the fields, and whether each field is a linear.
    path: Vec<(String, bool)>,
    found: BTreeMap<String, [usize; 2]>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push((name.to_owned(), container == "Struct:Linear"));
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some((_, true)) = self.path.last() else { return };
        let names: Vec<_> = self.path.iter().map(|(name, _)| name.as_str()).collect();
        let path = names.join(".");
        let shape = param.lazy_shape();
        if let (Some(module), [d_in, d_out]) = (path.strip_suffix(".weight"), shape.as_slice())
            && is_in_part(module)
        {
            self.found.insert(module.to_owned(), [*d_in, *d_out]);
        }
    }
}
