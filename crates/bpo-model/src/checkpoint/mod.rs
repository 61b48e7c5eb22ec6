//! Safetensors checkpoints: the file of each weight, its names, and its conversion to a tensor.

mod convert;
mod copy;
mod finite;
mod hints;
mod index;
#[cfg(feature = "tch")]
mod libtorch;
mod load;
mod rewrite;
mod save;
mod stored;

pub(crate) use copy::copy_small_files;
pub(crate) use finite::{to_bytes, to_file};
pub(crate) use hints::families;
pub use index::{TensorEntry, WeightIndex};
pub(crate) use load::WeightLoader;
pub(crate) use rewrite::rewrite;
pub(crate) use stored::Stored;
