//! Low-rank adapters (Hu et al., 2021, arXiv 2106.09685): attached to the language model's linears, computed in
//! factored form, exchanged with PEFT.

mod attach;
mod config;
mod linear;
mod merge;
mod names;
mod peft;

pub use config::{LoraConfig, TargetModules};
pub use linear::Linear;
pub use merge::merge_checkpoint;
pub(crate) use peft::count_adapters;
pub use peft::{load_adapter, save_adapter};

/// Whether adapters (and the trained projector) take part in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// The trained model.
    On,
    /// The model as it was loaded: DPO's reference.
    Off,
}

#[cfg(feature = "dpo")]
impl From<bpo_dpo::policy::Adapters> for Adapters {
    fn from(adapters: bpo_dpo::policy::Adapters) -> Self {
        match adapters {
            bpo_dpo::policy::Adapters::On => Self::On,
            bpo_dpo::policy::Adapters::Off => Self::Off,
        }
    }
}
