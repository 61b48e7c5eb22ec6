//! Error injection by a text model. Rejected drafts are generated again with another seed.

use std::num::NonZeroUsize;

use bpo_pairs::UsageMeter;
use serde::{Deserialize, Serialize};

use crate::drafts::{DraftFilter, Drafts};
use crate::injector::inject_by_queue;
use crate::{
    AcceptanceRules, CutCounts, ErrorInjector, ErrorKind, InjectError, Injection, InjectionFailure,
    InjectionQueue, InjectionRequest, KindWeights, PromptForm, RejectionCounts, TemplateConfig, Templates,
    TextGenerator,
};

/// Settings of error injection by a text model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LlmInjectorConfig {
    /// Sampling temperature. Default: 0.8 (the authors).
    pub temperature: f64,
    /// Probability mass of nucleus sampling. Default: 0.95 (the authors).
    pub top_p: f64,
    /// Maximum number of tokens of a draft. Default: 1024 (the authors' script).
    pub max_new_tokens: usize,
    /// Maximum number of drafts per answer, at least 1. An answer is skipped after that many
    /// rejected drafts. Default: 3 (ours; the authors use the first draft).
    pub attempts: u32,
    /// System message, if there is one.
    pub system: Option<String>,
    /// Weights of the kinds of errors. Default: errors of any kind, as the authors request them.
    pub kinds: KindWeights,
    /// Prompt templates.
    pub templates: TemplateConfig,
    /// Acceptance rules.
    pub acceptance: AcceptanceRules,
}

impl Default for LlmInjectorConfig {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 0.95,
            max_new_tokens: 1024,
            attempts: 3,
            system: None,
            kinds: KindWeights::default(),
            templates: TemplateConfig::default(),
            acceptance: AcceptanceRules::default(),
        }
    }
}

impl LlmInjectorConfig {
    /// Checks the settings. Templates are checked by [`Templates::new`].
    ///
    /// # Errors
    /// Returns an error if a setting is invalid.
    pub fn validate(&self) -> Result<(), InjectError> {
        if self.attempts == 0 {
            return Err(InjectError::Setting { key: "attempts", expected: "at least 1", found: "0".into() });
        }
        self.kinds.validate()?;
        self.acceptance.style.validate()
    }

    /// Returns the names and texts of the prompts of the kinds of errors with a weight.
    ///
    /// # Errors
    /// Returns an error if a prompt file cannot be read or is no prompt.
    pub fn prompts(&self) -> Result<Vec<(&'static str, String)>, InjectError> {
        let is_used = |name: &str| {
            self.kinds.used().any(|kind| match kind {
                ErrorKind::Free => PromptForm::ALL.iter().any(|form| form.as_str() == name),
                kind => kind.as_str() == name,
            })
        };
        let texts = self.templates.texts()?;
        Ok(texts
            .iter()
            .filter(|(name, _)| is_used(name))
            .map(|(name, text)| (name, text.to_owned()))
            .collect())
    }

    /// Sets the maximum number of drafts per answer.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the maximum number of tokens of a draft.
    pub fn with_max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// Sets the weights of the kinds of errors.
    pub fn with_kinds(mut self, kinds: KindWeights) -> Self {
        self.kinds = kinds;
        self
    }

    /// Sets the system message.
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }
}

/// An [`ErrorInjector`] that asks a text model.
#[derive(Debug)]
pub struct LlmInjector<G> {
    generator: G,
    config: LlmInjectorConfig,
    templates: Templates,
    rejections: RejectionCounts,
    cuts: CutCounts,
}

impl<G: TextGenerator> LlmInjector<G> {
    /// Creates an injector that uses `generator`.
    ///
    /// # Errors
    /// Returns an error if a template does not parse or a setting is invalid.
    pub fn new(generator: G, config: LlmInjectorConfig) -> Result<Self, InjectError> {
        config.validate()?;
        let templates = Templates::new(&config.templates)?;
        let (rejections, cuts) = (RejectionCounts::default(), CutCounts::default());
        Ok(Self { generator, config, templates, rejections, cuts })
    }

    /// Returns the number of rejected drafts by reason, including drafts of answers for which a
    /// later draft was accepted.
    pub fn rejections(&self) -> &RejectionCounts {
        &self.rejections
    }

    /// Returns the number of accepted drafts from which text was removed, by kind of text.
    pub fn cuts(&self) -> &CutCounts {
        &self.cuts
    }
}

impl<G: TextGenerator> ErrorInjector for LlmInjector<G> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        inject_by_queue(self, requests)
    }

    /// A rejected draft is asked for again before the next request.
    fn inject_queue(&mut self, queue: &mut InjectionQueue<'_>, at_a_time: NonZeroUsize) {
        let Self { generator, config, templates, rejections, cuts } = self;
        let filter = DraftFilter { rules: &config.acceptance, rejections, cuts };
        let mut drafts = Drafts::new(queue, config, templates, filter);
        generator.generate_queue(&mut drafts, at_a_time);
        drafts.finish();
    }

    fn usage(&self) -> Option<UsageMeter> {
        self.generator.usage()
    }

    fn is_batch_invariant(&self) -> bool {
        self.generator.is_batch_invariant()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpo_pairs::{FinishReason, Generated};

    use crate::{Rejection, TextRequest};

    /// Answers from a list, one entry per call, and keeps what it was asked.
    #[derive(Debug)]
    struct Script {
        rounds: Vec<Vec<Result<&'static str, &'static str>>>,
        asked: Vec<Vec<TextRequest>>,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Down(&'static str);

    impl TextGenerator for Script {
        type Error = Down;

        fn generate(&mut self, requests: &[TextRequest]) -> Vec<Result<Generated, Down>> {
            self.asked.push(requests.to_vec());
            let texts = self.rounds.remove(0);
            let draft =
                |text: &str| Generated { text: text.into(), finish: FinishReason::Stop, tokens: None };
            texts.into_iter().map(|text| text.map(draft).map_err(Down)).collect()
        }
    }

    fn injector(rounds: Vec<Vec<Result<&'static str, &'static str>>>) -> LlmInjector<Script> {
        let config = LlmInjectorConfig::default().with_attempts(2).with_system("Be brief.");
        LlmInjector::new(Script { rounds, asked: Vec::new() }, config).unwrap()
    }

    fn requests() -> Vec<InjectionRequest> {
        vec![
            InjectionRequest::new("<image>\nDescribe the image.", "A red cup.", 1),
            InjectionRequest::new("What is it?", "A red cup.", 1),
            InjectionRequest::new("Who is it?", "A man.", 2),
        ]
    }

    #[test]
    fn only_rejected_drafts_are_generated_again_with_another_seed() {
        let mut injector =
            injector(vec![vec![Ok("A red cup"), Ok("A blue cup."), Err("down")], vec![Ok("A plate.")]]);
        let results = injector.inject(&requests());
        let accepted = |text, attempts| Injection::new(text, attempts).with_error("free");
        let rejected = vec![Rejection::Identical];
        assert_eq!(results[0].as_ref().unwrap(), &accepted("A plate.", 2).with_rejected(rejected));
        assert_eq!(results[1].as_ref().unwrap(), &accepted("A blue cup.", 1));
        let failure = results[2].as_ref().unwrap_err();
        assert!(matches!(failure, InjectionFailure::Failed { source } if source.to_string() == "down"));
        assert_eq!(injector.rejections().get(Rejection::Identical), 1);

        let asked = &injector.generator.asked;
        assert_eq!((asked[0].len(), asked[1].len()), (3, 1));
        assert_eq!(asked[0][0].prompt, asked[1][0].prompt);
        assert_ne!(asked[0][0].sampling.seed, asked[1][0].sampling.seed);
        assert_eq!((asked[0][0].sampling.temperature, asked[0][0].sampling.top_p), (0.8, 0.95));
        assert_eq!(asked[0][0].system.as_deref(), Some("Be brief."));
    }

    #[test]
    fn answer_is_skipped_after_the_last_attempt() {
        let round = || vec![Ok("A red cup."), Ok(""), Ok("I cannot.")];
        let mut injector = injector(vec![round(), round()]);
        let reasons: Vec<_> =
            injector.inject(&requests()).iter().map(|r| r.as_ref().unwrap_err().rejection()).collect();
        assert_eq!(reasons, [Some(Rejection::Identical), Some(Rejection::Empty), Some(Rejection::Refusal)]);
        assert_eq!(injector.rejections().total(), 6);
    }

    #[test]
    fn missing_results_of_a_generator_are_errors() {
        let mut injector = injector(vec![vec![Ok("A plate.")]]);
        let results = injector.inject(&requests());
        assert!(results[0].is_ok());
        let error = results[2].as_ref().unwrap_err();
        let source = std::error::Error::source(error).unwrap();
        assert_eq!(source.to_string(), "the text generator gave 1 results for 3 requests");
    }

    #[test]
    fn zero_attempts_are_an_error() {
        let script = Script { rounds: Vec::new(), asked: Vec::new() };
        let error = LlmInjector::new(script, LlmInjectorConfig::default().with_attempts(0)).unwrap_err();
        assert_eq!(error.to_string(), "`attempts` must be at least 1, found 0");
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(serde_json::from_str::<LlmInjectorConfig>(r#"{"temprature": 1}"#).is_err());
        let config: LlmInjectorConfig = serde_json::from_str(r#"{"acceptance": {"echo_words": 0}}"#).unwrap();
        assert_eq!((config.acceptance.echo_words, config.acceptance.max_length_ratio), (0, 3.0));
    }
}
