//! Error injection with a text model: prompt, generate, cut, accept or retry with another seed.

use bpo_pairs::{Generated, Sampling};
use serde::{Deserialize, Serialize};

use crate::{
    AcceptanceRules, Accepted, CutCounts, ErrorInjector, Expected, InjectError, Injection, InjectionFailure,
    InjectionRequest, Rejection, RejectionCounts, TemplateConfig, Templates, TextGenerator, TextRequest,
};

/// Settings of an [`LlmInjector`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LlmInjectorConfig {
    /// Sampling temperature. Default: 0.8 (the authors' script).
    pub temperature: f64,
    /// Nucleus mass (top-p). Default: 0.95 (the authors' script).
    pub top_p: f64,
    /// Longest draft, in tokens. Default: 1024 (the authors' script).
    pub max_new_tokens: usize,
    /// Largest number of drafts per answer, at least 1. The default is ours; the authors use one.
    pub attempts: u32,
    /// System message. Default: none.
    pub system: Option<String>,
    /// Prompt templates.
    pub templates: TemplateConfig,
    /// Rules that a draft must keep.
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
            templates: TemplateConfig::default(),
            acceptance: AcceptanceRules::default(),
        }
    }
}

impl LlmInjectorConfig {
    /// Sets the largest number of drafts per answer.
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the longest draft, in tokens.
    pub fn with_max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// Sets the system message.
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// Sets the prompts.
    pub fn with_templates(mut self, templates: TemplateConfig) -> Self {
        self.templates = templates;
        self
    }

    /// Sets the acceptance rules.
    pub fn with_acceptance(mut self, acceptance: AcceptanceRules) -> Self {
        self.acceptance = acceptance;
        self
    }
}

/// An [`ErrorInjector`] that rewrites answers with a text model.
#[derive(Debug)]
pub struct LlmInjector<G> {
    generator: G,
    config: LlmInjectorConfig,
    templates: Templates,
    rejections: RejectionCounts,
    cuts: CutCounts,
}

/// An answer without an accepted draft: its index in the batch, and its prompt.
struct Pending {
    index: usize,
    prompt: String,
}

impl<G: TextGenerator> LlmInjector<G> {
    /// Creates an injector that rewrites answers with `generator`.
    ///
    /// # Errors
    /// If a template does not parse or a setting cannot work.
    pub fn new(generator: G, config: LlmInjectorConfig) -> Result<Self, InjectError> {
        if config.attempts == 0 {
            return Err(InjectError::Setting { key: "attempts", expected: "at least 1", found: "0".into() });
        }
        let templates = Templates::new(&config.templates)?;
        let (rejections, cuts) = (RejectionCounts::default(), CutCounts::default());
        Ok(Self { generator, config, templates, rejections, cuts })
    }

    /// Returns the number of rejected drafts by reason, also of answers with a later accepted
    /// draft.
    pub fn rejections(&self) -> &RejectionCounts {
        &self.rejections
    }

    /// Returns the number of accepted drafts from which each kind of text was cut.
    pub fn cuts(&self) -> &CutCounts {
        &self.cuts
    }

    /// Returns the generator.
    pub fn into_generator(self) -> G {
        self.generator
    }

    fn text_request(&self, prompt: &str, seed: u64) -> TextRequest {
        let sampling = Sampling::greedy(self.config.max_new_tokens)
            .with_temperature(self.config.temperature)
            .with_top_p(self.config.top_p)
            .with_seed(seed);
        TextRequest { system: self.config.system.clone(), prompt: prompt.to_owned(), sampling }
    }

    fn judge(
        &mut self,
        draft: &Generated,
        prompt: &str,
        request: &InjectionRequest,
    ) -> Result<Accepted, Rejection> {
        let expected = Expected { prompt, question: &request.question, answer: &request.answer };
        let verdict = self.config.acceptance.accept(draft, expected);
        match &verdict {
            Ok(accepted) => accepted.cuts.iter().for_each(|&cut| self.cuts.add(cut)),
            Err(reason) => {
                self.rejections.add(*reason);
                tracing::debug!(%reason, draft = draft.text, "draft turned down");
            }
        }
        verdict
    }
}

impl<G: TextGenerator> ErrorInjector for LlmInjector<G> {
    fn inject(&mut self, requests: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        let _span = tracing::info_span!("inject.batch", size = requests.len()).entered();
        let mut results: Vec<Option<Result<Injection, InjectionFailure>>> =
            requests.iter().map(|_| None).collect();
        let mut pending = Vec::with_capacity(requests.len());
        for (index, request) in requests.iter().enumerate() {
            match self.templates.render(&request.question, &request.answer) {
                Ok(prompt) => pending.push(Pending { index, prompt }),
                Err(error) => results[index] = Some(Err(InjectionFailure::failed(error))),
            }
        }

        for attempt in 1..=self.config.attempts {
            if pending.is_empty() {
                break;
            }
            let calls: Vec<TextRequest> = pending
                .iter()
                .map(|item| self.text_request(&item.prompt, draft_seed(requests[item.index].seed, attempt)))
                .collect();
            let drafts = self.generator.generate(&calls);
            let (expected, found) = (calls.len(), drafts.len());
            let drafts = drafts.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
            let mut again = Vec::new();
            for (item, draft) in pending.into_iter().zip(drafts) {
                let index = item.index;
                results[index] = match draft {
                    None => {
                        Some(Err(InjectionFailure::failed(InjectError::MissingResult { expected, found })))
                    }
                    Some(Err(error)) if self.generator.is_request_error(&error) => {
                        Some(Err(InjectionFailure::Refused { source: Box::new(error) }))
                    }
                    Some(Err(error)) => Some(Err(InjectionFailure::failed(error))),
                    Some(Ok(draft)) => match self.judge(&draft, &item.prompt, &requests[index]) {
                        Ok(Accepted { text, cuts }) => {
                            Some(Ok(Injection::new(text, attempt).with_cuts(cuts)))
                        }
                        Err(reason) if attempt == self.config.attempts => {
                            Some(Err(InjectionFailure::Skipped { reason, attempts: attempt }))
                        }
                        Err(_) => {
                            again.push(item);
                            None
                        }
                    },
                };
            }
            pending = again;
        }

        results.into_iter().flatten().collect()
    }
}

/// Returns the seed of a draft: the seed of the request for the first one, then seeds far apart, so
/// that requests with neighboring seeds share none.
fn draft_seed(seed: u64, attempt: u32) -> u64 {
    // 2^64 / golden ratio, odd: its first 2^64 multiples are distinct.
    seed.wrapping_add(u64::from(attempt - 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpo_pairs::FinishReason;

    /// Returns answers from a list, one for each call, and keeps the requests.
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
    fn only_rejected_drafts_are_tried_again_with_another_seed() {
        let mut injector =
            injector(vec![vec![Ok("A red cup"), Ok("A blue cup."), Err("down")], vec![Ok("A plate.")]]);
        let results = injector.inject(&requests());
        assert_eq!(results[0].as_ref().unwrap(), &Injection::new("A plate.", 2));
        assert_eq!(results[1].as_ref().unwrap(), &Injection::new("A blue cup.", 1));
        let failure = results[2].as_ref().unwrap_err();
        assert!(matches!(failure, InjectionFailure::Failed { source } if source.to_string() == "down"));
        assert_eq!(injector.rejections().get(Rejection::Identical), 1);

        let asked = injector.into_generator().asked;
        assert_eq!((asked[0].len(), asked[1].len()), (3, 1));
        assert_eq!(asked[0][0].prompt, asked[1][0].prompt);
        assert_ne!(asked[0][0].sampling.seed, asked[1][0].sampling.seed);
        assert_eq!((asked[0][0].sampling.temperature, asked[0][0].sampling.top_p), (0.8, 0.95));
        assert_eq!(asked[0][0].system.as_deref(), Some("Be brief."));
    }

    #[test]
    fn an_answer_is_skipped_after_the_last_attempt() {
        let round = || vec![Ok("A red cup."), Ok(""), Ok("I cannot.")];
        let mut injector = injector(vec![round(), round()]);
        let reasons: Vec<_> =
            injector.inject(&requests()).iter().map(|r| r.as_ref().unwrap_err().rejection()).collect();
        assert_eq!(reasons, [Some(Rejection::Identical), Some(Rejection::Empty), Some(Rejection::Refusal)]);
        assert_eq!(injector.rejections().total(), 6);
    }

    #[test]
    fn results_that_a_generator_forgets_are_errors() {
        let mut injector = injector(vec![vec![Ok("A plate.")]]);
        let results = injector.inject(&requests());
        assert!(results[0].is_ok());
        let error = results[2].as_ref().unwrap_err();
        let source = std::error::Error::source(error).unwrap();
        assert_eq!(source.to_string(), "the text generator gave 1 results for 3 requests");
    }

    #[test]
    fn no_attempts_are_refused() {
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
