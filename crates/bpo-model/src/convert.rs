//! The data crates' turns as the processor's.

use crate::processor::Turn;

impl From<&bpo_pairs::sft::Turn> for Turn {
    fn from(turn: &bpo_pairs::sft::Turn) -> Self {
        Self::new(&turn.prompt, &turn.answer)
    }
}
