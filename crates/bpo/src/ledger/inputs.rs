//! Fingerprints of the inputs of stages.

use std::collections::BTreeMap;
use std::path::Path;

use bpo_pairs::{Fingerprint, TextHasher, fingerprint_file};

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::{check_is_adapter, fingerprint_checkpoint};
use crate::judge::{GradedAnswer, Rubric};
use crate::stage::Stage;

/// The input that stands for the images.
pub(super) const IMAGES: &str = "images";

/// Fingerprints of inputs, with the stages that read them.
///
/// Images enter with the names and sizes of their files
/// ([`ImageRoot::fingerprint`](crate::ImageRoot::fingerprint)), because reading them would take as
/// long as the stage.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(String, Fingerprint, Vec<Stage>)>);

impl Inputs {
    /// Computes the fingerprints of the inputs of `stages`: model, adapter, reference, evaluation
    /// pairs, ground truth and prompt templates. `data` is the fingerprint of the annotated data, if it
    /// was read.
    ///
    /// # Errors
    /// Returns all errors if inputs do not exist or cannot be read.
    pub fn read(stages: &[Stage], config: &RunConfig, data: Option<&Fingerprint>) -> Result<Self, BpoError> {
        let mut problems = Vec::new();
        let inputs = Self::collect(stages, config, data, &mut problems);
        BpoError::all(problems)?;
        Ok(inputs)
    }

    /// Computes the fingerprints like [`read`](Self::read), and adds the errors of inputs that
    /// cannot be read to `problems`.
    pub(crate) fn collect(
        stages: &[Stage],
        config: &RunConfig,
        data: Option<&Fingerprint>,
        problems: &mut Vec<BpoError>,
    ) -> Self {
        let mut inputs = Self::default();
        let prompts = if config.inject.has_llm() { config.inject.llm.prompts() } else { Ok(Vec::new()) };
        let prompts = prompts.unwrap_or_else(|error| {
            if stages.contains(&Stage::Inject) {
                problems.push(error.into());
            }
            Vec::new()
        });
        let mut add = |name: &str, readers: &[Stage], print: &dyn Fn() -> Result<Fingerprint, BpoError>| {
            if !readers.iter().any(|stage| stages.contains(stage)) {
                return;
            }
            match print() {
                Ok(print) => inputs.add(name, print, readers),
                Err(error) => problems.push(error),
            }
        };
        let of_adapter = |path: &Path| check_is_adapter(path).and_then(|()| fingerprint_checkpoint(path));
        // with a server, only training uses the model
        let mut of_model = vec![Stage::Train];
        if config.weaken.server.is_none() {
            of_model.push(Stage::Weaken);
        }
        if config.judges() && config.judge.server.is_none() {
            of_model.push(Stage::Judge);
        }
        if config.inject.with_model {
            of_model.push(Stage::Inject);
        }
        add("model", &of_model, &|| fingerprint_checkpoint(config.model_path()?));
        if let Some(adapter) = &config.model.adapter {
            add("adapter", &of_model, &|| of_adapter(adapter));
        }
        if let Some(model) = &config.reference.path {
            add("reference", &[Stage::Train], &|| fingerprint_checkpoint(model));
        }
        if let Some(adapter) = &config.reference.adapter {
            add("reference_adapter", &[Stage::Train], &|| of_adapter(adapter));
        }
        if let Some(pairs) = &config.data.eval_pairs {
            add("eval_pairs", &[Stage::Train], &|| Ok(fingerprint_file(pairs)?));
        }
        if let Some(model) = &config.inject.model {
            add("inject_model", &[Stage::Inject], &|| fingerprint_checkpoint(model));
        }
        for (name, text) in &prompts {
            add(&format!("template of {name}"), &[Stage::Inject], &|| Ok(Fingerprint::of(text)));
        }
        if config.judges() {
            add("prompts of the judge", &[Stage::Judge], &|| {
                let texts = config.judge.texts()?;
                let used = texts.iter().filter(|(name, _)| config.judge.method.prompts().contains(name));
                let texts: Vec<String> = used.map(|(name, text)| format!("{name}: {text}")).collect();
                Ok(Fingerprint::of(texts.join("\n")))
            });
        }
        for (key, path) in config.truth.files() {
            add(&key, &[Stage::Pair], &|| Ok(fingerprint_file(path)?));
        }
        if let Some(data) = data {
            inputs.add("data", data.clone(), &[Stage::Data, Stage::Weaken, Stage::Judge, Stage::Inject]);
        }
        inputs
    }

    /// Returns the fingerprints of what a judge grades the answers of a benchmark with: its prompt, and the
    /// questions with their correct answers. The answers themselves are compared one by one.
    pub fn of_grading(rubric: &Rubric, answers: &[GradedAnswer]) -> Self {
        let mut questions = TextHasher::default();
        for GradedAnswer { id, question, reference, image_content, .. } in answers {
            [id, question, reference, image_content].into_iter().for_each(|text| questions.add(text));
        }
        let mut inputs = Self::default();
        inputs.add("prompt", rubric.fingerprint(), &[Stage::Judge]);
        inputs.add("questions", questions.fingerprint(), &[Stage::Judge]);
        inputs
    }

    /// Adds the fingerprint of the images that the stages read. Of a judge they are an input if it sees
    /// them.
    #[must_use]
    pub fn with_images(mut self, print: Fingerprint) -> Self {
        self.add(IMAGES, print, &[Stage::Weaken, Stage::Judge, Stage::Train]);
        self
    }

    /// Adds an input.
    pub(super) fn add(&mut self, name: impl Into<String>, print: Fingerprint, stages: &[Stage]) {
        self.0.push((name.into(), print, stages.to_vec()));
    }

    /// Returns the inputs of a stage.
    pub(super) fn of(&self, stage: Stage) -> BTreeMap<String, Fingerprint> {
        let of_stage = self.0.iter().filter(|(_, _, stages)| stages.contains(&stage));
        of_stage.map(|(name, print, _)| (name.clone(), print.clone())).collect()
    }
}
