#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod cooccurrence;
mod error;
mod generator;
mod injector;
mod llm;
mod template;

pub use accept::{
    AcceptanceRules, Accepted, Counts, Cut, CutCounts, DraftContext, REMOVED_KEY, Rejection, RejectionCounts,
    same_text,
};
pub use cooccurrence::CoOccurrence;
pub use error::InjectError;
pub use generator::{OnText, TextGenerator, TextRequest};
pub use injector::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, OnInjection};
pub use llm::{LlmInjector, LlmInjectorConfig};
pub use template::{PromptForm, TemplateConfig, Templates};
