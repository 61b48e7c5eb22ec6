//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images of any size, whose merged patches take the places of
//! image tokens in the input of Qwen2 or Qwen3, with rotary positions on three axes.

mod check;
mod config;
mod merger;
mod positions;
mod preprocess;
mod spec;

pub use config::{QwenGeneration, QwenVlConfig};
pub use merger::QwenMerger;
pub(crate) use spec::{QWEN2, QWEN2_5, QWEN3};
