//! Fingerprints of the inputs of stages.

use std::collections::BTreeMap;

use bpo_inject::PromptForm;
use bpo_pairs::Fingerprint;

use crate::config::RunConfig;
use crate::error::BpoError;
use crate::fingerprint::{check_is_adapter, fingerprint_checkpoint};
use crate::stage::Stage;

/// Fingerprints of inputs, with the stages that read them. Images have no fingerprint, because
/// reading them would take as long as the stage.
#[derive(Clone, Debug, Default)]
pub struct Inputs(Vec<(String, Fingerprint, Vec<Stage>)>);

impl Inputs {
    /// Computes the fingerprints of the inputs of `stages`: model, adapter, reference and prompt
    /// templates. `data` is the fingerprint of the annotated data, if it was read.
    ///
    /// # Errors
    /// Returns an error if a model or an adapter does not exist or cannot be read.
    pub fn read(stages: &[Stage], config: &RunConfig, data: Option<&Fingerprint>) -> Result<Self, BpoError> {
        let mut inputs = Self::default();
        let is_needed = |readers: &[Stage]| readers.iter().any(|stage| stages.contains(stage));
        let of_model = [Stage::Weaken, Stage::Train];
        if is_needed(&of_model) {
            inputs.add("model", fingerprint_checkpoint(config.model_path()?)?, &of_model);
            if let Some(adapter) = &config.model.adapter {
                check_is_adapter(adapter)?;
                inputs.add("adapter", fingerprint_checkpoint(adapter)?, &of_model);
            }
        }
        if is_needed(&[Stage::Train]) {
            if let Some(model) = &config.reference.path {
                inputs.add("reference", fingerprint_checkpoint(model)?, &[Stage::Train]);
            }
            if let Some(adapter) = &config.reference.adapter {
                check_is_adapter(adapter)?;
                inputs.add("reference_adapter", fingerprint_checkpoint(adapter)?, &[Stage::Train]);
            }
        }
        if is_needed(&[Stage::Inject]) && config.inject.server.is_some() {
            let templates = &config.inject.llm.templates;
            for form in [PromptForm::Description, PromptForm::QuestionAnswer] {
                let print = Fingerprint::of(templates.text(form));
                inputs.add(format!("template of {form}"), print, &[Stage::Inject]);
            }
        }
        if let Some(data) = data {
            inputs.add("data", data.clone(), &[Stage::Data, Stage::Weaken, Stage::Inject]);
        }
        Ok(inputs)
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
