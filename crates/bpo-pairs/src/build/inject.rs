//! Error injection: the annotated answer with plausible errors in it.

use std::num::NonZeroUsize;

use bpo_inject::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};
use serde::{Deserialize, Serialize};

use crate::build::stage::{
    self, BatchRecords, Bootstrapped, Item, Progress, Stage, StageRecord, StageSummary,
};
use crate::error::{PairsError, chain};
use crate::image_token::strip_image_token;
use crate::record::CompletionKind;
use crate::seed::{item_seed, stage_seed};
use crate::sft::SftSample;
use crate::skipped::{SkipReason, Skipped};
use crate::store::JsonlStore;

/// How answers with injected errors are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table of settings")]
#[non_exhaustive]
pub struct InjectConfig {
    /// Seed of the stage.
    pub seed: u64,
    /// Samples per call of the injector.
    pub batch: NonZeroUsize,
}

impl Default for InjectConfig {
    /// Batches of 32 (ours).
    fn default() -> Self {
        Self { seed: 0, batch: const { NonZeroUsize::new(32).unwrap() } }
    }
}

impl InjectConfig {
    /// Sets the seed of the stage.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of samples per call of the injector.
    pub fn with_batch(mut self, batch: NonZeroUsize) -> Self {
        self.batch = batch;
        self
    }

    fn request(&self, sample: &SftSample) -> InjectionRequest {
        let seed = item_seed(stage_seed(self.seed, "inject"), &sample.id);
        InjectionRequest::new(strip_image_token(&sample.prompt), &sample.answer, seed)
    }
}

/// Has every sample's annotated answer rewritten, and appends the answers to `store`.
///
/// A sample whose rewritten answers are not accepted is skipped in the file. Going on with another `config` or injector
/// mixes their answers: that is the caller's to prevent (see [`Manifest`](crate::manifest::Manifest)).
///
/// # Errors
/// If the file was made from other samples or cannot be written, or the injector has no draft to judge
/// ([`InjectionFailure::Failed`], as when its server is down). The file keeps what was done, and the stage can be run again.
pub fn inject<I: ErrorInjector + ?Sized>(
    samples: &[SftSample],
    injector: &mut I,
    config: &InjectConfig,
    store: &mut JsonlStore<StageRecord>,
    progress: &mut dyn FnMut(Progress),
) -> Result<StageSummary, PairsError> {
    let _span = tracing::info_span!("pairs.inject", samples = samples.len()).entered();
    let once = NonZeroUsize::MIN;
    stage::run(Stage::Inject, samples, once, config.batch, store, progress, |batch| {
        answer_batch(batch, injector, config)
    })
}

fn answer_batch<I: ErrorInjector + ?Sized>(
    batch: &[Item<'_>],
    injector: &mut I,
    config: &InjectConfig,
) -> BatchRecords {
    let requests: Vec<_> = batch.iter().map(|item| config.request(item.sample)).collect();
    let answers = injector.inject(&requests);
    if answers.len() != requests.len() {
        let (requests, answers) = (requests.len(), answers.len());
        return Err(PairsError::AnswerCount { stage: Stage::Inject.as_str(), requests, answers });
    }
    Ok(batch.iter().zip(answers).map(|(item, answer)| record(item.sample, answer)).collect())
}

fn record(
    sample: &SftSample,
    answer: Result<Injection, InjectionFailure>,
) -> Result<StageRecord, PairsError> {
    let id = sample.id.clone();
    match answer {
        Ok(injection) => Ok(StageRecord::Answered(Bootstrapped {
            id,
            variant: 0,
            kind: CompletionKind::ErrorInjected,
            response: injection.text,
            finish: None,
            provenance: None,
            cuts: injection.cuts,
        })),
        Err(failure) => {
            let reason = match &failure {
                InjectionFailure::Skipped { reason, .. } => rewrite_reason(*reason),
                InjectionFailure::Refused { .. } => SkipReason::RequestFailed,
                _ => {
                    let source = Box::new(failure);
                    return Err(PairsError::Model { stage: Stage::Inject.as_str(), id, source });
                }
            };
            Ok(StageRecord::Skipped(Skipped::new(id, reason).with_detail(chain(&failure))))
        }
    }
}

fn rewrite_reason(rejection: Rejection) -> SkipReason {
    match rejection {
        Rejection::Empty => SkipReason::RewriteEmpty,
        Rejection::Identical => SkipReason::RewriteIdentical,
        Rejection::Refusal => SkipReason::RewriteRefused,
        Rejection::PromptEcho => SkipReason::RewriteEcho,
        Rejection::TooShort => SkipReason::RewriteTooShort,
        Rejection::TooLong => SkipReason::RewriteTooLong,
        Rejection::Truncated => SkipReason::RewriteCutOff,
        Rejection::Commentary => SkipReason::RewriteCommentary,
        Rejection::Reasoning => SkipReason::RewriteReasoning,
        Rejection::Markup => SkipReason::RewriteMarkup,
        Rejection::Alternatives => SkipReason::RewriteAlternatives,
        Rejection::RepeatsAnswer => SkipReason::RewriteRepeatsAnswer,
        Rejection::Secret => SkipReason::RewriteSecret,
        Rejection::NothingToChange => SkipReason::NothingToChange,
        _ => SkipReason::RewriteRejected,
    }
}
