//! Bootstrapped Preference Optimization (Pi et al., ECCV 2024, [arXiv 2403.08730](https://arxiv.org/abs/2403.08730)): aligns
//! a vision-language model by direct preference optimization against answers that show its text prior.
//!
//! This crate composes the others, which it re-exports: [`distort`] weakens images, [`inject`] puts errors into answers,
//! [`pairs`] makes preference data of both, [`dpo`] trains on it, [`model`] is LLaVA-1.5 on burn, [`eval`] measures
//! hallucination.
//!
//! - [`config`]: one TOML file with all settings
//! - [`run`](mod@run): all stages in a [run directory](run_dir), which survives being killed at any moment
//! - [`stages`]: the stages on their own, generic over model, injector and policy
//! - [`llava`], [`checkpoint`], [`injector`], [`device`]: what fills them in by default
//! - [`score`](mod@score), [`generate`](mod@generate): log-probabilities and answers
//! - [`plan`](mod@plan): what training will take, before it begins
//! - `curves` (feature `curves`): the figures of a training as a picture
//! - `distort::sheet` (feature `sheet`): an image by families of distortions and severities, as a picture
//!
//! # From a checkpoint to an adapter
//!
//! ```no_run
//! use bpo::prelude::*;
//!
//! # fn main() -> Result<(), bpo::BpoError> {
//! let mut config = RunConfig::default();
//! config.model.path = Some("llava-1.5-7b-hf".into());
//! config.data.path = Some("llava.json".into());
//! config.data.images = Some("images".into());
//!
//! let mut parts = LocalBackend::new(config.clone(), config.device.open()?, None);
//! let report = bpo::run::run(&config, "run".as_ref(), &mut parts, &mut ())?;
//! for (stage, summary) in &report.stages {
//!     println!("{stage}: {} done, skipped: {}", summary.done, summary.skipped);
//! }
//! # Ok(())
//! # }
//! ```

pub mod checkpoint;
pub mod config;
#[cfg(feature = "curves")]
pub mod curves;
pub mod device;
pub mod error;
pub mod generate;
pub mod injector;
pub mod llava;
pub mod paths;
pub mod plan;
pub mod progress;
pub mod reference;
mod resume;
pub mod run;
pub mod run_dir;
pub mod samples;
pub mod score;
mod settings_file;
pub mod stages;
pub mod summary;
mod usage;

pub use bpo_distort as distort;
pub use bpo_dpo as dpo;
pub use bpo_eval as eval;
pub use bpo_inject as inject;
pub use bpo_model as model;
pub use bpo_pairs as pairs;
pub use burn;
pub use error::BpoError;

/// What most programs need.
pub mod prelude {
    pub use crate::checkpoint::Checkpoint;
    pub use crate::config::{RunConfig, Stage};
    pub use crate::device::{DeviceSpec, Dtype};
    pub use crate::error::BpoError;
    pub use crate::llava::LocalBackend;
    pub use crate::progress::Progress;
    pub use crate::run::{Completion, PipelineBackend, RunReport};
}
