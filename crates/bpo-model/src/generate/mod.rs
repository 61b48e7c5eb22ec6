//! Answers: batched decoding with a cache of keys and values, and how tokens are drawn.

mod decode;
mod sampling;

pub use bpo_inject::{FinishReason, Sampling};
pub use decode::{Continuation, Prompt};
pub use sampling::Sampler;
