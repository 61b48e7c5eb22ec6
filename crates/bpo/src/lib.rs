//! Bootstrapped Preference Optimization (Pi et al., ECCV 2024,
//! [arXiv 2403.08730](https://arxiv.org/abs/2403.08730)): aligns a vision-language model by direct
//! preference optimization, with rejected answers that show the text prior of its language model.
//!
//! - [`stages`]: weakening, judging, injection, pairing and training, generic over model, injector and
//!   policy
//! - [`run()`]: all stages in a [run directory](RunDir), resumable after the process was killed at
//!   any point
//! - [`run_rounds()`]: several runs, each from the result of the one before
//! - [`RunConfig`]: one TOML file with all settings
//! - [`generate()`]: answers to questions about images
//! - [`score()`]: log-probabilities of the answers of pairs
//! - [`plan()`]: memory and time that a training will take
//! - [`Gallery`]: an HTML page of pairs
//! - [`PairStatistics`]: lengths, kinds, near-duplicates and injected words of pairs
//!
//! The crate re-exports the crates that it combines: [`distort`] weakens images, [`inject`] injects
//! errors into answers, [`pairs`] defines the data formats, [`dpo`] trains, [`model`] has the model families
//! on burn, [`eval`] measures hallucination, [`server`] is a client of OpenAI-compatible servers.
//!
//! # From a checkpoint to an adapter
//!
#![cfg_attr(feature = "model", doc = "```no_run")]
#![cfg_attr(not(feature = "model"), doc = "```ignore")]
//! use bpo::{LocalBackend, RunConfig};
//!
//! # fn main() -> Result<(), bpo::BpoError> {
//! let mut config = RunConfig::default();
//! config.model.path = Some("llava-1.5-7b-hf".into());
//! config.data.path = Some("llava.json".into());
//! config.data.images = Some("images".into());
//!
//! let (device, further) = config.device.open()?;
//! let mut backend = LocalBackend::new(config.clone(), device, None).with_devices(further);
//! let report = bpo::run(&config, "run".as_ref(), &mut backend, &mut ())?;
//! for (stage, summary) in &report.stages {
//!     println!("{stage}: {} done, skipped: {}", summary.done, summary.skipped);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `model` (default): models, training and scoring on burn. Without it the crate makes preference
//!   pairs for any trainer and does not depend on burn.
//! - `server` (default): answers and error injection by models behind OpenAI-compatible servers
//! - `hub` (default): models of the Hugging Face Hub by name
//! - `flex` (default), `tch`, `cuda`, `cuda-nvrtc`, `wgpu`: backends of burn
//! - `curves` (default): plots of the training metrics
//! - `sheet`: contact sheets of distortions, `bpo::save_sheet`

#![forbid(unsafe_code)]

#[cfg(feature = "model")]
mod checkpoint;
mod config;
#[cfg(feature = "curves")]
mod curves;
mod device;
mod distort_files;
mod error;
mod fingerprint;
mod frame_names;
mod generate;
mod hub;
mod image_cache;
mod images;
mod injector;
mod inspect;
mod judge;
mod ledger;
#[cfg(feature = "model")]
mod local;
#[cfg(feature = "model")]
mod local_vlm;
mod media;
mod paths;
#[cfg(feature = "model")]
mod plan;
mod preflight;
mod progress;
#[cfg(feature = "model")]
mod reference;
#[cfg(feature = "model")]
mod responder;
#[cfg(feature = "model")]
mod round_summary;
mod rounds;
mod run;
mod run_dir;
mod sample_file;
#[cfg(feature = "model")]
mod samples;
#[cfg(feature = "model")]
mod score;
#[cfg(feature = "server")]
mod server_vlm;
mod stage;
pub mod stages;
mod statistics;
mod summary;
#[cfg(feature = "model")]
mod text_model;
#[cfg(feature = "model")]
mod token_check;
mod usage;
mod videos;
mod vision;
#[cfg(feature = "model")]
mod weaken_model;

pub use bpo_distort as distort;
pub use bpo_distort::ImageLimits;
#[cfg(feature = "model")]
pub use bpo_dpo as dpo;
pub use bpo_eval as eval;
pub use bpo_inject as inject;
#[cfg(feature = "model")]
pub use bpo_model as model;
pub use bpo_pairs as pairs;
pub use bpo_pairs::Limits;
#[cfg(feature = "server")]
pub use bpo_server as server;
#[cfg(feature = "model")]
pub use burn;

#[cfg(feature = "model")]
pub use checkpoint::{Checkpoint, ModelUse, check_adapter, check_base};
pub use config::{
    Change, ChosenAnswer, ConditionalSection, DataSection, Distortions, FullFinetuneSection,
    HALF_PRECISION_TOLERANCE, InjectSection, JudgeMethod, JudgeSection, Missing, ModelSection, Preset,
    ReferenceSection, Required, RunConfig, Seed, SentFormat, SentImages, Settings, TruthSection,
    VideoSection, WeakenSection,
};
pub use device::{DeviceSpec, Devices, Dtype};
#[cfg(feature = "sheet")]
pub use distort_files::save_sheet;
pub use distort_files::{CopyState, DistortEvent, DistortFiles, DistortFilesError, DistortOutcome};
pub use error::{BpoError, UnknownKey, chain};
pub use fingerprint::fingerprint_checkpoint;
pub use generate::{Answer, Question, check_sampling, generate, read_questions};
pub use hub::HubModel;
#[cfg(feature = "hub")]
pub use hub::{FetchedModel, Hub, HubError};
pub use image_cache::{ImageCache, LazyImage};
pub use images::{Escape, ImageError, ImageRoot};
pub use injector::open_injector;
pub use inspect::Gallery;
pub use judge::{Claim, GradedAnswer, Judgment, Rubric, Verdict};
pub use ledger::{
    AnswerProblem, ChangedFile, FileChange, FileRecord, Inputs, Manifest, StageEntry, StageLedger, bind_dir,
    check_answers, manifest_beside, weakened_shard,
};
#[cfg(feature = "model")]
pub use local::{LocalBackend, collator};
#[cfg(feature = "model")]
pub use local_vlm::LocalVlm;
pub use media::{Media, RowNames};
pub use paths::Paths;
#[cfg(feature = "model")]
pub use plan::{TrainingPlan, plan};
pub use progress::Progress;
#[cfg(feature = "model")]
pub use reference::{fill_cache, on_devices};
#[cfg(feature = "model")]
pub use responder::ResponderError;
#[cfg(feature = "model")]
pub use round_summary::{RoundSummary, read_rounds};
pub use rounds::{RoundsError, round_config, round_dir, run_rounds};
pub use run::{AnnotatedData, PipelineBackend, RunReport, RunStatus, run};
pub use run_dir::RunDir;
pub use sample_file::SampleFile;
#[cfg(feature = "model")]
pub use samples::Sample;
#[cfg(feature = "model")]
pub use score::{Score, score, score_cached};
#[cfg(feature = "server")]
pub use server_vlm::{ServerVlm, ServerVlmError, open_judge, open_vlm};
pub use stage::Stage;
pub use statistics::{KindStatistics, LengthBias, Lengths, PairStatistics, WordCount};
pub use summary::{SkippedLine, StageSummary};
#[cfg(feature = "model")]
pub use text_model::TextModel;
#[cfg(feature = "model")]
pub use token_check::ProcessorTokens;
pub use videos::Videos;
pub use vision::{BATCHES_PER_CALL, OnAnswer, VisionLanguageModel, VisionQueue, VisionRequest, Weakening};
#[cfg(feature = "model")]
pub use weaken_model::{WeakenModel, WeakenModelError};
