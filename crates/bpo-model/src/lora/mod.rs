//! Low-rank adapters (Hu et al., 2021, arXiv 2106.09685): attached to linears of the language model, the vision tower,
//! the projector and the head, computed in factored form, exchanged with PEFT.

mod attach;
mod config;
mod linear;
mod linears;
mod load;
mod merge;
mod merged;
mod names;
mod patterns;
mod peft;
mod save;
mod selection;
mod targets;

pub use config::LoraConfig;
pub use linear::Linear;
pub use load::{adapter_settings, load_adapter};
pub use merge::merge_checkpoint;
pub use patterns::ModulePatterns;
pub use peft::base_of_adapter;
pub(crate) use save::count_adapters;
pub use save::save_adapter;
pub use targets::TargetModules;

/// Whether adapters (and modules trained in full) take part in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// The trained model.
    On,
    /// The model as it was loaded: DPO's reference.
    Off,
}

#[cfg(feature = "dpo")]
impl From<bpo_dpo::Adapters> for Adapters {
    fn from(adapters: bpo_dpo::Adapters) -> Self {
        match adapters {
            bpo_dpo::Adapters::On => Self::On,
            bpo_dpo::Adapters::Off => Self::Off,
        }
    }
}
