//! LLaVA-1.5 (Liu et al., 2023, arXiv 2310.03744): CLIP's image features are projected and take the
//! places of image tokens in Llama's input.

mod check;
mod config;
mod model;
mod preprocess;
mod spec;

pub use config::{FeatureLayer, FeatureSelect, LlavaConfig};
pub use model::LlavaProjector;
pub(crate) use model::project_features;
pub(crate) use spec::SPEC;
