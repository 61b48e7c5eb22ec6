//! The chosen answer of a sample, and the record of all its answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use bpo_eval::{ChairItem, EvalError, ObjectTable, Truth};
use bpo_inject::AcceptanceRules;
use bpo_pairs::{
    Completion, CompletionKind, FinishReason, Record, SftSample, SkipCause, SkipCounts, SkipReason, Skipped,
};

use super::assemble::{annotated, completion, record_of, record_with};
use super::record::Bootstrapped;
use crate::config::{ChosenAnswer, RunConfig};
use crate::error::BpoError;

/// Calls a function with every sample.
pub(super) type EachSample<'a> = &'a mut dyn FnMut(&SftSample) -> Result<(), BpoError>;

/// Decides which answer of a sample is the chosen one.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    chosen: ChosenAnswer,
    rules: &'a AcceptanceRules,
    /// The objects of the images, for own answers that are compared with them.
    truth: Option<(ObjectTable, Truth)>,
    /// Score of the judge from which an own answer is right, in place of the ground truth.
    accept_from: Option<f64>,
    /// Answers of the model that cannot be chosen.
    unusable: RefCell<SkipCounts>,
    /// Number of samples with an image that is not in the ground truth.
    unknown: Cell<usize>,
}

impl<'a> Choice<'a> {
    /// Reads the ground truth, if the settings need it. `samples` calls a function with every sample.
    ///
    /// # Errors
    /// Returns an error if the ground truth is not set, cannot be read, or has the images of no sample.
    pub(super) fn new(
        config: &'a RunConfig,
        samples: impl FnOnce(EachSample<'_>) -> Result<(), BpoError>,
    ) -> Result<Self, BpoError> {
        let accept_from = config.judge.accept_from;
        let needs_truth = config.chosen == ChosenAnswer::Revised && accept_from.is_none();
        let truth = needs_truth.then(|| config.truth.read()).transpose()?;
        if let Some((_, truth)) = &truth {
            let mut is_known = false;
            samples(&mut |sample| {
                is_known |= knows(truth, sample);
                Ok(())
            })?;
            check_known(is_known)?;
        }
        let rules = &config.inject.llm.acceptance;
        let (unusable, unknown) = (RefCell::default(), Cell::default());
        Ok(Self { chosen: config.chosen, rules, truth, accept_from, unusable, unknown })
    }

    /// Makes the record of a sample: its chosen answer (score 1), then the others (score 0). Returns the
    /// skipped sample if it has no chosen answer. Of several own answers the first that can be chosen is, and
    /// with a ground truth all wrong ones are rejected.
    ///
    /// # Errors
    /// Returns [`BpoError::Conflict`] for an answer with injected errors if annotated answers are not
    /// used.
    pub(super) fn record_of(
        &self,
        sample: &SftSample,
        answers: Vec<Bootstrapped>,
    ) -> Result<Result<Record, Skipped>, BpoError> {
        let (own, rejected): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.kind == CompletionKind::Own);
        match self.chosen {
            ChosenAnswer::Annotated => Ok(Ok(record_of(sample, annotated(sample), rejected))),
            ChosenAnswer::Judged => self.judged(sample, rejected.into_iter().chain(own).collect()),
            ChosenAnswer::Own => {
                if rejected.iter().any(|answer| answer.kind == CompletionKind::ErrorInjected) {
                    return Err(self.injected());
                }
                Ok(match self.usable(own, "") {
                    Ok(own) => match own.into_iter().next() {
                        Some(own) => Ok(record_of(sample, chosen(own), rejected)),
                        None => Err(unusable(SkipReason::NoOwnAnswer).of(&sample.id)),
                    },
                    Err(reason) => Err(unusable(reason).of(&sample.id)),
                })
            }
            ChosenAnswer::Revised => Ok(Ok(match self.usable(own, &sample.answer) {
                Ok(own) => self.revised(sample, own, rejected)?,
                Err(reason) => {
                    self.unusable.borrow_mut().add(reason);
                    record_of(sample, annotated(sample), rejected)
                }
            })),
        }
    }

    /// Makes the record with the first right one of the own answers as the chosen answer, or else the
    /// annotated one. Wrong ones are rejected.
    ///
    /// # Errors
    /// Returns [`BpoError::NotJudged`] for an answer without the score that decides.
    fn revised(
        &self,
        sample: &SftSample,
        own: Vec<Bootstrapped>,
        mut rejected: Vec<Bootstrapped>,
    ) -> Result<Record, BpoError> {
        let mut right = None;
        // in the order of the stages
        let is_of_inject = |answer: &Bootstrapped| answer.kind == CompletionKind::ErrorInjected;
        let mut place = rejected.iter().position(is_of_inject).unwrap_or(rejected.len());
        for own in own {
            match self.is_right(sample, &own)? {
                Some(true) if right.is_none() => right = Some(own),
                Some(false) => {
                    rejected.insert(place, own);
                    place += 1;
                }
                _ => {}
            }
        }
        Ok(record_of(sample, right.map_or_else(|| annotated(sample), chosen), rejected))
    }

    /// Makes the record of answers with their scores of a judge, without those that were cut off and
    /// those that decline to answer: each of them may be a chosen one.
    ///
    /// # Errors
    /// Returns [`BpoError::NotJudged`] for an answer without a score, or [`BpoError::Conflict`] for an
    /// answer with injected errors.
    fn judged(
        &self,
        sample: &SftSample,
        answers: Vec<Bootstrapped>,
    ) -> Result<Result<Record, Skipped>, BpoError> {
        if answers.iter().any(|answer| answer.kind == CompletionKind::ErrorInjected) {
            return Err(self.injected());
        }
        if answers.is_empty() {
            return Ok(Err(SkipCause::from(SkipReason::NoRejected).of(&sample.id)));
        }
        // a question that cannot be answered may have a refusal as its annotated answer
        let usable = match self.usable(answers, &sample.answer) {
            Ok(usable) => usable,
            Err(reason) => return Ok(Err(unusable(reason).of(&sample.id))),
        };
        let completions = usable.into_iter().map(|answer| Ok(completion(score_of(&answer)?, answer)));
        let completions = completions.collect::<Result<_, BpoError>>()?;
        Ok(Ok(record_with(sample, completions)))
    }

    /// Returns the answers of the model that can be chosen ones, or the reason why the first one cannot. An
    /// answer may decline to answer if the annotated one does.
    fn usable(&self, own: Vec<Bootstrapped>, annotated: &str) -> Result<Vec<Bootstrapped>, SkipReason> {
        let (mut usable, mut reason) = (Vec::new(), None);
        for own in own {
            // training would teach the model to end there
            let is_weakened = own.kind == CompletionKind::ImageWeakened;
            let found = if own.finish == Some(FinishReason::Length) {
                if is_weakened { SkipReason::WeakenedCut } else { SkipReason::OwnCut }
            } else if self.rules.is_refusal(&own.response, annotated) {
                if is_weakened { SkipReason::WeakenedRefusal } else { SkipReason::OwnRefusal }
            } else {
                usable.push(own);
                continue;
            };
            reason.get_or_insert(found);
            if self.chosen == ChosenAnswer::Judged {
                self.unusable.borrow_mut().add(found);
            }
        }
        if usable.is_empty() { Err(reason.unwrap_or(SkipReason::NoOwnAnswer)) } else { Ok(usable) }
    }

    /// Returns whether an own answer is right: by its score of the judge, or if all objects that it names
    /// are in the images of its sample. Returns `None` if it names none or an image is not in the ground
    /// truth.
    ///
    /// # Errors
    /// Returns [`BpoError::NotJudged`] for an answer without the score that decides.
    fn is_right(&self, sample: &SftSample, answer: &Bootstrapped) -> Result<Option<bool>, BpoError> {
        if let Some(least) = self.accept_from {
            return Ok(Some(score_of(answer)? >= least));
        }
        let Some((table, truth)) = &self.truth else { return Ok(None) };
        if !knows(truth, sample) {
            self.unknown.set(self.unknown.get() + 1);
            return Ok(None);
        }
        let of_images = sample.images.iter().filter_map(|image| truth.of(image));
        let objects: BTreeSet<String> = of_images.flatten().cloned().collect();
        let item = ChairItem::new(table, sample.id.as_str(), &answer.response, &objects);
        Ok((!item.mentions.is_empty()).then(|| item.mentions.iter().all(|(_, there)| *there)))
    }

    /// Returns the error for answers with injected errors beside answers that are not the annotated ones.
    fn injected(&self) -> BpoError {
        BpoError::Conflict {
            key: "chosen".into(),
            with: "answers of `bpo inject`".to_owned(),
            reason: match self.chosen {
                ChosenAnswer::Judged => {
                    "they have no score of the judge, and `chosen = \"judged\"` compares scores"
                }
                _ => "they are rewritten annotated answers, and with `chosen = \"own\"` these are not used",
            },
        }
    }

    /// Warns of samples whose own answers could not be compared with the ground truth.
    pub(super) fn finish(self) {
        let (unusable, unknown) = (self.unusable.into_inner(), self.unknown.get());
        if unknown > 0 {
            tracing::warn!(
                samples = unknown,
                "images are not in the ground truth (`[truth]`), so the annotated answer is the chosen one"
            );
        }
        match self.chosen {
            _ if unusable.total() == 0 => {}
            ChosenAnswer::Judged => tracing::warn!("answers that make no pair: {unusable}"),
            _ => tracing::warn!(
                "the annotated answer is the chosen one where an own one cannot be: {unusable}"
            ),
        }
    }
}

/// Returns whether the images of a sample are in the ground truth.
fn knows(truth: &Truth, sample: &SftSample) -> bool {
    !sample.images.is_empty() && sample.images.iter().all(|image| truth.of(image).is_some())
}

/// Checks that the ground truth has the images of a sample.
///
/// # Errors
/// Returns [`EvalError::Nothing`] if it has those of no sample.
fn check_known(is_known: bool) -> Result<(), BpoError> {
    let why = "the ground truth (`truth.path`, `truth.coco`) has no image of the data";
    if is_known { Ok(()) } else { Err(EvalError::Nothing { why: why.into() }.into()) }
}

/// Checks that the ground truth of revised answers can be read and has images of the samples.
///
/// # Errors
/// Returns the errors of [`Choice::new`].
pub(crate) fn check_truth(config: &RunConfig, samples: &[SftSample]) -> Result<(), BpoError> {
    Choice::new(config, |each| samples.iter().try_for_each(each)).map(|_| ())
}

/// Returns why a sample has no chosen answer, and what helps.
fn unusable(reason: SkipReason) -> SkipCause {
    match reason {
        SkipReason::OwnCut | SkipReason::WeakenedCut => {
            SkipCause::new(reason, "`weaken.max_new_tokens` (--max-new-tokens) is its limit")
        }
        SkipReason::NoOwnAnswer => {
            SkipCause::new(reason, "`bpo weaken` makes it with `--chosen own`, `revised` or `judged`")
        }
        reason => reason.into(),
    }
}

/// Returns the score of an answer.
///
/// # Errors
/// Returns [`BpoError::NotJudged`] if it has none.
fn score_of(answer: &Bootstrapped) -> Result<f64, BpoError> {
    let score = answer.judgment.as_ref().map(|judgment| judgment.score);
    score.ok_or_else(|| BpoError::NotJudged { id: answer.id.clone(), kind: answer.kind.clone() })
}

/// Makes the model's own answer the chosen one.
fn chosen(own: Bootstrapped) -> Completion {
    completion(1.0, own)
}
