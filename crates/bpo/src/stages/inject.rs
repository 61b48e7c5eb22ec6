//! Error injection: `injected.jsonl`, the annotated answers with plausible errors in them.

use std::num::NonZeroUsize;
use std::path::Path;

use bpo_inject::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};
use bpo_pairs::{CompletionKind, SftSample, SkipReason, Skipped, item_seed, stage_seed, strip_image_token};

use super::batches::{BatchRecords, Batches, Item};
use super::weaken::at_least_one;
use super::{Bootstrapped, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::progress::Progress;
use crate::stage::Stage;

/// Has an injector rewrite each sample's annotated answer with errors in it, and appends the answers
/// to `file`.
///
/// A sample whose rewritten answers are not accepted is skipped in the file. `injector` is called
/// only if an answer is missing.
///
/// # Errors
/// If the file is of other samples or cannot be written, or the injector has no draft to judge
/// ([`InjectionFailure::Failed`], as when its server is down); the file keeps what was done, and the
/// stage can be run again. [`BpoError::NothingAnswered`] if the injector refused every request; then
/// the file is removed.
pub fn inject<I: ErrorInjector>(
    config: &RunConfig,
    samples: &[SftSample],
    injector: impl FnOnce() -> Result<I, BpoError>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let _span = tracing::info_span!("inject", samples = samples.len()).entered();
    let (once, size) = (NonZeroUsize::MIN, at_least_one(config.inject.batch_size));
    let mut batches = Batches::open(Stage::Inject, samples, once, size, file)?;
    if batches.is_done() {
        batches.report(progress);
    } else {
        let mut injector = injector()?;
        batches.run(progress, |batch| answer(batch, &mut injector, config))?;
    }
    let outcome = batches.outcome()?;
    if let Some(error) = nothing_answered(&outcome) {
        // it would stand in the way of a run with a server that is set up right
        batches.remove()?;
        return Err(error);
    }
    drop(batches);
    progress.finished(Stage::Inject, &outcome.summary);
    Ok(outcome)
}

/// The error of a stage in which every request was refused, as by a server that does not know the
/// model's name.
fn nothing_answered(outcome: &StageOutcome) -> Option<BpoError> {
    let first = outcome.skipped.first()?;
    let all = outcome.summary.done == 0
        && outcome.skipped.iter().all(|skipped| skipped.reason == SkipReason::RequestFailed);
    all.then(|| BpoError::NothingAnswered {
        stage: Stage::Inject,
        reason: first.detail.clone(),
        skipped: outcome.summary.skipped.clone(),
    })
}

fn answer<I: ErrorInjector>(batch: &[Item<'_>], injector: &mut I, config: &RunConfig) -> BatchRecords {
    let requests: Vec<_> = batch.iter().map(|item| request(item.sample, config)).collect();
    let answers = injector.inject(&requests);
    if answers.len() != requests.len() {
        let (requests, answers) = (requests.len(), answers.len());
        return Err(BpoError::AnswerCount { stage: Stage::Inject.as_str(), requests, answers });
    }
    Ok(batch.iter().zip(answers).map(|(item, answer)| record(item.sample, answer)).collect())
}

fn request(sample: &SftSample, config: &RunConfig) -> InjectionRequest {
    let seed = item_seed(stage_seed(config.seed.0, "inject"), &sample.id);
    InjectionRequest::new(strip_image_token(&sample.prompt), &sample.answer, seed)
}

fn record(sample: &SftSample, answer: Result<Injection, InjectionFailure>) -> Result<StageRecord, BpoError> {
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
                    return Err(BpoError::StageStopped { stage: Stage::Inject, id, source });
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
