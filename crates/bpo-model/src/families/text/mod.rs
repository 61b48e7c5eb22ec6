//! Language models without images: Llama, Mistral, Qwen2 and Qwen3. They rewrite answers in error
//! injection. They have no vision tower and no projector.

mod config;
mod preprocess;
mod spec;

pub use config::TextConfig;
pub(crate) use spec::{LLAMA, MISTRAL, QWEN2, QWEN3};
