#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod cooccurrence;
mod drafts;
mod error;
mod fallback;
mod generator;
mod injector;
mod kind;
mod llm;
mod template;

pub use accept::{
    AcceptanceRules, Accepted, Counts, Cut, CutCounts, DraftContext, REMOVED_KEY, Rejection, RejectionCounts,
    StyleRules, same_text, without_reasoning,
};
pub use cooccurrence::CoOccurrence;
pub use error::InjectError;
pub use fallback::{Fallback, WithFallback};
pub use generator::{TextGenerator, TextQueue, TextRequest};
pub use injector::{ErrorInjector, Injection, InjectionFailure, InjectionQueue, InjectionRequest};
pub use kind::{ErrorKind, KindWeights};
pub use llm::{LlmInjector, LlmInjectorConfig};
pub use template::{PromptForm, PromptSet, PromptTexts, PromptVariables, TemplateConfig, Templates};
