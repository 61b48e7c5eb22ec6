//! LLaVA (Liu et al., 2023, arXiv 2310.03744): image features of CLIP or SigLIP are projected and take
//! the places of image tokens in the input of Llama, Mistral or Qwen2; and ViP-LLaVA, which differs
//! in its projector. They mirror `models/llava` and `models/vipllava` of transformers.

mod check;
mod config;
mod model;
mod preprocess;
mod spec;
mod vip;

pub use config::{FeatureLayer, FeatureSelect, LlavaConfig};
pub use model::LlavaProjector;
pub(crate) use model::project_features;
pub(crate) use spec::LLAVA;
pub(crate) use vip::VIP_SPEC;
