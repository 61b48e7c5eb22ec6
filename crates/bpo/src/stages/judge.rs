//! Judgments: `judged.jsonl`, the answers of the weaken stage with the scores of a judge.

mod grade;
mod job;
mod judging;
mod requests;

use bpo_pairs::{CompletionKind, Keyed, SftSample};

use super::answers::Answers;
use super::batches::{Batch, Batches, Item};
use super::file::StageFile;
use super::{StageAnswers, StageOutcome, StageRecord};
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::images::ImageRoot;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::vision::{BATCHES_PER_CALL, VisionLanguageModel, VisionRequest};
pub use grade::{grade, read_grades};
use job::Job;
use judging::{Judging, Step};
use requests::Requests;

/// Asks a judge about each answer of the files `answers`, which are of the weaken stage, and appends the
/// answers with their [judgments](crate::Judgment) to `file`.
///
/// An answer that the judge cannot judge, or whose judgment cannot be read, is recorded as skipped. Records
/// that need no judgment are copied: those without an answer and, for
/// [revised](crate::ChosenAnswer::Revised) pairs, those about weakened images. A judgment in the file whose
/// answer has changed is removed and made again. `images` is the image root, if the judge sees the images.
/// `model` is called only if a judgment is missing.
///
/// # Errors
/// Returns an error if the answers are not of the weaken stage, if an answer belongs to no sample or is
/// there twice, if the file has records of other samples or cannot be written, or
/// [`BpoError::StageStopped`] if the judge fails for another reason than the answer, for example because
/// its server is down. The file then keeps all judgments, and the stage can be run again. Returns
/// [`BpoError::NothingAnswered`] and empties the file if no answer was judged; after 50 replies that cannot be
/// used, it asks no more.
pub fn judge<M: VisionLanguageModel>(
    config: &RunConfig,
    samples: &[SftSample],
    answers: &[StageAnswers],
    images: Option<&ImageRoot>,
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &mut StageFile,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    run(&Job::new(config, samples, answers, images)?, samples, model, file, progress)
}

/// Makes the judgments of a job that are missing in `file`.
fn run<'a, M: VisionLanguageModel>(
    job: &'a Job<'a>,
    samples: &'a [SftSample],
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &mut StageFile,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let _span = tracing::info_span!("judge", samples = samples.len()).entered();
    job.remove_outdated(file)?;
    let per_call = job.at_a_time.saturating_mul(BATCHES_PER_CALL);
    let is_wanted = |item: &Item<'_>| job.answer(*item).is_some();
    let mut batches = Batches::of_items(Stage::Judge, job.items(samples), per_call, None, is_wanted, file)?;
    if batches.is_done() {
        batches.report(progress);
    } else {
        let mut model = model()?;
        let judged = if model.is_batch_invariant() {
            let (usage, at_a_time) = (model.usage(), job.at_a_time);
            batches.stream(progress, usage, |missing| {
                model.respond_queue(&mut Requests::new(job, missing), at_a_time);
            })
        } else {
            batches.run(progress, model.calls_at_once(), |batch| job.judge_batch(batch, &mut model))
        };
        if let Err(error @ BpoError::NothingAnswered { .. }) = judged {
            // a reply that arrived after the error may have been usable
            if batches.outcome().summary.done == 0 {
                batches.clear()?;
            }
            return Err(error);
        }
        judged?;
    }
    let mut outcome = batches.outcome();
    if let Some(error) = outcome.nothing_answered(Stage::Judge) {
        batches.clear()?;
        return Err(error);
    }
    job.copy_unjudged(file)?;
    // copies are no work of this stage
    outcome.skipped.retain(|skipped| job.is_judged(&skipped.id, skipped.variant));
    let records = file.answers().records();
    let done =
        records.filter(|record| matches!(record, StageRecord::Answered(answer) if answer.judgment.is_some()));
    let outcome = StageOutcome::new(done.count(), outcome.skipped);
    progress.finished(Stage::Judge, &outcome.summary);
    Ok(outcome)
}

/// Checks that answers are of the weaken stage and have no score.
fn check_kinds(answers: &StageAnswers) -> Result<(), BpoError> {
    let conflict = |with: String, reason| Err(BpoError::Conflict { key: "bpo judge".into(), with, reason });
    for record in answers.records() {
        let id = record.id();
        if *record.kind() == CompletionKind::ErrorInjected {
            let with = format!("an answer with injected errors (sample {id:?})");
            return conflict(with, "it judges the answers of `bpo weaken`; those of `bpo inject` are wrong");
        }
        if matches!(record, StageRecord::Answered(answer) if answer.judgment.is_some()) {
            let with = format!("an answer that has a score (sample {id:?})");
            return conflict(with, "give the file of `bpo weaken` that the scores were made of");
        }
    }
    Ok(())
}

impl<'a> Job<'a> {
    /// Judges all answers of a batch, including finished ones, because the last digits of a model's
    /// output may depend on the other requests of its call.
    fn judge_batch<M: VisionLanguageModel>(
        &'a self,
        batch: &mut Batch<'a, '_>,
        model: &mut M,
    ) -> Result<(), BpoError> {
        // with the index of their item in the batch
        let mut judgings: Vec<(usize, Judging<'a>)> = Vec::new();
        let mut round = Round::new(batch.sizes.len());
        let items = batch.items.clone();
        let mut places = items.iter().copied().enumerate();
        for (call, &size) in batch.sizes.clone().iter().enumerate() {
            for (place, item) in places.by_ref().take(size) {
                let Some(answer) = self.answer(item) else { continue };
                match self.checked_images(item)? {
                    Ok(images) => {
                        let (judging, request) = Judging::start(self, item, answer, images)?;
                        round.add(Asked { call, judging: judgings.len(), part: 0 }, request);
                        judgings.push((place, judging));
                    }
                    Err(skipped) => batch.write(place, self.skipped(answer, skipped))?,
                }
            }
        }
        while !round.asked.is_empty() {
            let Round { calls, asked } = round;
            let mut answers = Answers::new(Stage::Judge, asked.len());
            let mut follow: Vec<(Asked, Vec<VisionRequest>)> = Vec::new();
            model.respond_calls(&calls, self.at_a_time, &mut |index, reply| {
                answers.receive(index, || {
                    let of = asked[index];
                    let (place, judging) = &mut judgings[of.judging];
                    match judging.receive(of.part, reply)? {
                        Step::Ask(requests) => follow.push((of, requests)),
                        Step::Wait => {}
                        Step::Done(record) => batch.write(*place, *record)?,
                    }
                    Ok(())
                })
            });
            answers.finish()?;
            // answers come in any order, and the next round must not depend on it
            follow.sort_by_key(|(of, _)| of.judging);
            round = Round::new(calls.len());
            for (of, requests) in follow {
                for (part, request) in requests.into_iter().enumerate() {
                    round.add(Asked { part, ..of }, request);
                }
            }
        }
        Ok(())
    }
}

/// What a request is about.
#[derive(Clone, Copy)]
struct Asked {
    /// Index of the call of the model.
    call: usize,
    /// Index of the judgment.
    judging: usize,
    /// Number of the request in the judgment.
    part: usize,
}

/// The requests that are made at the same time, by the calls of the model.
struct Round {
    calls: Vec<Vec<VisionRequest>>,
    /// What the requests are about, in the order of the calls.
    asked: Vec<Asked>,
}

impl Round {
    fn new(calls: usize) -> Self {
        Self { calls: vec![Vec::new(); calls], asked: Vec::new() }
    }

    /// Adds a request. Requests are added in the order of their calls.
    fn add(&mut self, of: Asked, request: VisionRequest) {
        self.calls[of.call].push(request);
        self.asked.push(of);
    }
}
