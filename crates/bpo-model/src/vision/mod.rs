//! Vision towers.

mod clip;

pub use clip::{ClipConfig, ClipVision};
