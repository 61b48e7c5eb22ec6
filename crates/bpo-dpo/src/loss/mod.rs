//! Preference losses: pure functions that return one value per pair.
//!
//! This module depends only on burn's tensors, not on the trainer, so other training loops can use
//! it:
//!
//! - [`Loss`] selects a built-in loss by the name that TRL has for it. Each has a file with its
//!   equation and its paper.
//! - [`PreferenceLoss`] is the interface of a loss. Implement it for custom losses.
//! - [`Objective`] is a loss with the coefficient, the divergence and the reference of its rewards.
//!   Its [`forward`](Objective::forward) takes [`PairLogps`] and returns the losses and the
//!   implicit [`Rewards`].
//! - [`WeightedSum`] and [`Loss::Sum`] add several losses.
//!
//! To add a built-in loss:
//!
//! 1. Write a file with the loss as a function, its equation and its paper, and add its `mod` and
//!    `pub use` lines here.
//! 2. Add a variant to [`Loss`] in `builtin.rs`, with its arms in `type_name`, `properties`,
//!    `forward` and `validate`, and its name to `NAMES` in `named.rs`.
//! 3. Add it to `objectives` in `tests/suite/loss/properties.rs`, which compares gradients with
//!    finite differences. If TRL has the loss, record its values with
//!    `tools/golden/trl_losses.py`, and raise the number of compared settings in
//!    `tests/suite/loss.rs`.
//! 4. Add a row to the table in `docs/src/losses.md`.

mod aot;
mod apo;
mod bco;
mod beta;
mod builtin;
mod chip;
mod contrasted;
mod discopop;
mod divergence;
mod error;
mod exo;
mod hinge;
mod ipo;
mod logps;
mod mdpo;
mod named;
mod nca;
mod numbers;
mod objective;
mod preference;
mod responsiveness;
mod rewards;
mod robust;
mod sft;
mod sigmoid;
mod simpo;
mod sppo;
mod sum;
mod symmpo;
mod tensors;
mod tokens;
mod wpo;

pub use aot::{aot_loss, aot_unpaired_loss};
pub use apo::{apo_down_loss, apo_zero_loss};
pub use bco::bco_loss;
pub use beta::Beta;
pub use builtin::Loss;
pub use chip::chip_loss;
pub use contrasted::Contrasted;
pub use discopop::discopop_loss;
pub use divergence::Divergence;
pub use error::LossError;
pub use exo::exo_loss;
pub use hinge::hinge_loss;
pub use ipo::ipo_loss;
pub use logps::{
    ChangedTokens, PairChanged, PairDivergences, PairLengths, PairLogps, PairRows, PairStatistics, PairTails,
    StatisticSums,
};
pub use mdpo::{anchor_loss, conditional_loss};
pub use nca::nca_loss;
pub(crate) use numbers::{ABOVE_0, AT_LEAST_0, NUMBER, fits_f32};
pub use objective::{LossOutput, Objective, PerPair};
pub use preference::{LossInputs, LossProperties, PreferenceLoss};
pub(crate) use responsiveness::RESPONSIVE_PAIRS;
pub use responsiveness::{responsive_beta, responsiveness};
pub use rewards::Rewards;
pub use robust::robust_loss;
pub use sft::sft_loss;
pub use sigmoid::sigmoid_loss;
pub use simpo::simpo_loss;
pub use sppo::sppo_loss;
pub use sum::{WeightedLoss, WeightedSum};
pub use symmpo::symmpo_loss;
pub(crate) use tensors::{widen, without_tape};
pub use tokens::{TokenDivergences, TokenLogps, TokenStatistics, token_divergence};
pub use wpo::wpo_weights;
