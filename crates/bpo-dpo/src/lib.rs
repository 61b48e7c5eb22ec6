//! Direct preference optimization on [burn]: losses as pure functions, and a small trainer that can be stopped at any
//! moment.
//!
//! Nothing here knows a particular model. [`loss`] needs log-probabilities only; [`trainer::Trainer`] needs a
//! [`policy::Policy`], which gives log-probabilities of completions, and a [`policy::Collate`], which prepares them.
//!
//! - [`loss`], [`logps`]: the mathematics
//! - [`config`], [`trainer`], [`observer`], [`metrics`], [`checkpoint`]: a run
//! - [`reference`](mod@reference): what it is held to
//! - [`order`], [`validate_pairs`]: its data
//! - [`optimizer`], [`schedule`], [`gradients`], [`trainable`]: its parts, of use on their own
//!
//! # The loss alone
//!
//! ```
//! use bpo_dpo::logps::PairLogps;
//! use bpo_dpo::loss::{Loss, Objective, PerPair};
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex();
//! let logps = |chosen: f32, rejected: f32| PairLogps::new(
//!     Tensor::from_floats([chosen], &device),
//!     Tensor::from_floats([rejected], &device),
//! );
//! // the policy finds the chosen answer likelier than the reference does, and the rejected one less likely
//! let objective = Objective::new(Loss::default(), 0.1);
//! let output = objective.forward(&logps(-10.0, -14.0), Some(&logps(-12.0, -13.0)), &PerPair::default());
//! let loss: f32 = output.losses.into_scalar();
//! assert!((loss - (1.0f32 + (-0.3f32).exp()).ln()).abs() < 1e-6);
//! ```
//!
//! Losses are unreduced and keep the policy's autodiff tape: `output.losses.mean().backward()` gives gradients.

mod buckets;
pub mod checkpoint;
pub mod config;
mod data;
mod decay;
mod digest;
pub mod error;
mod files;
mod forward;
pub mod gradients;
pub mod logps;
pub mod loss;
pub mod metrics;
mod numbers;
pub mod observer;
pub mod optimizer;
pub mod order;
pub mod policy;
pub mod reference;
mod run;
mod run_files;
pub mod schedule;
mod stats;
mod step;
mod tensors;
pub mod trainable;
pub mod trainer;
pub mod validate;

pub use config::{DpoConfig, INITIAL_TOLERANCE};
pub use error::DpoError;
pub use trainer::Trainer;
