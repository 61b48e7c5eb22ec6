//! Idefics3 (Laurençon et al., 2024, arXiv 2408.12637), and SmolVLM and SmolVLM2 (Marafioti et al.,
//! 2025, arXiv 2504.05299), which have its architecture: images are split into tiles, and squares of
//! neighbouring patches share an image token in Llama's input.

mod check;
mod config;
mod model;
mod preprocess;
mod settings;
mod spec;
mod splits;

pub use config::{SmolVlmConfig, SmolVlmKind, SmolVlmVisionConfig};
pub use model::SmolVlmProjector;
pub(crate) use spec::{IDEFICS3, SMOLVLM};
