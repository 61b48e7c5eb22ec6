//! Batched text generation with a key-value cache.

mod attended;
mod contrast;
mod decode;
mod rows;
mod rules;
mod sampling;

pub use contrast::ContrastInput;
pub use decode::{Continuation, OnContinuation, Prompt};
