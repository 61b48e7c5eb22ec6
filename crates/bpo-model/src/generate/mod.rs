//! Answers: batched decoding with a cache of keys and values, and how tokens are drawn.

mod contrast;
mod decode;
mod decoder;
mod sampling;

pub use bpo_pairs::{FinishReason, Sampling};
pub use contrast::ContrastInput;
pub use decode::{Continuation, Prompt};
pub use sampling::Sampler;
