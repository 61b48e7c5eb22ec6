//! Direct preference optimization on [burn]: preference losses as pure functions, and a trainer
//! that resumes interrupted runs. On the flex backend a resumed run computes the same bits as an
//! uninterrupted one.
//!
//! - [`loss`]: the losses. They depend only on burn's tensors, so other training loops can use them
//!   without the trainer. To add a loss, implement [`loss::PreferenceLoss`].
//! - [`hardness`]: coefficients of pairs by the items that their answers name (HaNoRec).
//! - [`Trainer`]: trains any model that implements [`Policy`] (log-probabilities of completions)
//!   with a [`Collate`] that prepares its batches. Settings are in [`DpoConfig`].
//! - [`Reference`], [`LogpCache`]: the reference model of the policy, and a cache of its
//!   log-probabilities.
//! - [`Observer`], [`StepMetrics`], [`EvalMetrics`], [`CheckpointDir`]: the progress of a run and
//!   its files.
//! - [`DataOrder`], [`GroupBatch`], [`validate_pairs`]: order, batches and validation of the pairs.
//! - [`Trainer::with_devices`], [`map_on_devices`]: several devices in one process.
//! - [`PathOptimizer`], [`LrSchedule`], [`clip_global_norm`], [`save_trainable`]: parts of the
//!   trainer for other training loops.
//!
//! # The loss alone
//!
//! ```
//! use bpo_dpo::loss::{Loss, Objective, PairLogps, PerPair};
//! use burn::tensor::{Device, Tensor};
//!
//! // log-probabilities of one pair's chosen and rejected completions
//! let values = |value: f32| Tensor::from_floats([value], &Device::flex());
//! let policy = PairLogps::new(values(-10.0), values(-14.0));
//! let reference = PairLogps::new(values(-12.0), values(-13.0));
//! let objective = Objective::new(Loss::default(), 0.1);
//! let output = objective.forward(&policy, Some(&reference), &PerPair::default());
//! assert!((output.losses.into_scalar::<f32>() - 0.5544).abs() < 1e-4);
//! ```
//!
//! Losses are not reduced and keep the policy's autodiff tape: `output.losses.mean().backward()`
//! computes the gradients.

#![forbid(unsafe_code)]

mod batches;
mod buckets;
mod changed;
mod checkpoint;
mod config;
mod data;
mod decay;
mod devices;
mod error;
mod forward;
mod gradients;
pub mod hardness;
pub mod loss;
mod metrics;
mod observer;
mod optimizer;
mod order;
mod policy;
mod reference;
mod replica;
mod run;
mod run_files;
mod schedule;
mod state;
mod stats;
mod step;
mod tensorboard;
mod tensors;
mod trainable;
mod trainer;
mod training;
mod validate;

pub use batches::{PreparedBatch, PreparedPairs};
pub use checkpoint::{Checkpoint, CheckpointDir};
pub use config::{Criterion, DpoConfig, INITIAL_TOLERANCE, Weighting};
pub use devices::map_on_devices;
pub use error::{ConfigChange, DpoError, Mismatch, Source, Stale};
pub use gradients::{clip_global_norm, global_norm};
pub use loss::{TokenDivergences, TokenLogps, TokenStatistics, token_divergence};
pub use metrics::{EvalMetrics, LogRecord, MetricsLog, StepMetrics};
pub use observer::{Control, Observer, RunPlan};
pub use optimizer::{LrGroup, PathOptimizer};
pub use order::{DataOrder, GroupBatch, split_pairs};
pub use policy::{Adapters, Collate, Policy, PromptGroup, RowFingerprint};
pub use reference::{LogpCache, PairBatches, Reference, ReferenceSync};
pub use schedule::{LrSchedule, Schedule};
pub use state::{Best, TrainerState, check_same_run, fingerprint_pairs};
pub use trainable::{load_trainable, save_trainable, trainable_paths};
pub use trainer::Trainer;
pub use training::{TrainOutput, Training};
pub use validate::{UsablePairs, usable_pairs, validate_pairs};
