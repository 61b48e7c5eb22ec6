//! InternVL (Chen et al., 2024, arXiv 2412.05271; Zhu et al., 2025, arXiv 2504.10479), as transformers'
//! `models/internvl` runs it: images are split into tiles by their shape, and squares of
//! neighbouring patches share an image token in the input of Qwen2, Qwen3 or Llama.

mod check;
mod config;
mod grid;
mod model;
mod preprocess;
mod settings;
mod spec;

pub use config::InternVlConfig;
pub use model::InternVlProjector;
pub(crate) use spec::INTERNVL;
