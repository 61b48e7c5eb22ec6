//! LLaVA-NeXT (Liu et al., 2024, also called LLaVA-1.6) and LLaVA-OneVision (Li et al., 2024, arXiv
//! 2408.03326): LLaVA whose images are split into tiles. The features of the tiles are put together
//! to one grid, without those of padding, and a token stands for the end of each row.

mod check;
mod config;
mod kind;
mod model;
mod preprocess;
mod resize;
mod spec;

pub use config::LlavaNextConfig;
pub(crate) use kind::Kind;
pub use model::LlavaNextProjector;
pub(crate) use spec::{NEXT, ONEVISION};
