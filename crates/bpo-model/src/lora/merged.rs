//! Merging of adapters into the weights in memory.

use burn::module::Param;

use super::Linear;
use crate::vlm::Vlm;

impl Vlm {
    /// Merges adapters and trained copies into the weights: `W + s A B` in the type of `W`. Each
    /// linear then needs one product instead of three. The result has no adapters to switch off.
    pub fn merged(mut self) -> Self {
        self.linears_mut().for_each(merge);
        if let Some(trained) = self.trained_projector.take() {
            self.multi_modal_projector = Some(trained);
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
