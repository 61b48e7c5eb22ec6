#![doc = include_str!("../README.md")]

mod accept;
mod cooccurrence;
mod error;
mod generator;
mod injector;
mod llm;
#[cfg(feature = "openai")]
mod openai;
mod template;

pub use accept::{
    AcceptanceRules, Accepted, Counts, Cut, CutCounts, Expected, Rejection, RejectionCounts, same_text,
};
pub use cooccurrence::CoOccurrence;
pub use error::InjectError;
pub use generator::{FinishReason, Generated, Sampling, TextGenerator, TextRequest};
pub use injector::{ErrorInjector, Injection, InjectionFailure, InjectionRequest};
pub use llm::{LlmInjector, LlmInjectorConfig};
#[cfg(feature = "openai")]
pub use openai::{OpenAiClient, OpenAiConfig};
pub use template::{PromptForm, TemplateConfig, Templates};
