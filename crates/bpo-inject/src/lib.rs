//! Error injection.
mod accept;
mod clean;
mod error;
mod generator;
mod injector;
mod llm;
#[cfg(feature = "openai")]
mod openai;
mod template;

pub use accept::*;
pub use error::InjectError;
pub use generator::*;
pub use injector::*;
pub use llm::*;
#[cfg(feature = "openai")]
pub use openai::{OpenAiClient, OpenAiConfig};
pub use template::*;
