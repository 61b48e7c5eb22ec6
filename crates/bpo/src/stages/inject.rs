//! Error injection: `injected.jsonl`, annotated answers with plausible errors.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use bpo_inject::{ErrorInjector, Injection, InjectionFailure, InjectionRequest, Rejection};
use bpo_pairs::{
    CompletionKind, Keyed, Provenance, RequestQueue, SftSample, SkipReason, Skipped, item_seed, stage_seed,
    strip_image_tokens,
};

use super::answers::Answers;
use super::batches::{Batch, Batches};
use super::file::StageFile;
use super::missing::Missing;
use super::weaken::at_least_one;
use super::{Bootstrapped, StageAnswers, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::{BpoError, chain};
use crate::progress::Progress;
use crate::stage::Stage;

/// Rewrites the annotated answer of each sample with errors, and appends the answers to `file` in
/// the order in which they arrive.
///
/// A sample whose rewrites are rejected is recorded as skipped. Samples whose ids are in `dropped`
/// get no answer; see [`without_answers`](super::without_answers). `injector` is called only if an
/// answer is missing.
///
/// # Errors
/// Returns an error if the file has records of other samples or cannot be written, or
/// [`BpoError::StageStopped`] if the injector fails ([`InjectionFailure::Failed`]), for example
/// because its server is down. The file then keeps all answers, and the stage can be run again.
/// Returns [`BpoError::NothingAnswered`] and empties the file if the injector refused all requests.
/// A [shard](super::Shard) whose requests were all refused keeps its records with a warning,
/// because other shards may have answers.
pub fn inject<I: ErrorInjector>(
    config: &RunConfig,
    samples: &[SftSample],
    dropped: &HashSet<String>,
    injector: impl FnOnce() -> Result<I, BpoError>,
    file: &mut StageFile,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let _span = tracing::info_span!("inject", samples = samples.len()).entered();
    let (once, size) = (NonZeroUsize::MIN, at_least_one(config.inject.batch_size));
    let (shard, is_dropped) = (config.inject.shard, |id: &str| dropped.contains(id));
    let mut batches = Batches::new(Stage::Inject, samples, once, size, shard, is_dropped, file)?;
    if batches.is_done() {
        batches.report(progress);
    } else {
        let mut injector = injector()?;
        if injector.is_batch_invariant() {
            let usage = injector.usage();
            batches.stream(progress, usage, |missing| {
                injector.inject_queue(&mut Requests { missing, config }, size);
            })?;
        } else {
            batches.run(progress, once, |batch| {
                let mut requests = WholeBatch::new(batch, dropped, config);
                injector.inject_queue(&mut requests, size);
                requests.answers.finish()
            })?;
        }
    }
    let outcome = batches.outcome();
    if let Some(error) = outcome.nothing_answered(Stage::Inject) {
        if shard.is_none() {
            // otherwise the file would skip these samples when the server works
            batches.clear()?;
            return Err(error);
        }
        tracing::warn!(
            shard = shard.map(tracing::field::display),
            "{}; to send the requests again, give the same command with --retry-skipped",
            chain(&error)
        );
    }
    progress.finished(Stage::Inject, &outcome.summary);
    Ok(outcome)
}

/// Appends the records that another file has of samples without a record, in the order of the
/// samples. Samples whose ids are in `dropped` get none.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub(crate) fn copy_answers(
    samples: &[SftSample],
    dropped: &HashSet<String>,
    before: StageAnswers,
    file: &mut StageFile,
) -> Result<(), BpoError> {
    let known: HashSet<String> = file.answers().records().map(|record| record.id().to_owned()).collect();
    let records = before.into_parts().1.into_iter();
    let mut records: HashMap<String, StageRecord> =
        records.map(|(_, record)| (record.id().to_owned(), record)).collect();
    for sample in samples.iter().filter(|sample| !known.contains(&sample.id) && !dropped.contains(&sample.id))
    {
        records.remove(&sample.id).map_or(Ok(()), |record| file.append(record))?;
    }
    file.sync()
}

/// The requests for the items without a record. An answer depends only on its own item.
struct Requests<'a, 'b, 'c> {
    missing: &'c mut Missing<'a, 'b>,
    config: &'c RunConfig,
}

impl RequestQueue<InjectionRequest, Result<Injection, InjectionFailure>> for Requests<'_, '_, '_> {
    fn next_request(&mut self) -> Option<InjectionRequest> {
        let (place, item) = self.missing.next_item()?;
        self.missing.request(place);
        Some(request(item.sample, self.config))
    }

    fn receive(&mut self, number: usize, answer: Result<Injection, InjectionFailure>) -> ControlFlow<()> {
        self.missing.receive(number, |_, item| record(item.sample, answer))
    }
}

/// The requests for all items of a batch, including finished ones, because the last digits of a
/// model's output may depend on the other items of its batch.
struct WholeBatch<'a, 'b, 'c> {
    batch: &'c mut Batch<'a, 'b>,
    /// Indices of the items that this process answers.
    places: Vec<usize>,
    config: &'c RunConfig,
    next: usize,
    answers: Answers,
}

impl<'a, 'b, 'c> WholeBatch<'a, 'b, 'c> {
    fn new(batch: &'c mut Batch<'a, 'b>, dropped: &HashSet<String>, config: &'c RunConfig) -> Self {
        let is_asked = |&place: &usize| !dropped.contains(&batch.items[place].sample.id);
        let places: Vec<usize> = (0..batch.items.len()).filter(is_asked).collect();
        let answers = Answers::new(Stage::Inject, places.len());
        Self { batch, places, config, next: 0, answers }
    }
}

impl RequestQueue<InjectionRequest, Result<Injection, InjectionFailure>> for WholeBatch<'_, '_, '_> {
    fn next_request(&mut self) -> Option<InjectionRequest> {
        let place = *self.places.get(self.next)?;
        self.next += 1;
        Some(request(self.batch.items[place].sample, self.config))
    }

    fn receive(&mut self, number: usize, answer: Result<Injection, InjectionFailure>) -> ControlFlow<()> {
        let Self { batch, places, answers, .. } = self;
        answers.receive(number, || {
            // `number` is that of a request
            let place = places[number];
            batch.write(place, record(batch.items[place].sample, answer)?)
        })
    }
}

fn request(sample: &SftSample, config: &RunConfig) -> InjectionRequest {
    let seed = item_seed(stage_seed(config.seed.0, "inject"), &sample.id);
    InjectionRequest::new(strip_image_tokens(&sample.prompt), &sample.answer, seed)
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
            provenance: injection.error.map(Provenance::of_error),
            cuts: injection.cuts,
            rejected: injection.rejected,
            judgment: None,
        })),
        Err(failure) => {
            let reason = match &failure {
                InjectionFailure::Skipped { .. } => {
                    failure.rejection().map_or(SkipReason::RewriteRejected, rewrite_reason)
                }
                InjectionFailure::Refused { .. } => SkipReason::RequestFailed,
                _ => {
                    let source = Box::new(failure);
                    return Err(BpoError::StageStopped { stage: Stage::Inject, id, source });
                }
            };
            let skipped = Skipped::new(id, reason).with_detail(chain(&failure));
            Ok(StageRecord::Skipped { kind: CompletionKind::ErrorInjected, skipped })
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
        Rejection::ChangesTooMuch => SkipReason::RewriteChangesTooMuch,
        Rejection::ChangesTooLittle => SkipReason::RewriteChangesTooLittle,
        Rejection::OtherLength => SkipReason::RewriteOtherLength,
        Rejection::OtherOpening => SkipReason::RewriteOtherOpening,
        Rejection::OtherKind => SkipReason::RewriteOtherKind,
        Rejection::NoKindFits => SkipReason::NoKindFits,
        Rejection::NothingToChange => SkipReason::NothingToChange,
        _ => SkipReason::RewriteRejected,
    }
}
