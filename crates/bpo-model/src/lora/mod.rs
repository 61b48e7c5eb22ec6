//! Low-rank adapters (Hu et al., 2021, arXiv 2106.09685) on linears of the language model, the
//! vision tower, the projector and the head. They are computed in factored form, and read and
//! written in PEFT's format.

mod attach;
mod config;
mod linear;
mod linears;
mod load;
mod merge;
mod merged;
mod names;
mod noise;
mod patterns;
mod peft;
mod save;
mod selection;
mod targets;
mod whole;

pub use config::LoraConfig;
pub use linear::Linear;
pub use load::{adapter_settings, load_adapter};
pub use merge::merge_checkpoint;
pub use patterns::ModulePatterns;
pub use peft::base_of_adapter;
pub(crate) use save::count_adapters;
pub use save::{AdapterBase, save_adapter};
pub use targets::TargetModules;

/// Whether adapters and modules of `modules_to_save` take part in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapters {
    /// They take part: the policy.
    On,
    /// They do not: the model as it was loaded, which is the reference of DPO.
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
