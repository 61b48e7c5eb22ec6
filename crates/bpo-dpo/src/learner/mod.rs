//! Training with burn-train: a policy as a model of [`burn::train::SupervisedTraining`], for its dashboard, its
//! checkpoints by the epoch and its data-parallel strategies. Behind the feature `learner`.
//!
//! - [`DpoLearner`]: the model
//! - [`PairBatcher`]: its batches, for burn's data loaders
//! - [`Figure`], [`FigureMetric`]: its metrics, under TRL's names
//! - [`Lines`]: where there is no terminal
//! - [`PlannedRate`]: the learning rate of [`DpoConfig`](crate::config::DpoConfig)
//!
//! A step is that of [`Trainer`](crate::trainer::Trainer): the gradient of the mean loss of all its pairs, on however many
//! devices and in however many batches they were, limited by its norm; a step whose gradient is not finite is left out.
//! Of the settings `loss`, `beta`, `divergence`, `reference_free`, `ld_alpha`, `kind_weights`, `margin_scale`, `weighting`,
//! `max_grad_norm` and `statistics` count, and what [`PlannedRate`] and
//! [`DpoConfig::adamw`](crate::config::DpoConfig::adamw) take; the rest is burn's. What asks for something that only the
//! trainer does, such as `moving_reference`, `lr_groups` and `keep_best`, is refused. Unlike the trainer burn-train saves and
//! resumes by the epoch only, sets nothing aside (see [`vet`](crate::vet::vet)), and does not check that the policy begins as
//! its reference.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bpo_dpo::config::DpoConfig;
//! use bpo_dpo::error::DpoError;
//! use bpo_dpo::learner::{DpoLearner, Figure, FigureMetric, PairBatch, PairBatcher, PlannedRate};
//! use bpo_dpo::policy::{Collate, Policy};
//! use bpo_pairs::record::PreferencePair;
//! use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
//! use burn::data::dataset::InMemDataset;
//! use burn::module::ModuleDisplay;
//! use burn::train::metric::LossMetric;
//! use burn::train::{Learner, SupervisedTraining};
//!
//! fn train<P, C>(policy: P, collate: C, pairs: Vec<PreferencePair>) -> Result<P, DpoError>
//! where
//!     P: Policy<Batch: Send + Sync + 'static> + ModuleDisplay + 'static,
//!     C: Collate<Batch = P::Batch> + Send + 'static,
//! {
//!     let config = DpoConfig::default();
//!     let steps = config.epochs * pairs.len().div_ceil(config.batch_size);
//!     let loader: Arc<dyn DataLoader<PairBatch<P::Batch>>> =
//!         DataLoaderBuilder::new(PairBatcher::new(config.clone(), collate))
//!             .batch_size(config.batch_size)
//!             .build(InMemDataset::new(pairs));
//!     let learner = Learner::new(
//!         DpoLearner::new(config.clone(), policy)?,
//!         config.adamw().init(),
//!         PlannedRate::new(&config, steps),
//!     );
//!     // better: other pairs to validate on
//!     let result = SupervisedTraining::new("run", loader.clone(), loader)
//!         .metrics((LossMetric::new(), FigureMetric::new(Figure::Margins)))
//!         .num_epochs(config.epochs)
//!         .launch(learner);
//!     if let Some(error) = result.error {
//!         eprintln!("{error}");
//!     }
//!     Ok(result.model.into_policy())
//! }
//! ```

mod batch;
mod initial;
mod lines;
mod metric;
mod model;
mod output;
mod rate;

pub use batch::{PairBatch, PairBatcher};
pub use lines::Lines;
pub use metric::{Figure, FigureMetric};
pub use model::DpoLearner;
pub use output::PairOutput;
pub use rate::PlannedRate;
