//! Adapters folded into the weights in memory.

use burn::module::Param;

use super::Linear;
use crate::llava::Llava;

impl Llava {
    /// The model with what was trained folded in: `W + s A B` in place of each adapted weight, in its type, and trained copies in
    /// place of their originals. Answers take one product for each linear then, not three; there is no way back.
    pub fn merged(mut self) -> Self {
        self.linears_mut().for_each(merge);
        if let Some(trained) = self.trained_projector.take() {
            self.multi_modal_projector = trained;
        }
        if let Some(trained) = self.trained_head.take() {
            self.lm_head = Some(trained);
        }
        self
    }
}

fn merge(linear: &mut Linear) {
    if let Some(lora) = linear.weight.adapter() {
        let weight = linear.weight.base();
        let change = lora.a.val().matmul(lora.b.val()).mul_scalar(lora.scale);
        let dtype = weight.dtype();
        let merged = (weight.cast(change.dtype()) + change).cast(dtype);
        linear.weight = Param::from_tensor(merged).set_require_grad(false);
    }
}
