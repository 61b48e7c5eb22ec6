//! The chosen answer of a sample, and the record of all its answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use bpo_eval::{ChairItem, EvalError, ObjectTable, Truth};
use bpo_inject::AcceptanceRules;
use bpo_pairs::{
    Completion, CompletionKind, FinishReason, Record, SftSample, SkipCause, SkipCounts, SkipReason, Skipped,
};

use super::assemble::{annotated, record_of};
use super::record::Bootstrapped;
use crate::config::{ChosenAnswer, RunConfig};
use crate::error::BpoError;

/// Calls a function with every sample.
type EachSample<'a> = &'a mut dyn FnMut(&SftSample) -> Result<(), BpoError>;

/// Decides which answer of a sample is the chosen one.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    chosen: ChosenAnswer,
    rules: &'a AcceptanceRules,
    /// The objects of the images, for own answers that are compared with them.
    truth: Option<(ObjectTable, Truth)>,
    /// Own answers that could not be compared.
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
        let needs_truth = config.chosen == ChosenAnswer::Revised;
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
        Ok(Self { chosen: config.chosen, rules, truth, unusable, unknown })
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
            ChosenAnswer::Own => {
                if rejected.iter().any(|answer| answer.kind == CompletionKind::ErrorInjected) {
                    return Err(injected());
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
                Ok(own) => self.revised(sample, own, rejected),
                Err(reason) => {
                    self.unusable.borrow_mut().add(reason);
                    record_of(sample, annotated(sample), rejected)
                }
            })),
        }
    }

    /// Makes the record with the first right one of the own answers as the chosen answer, or else the
    /// annotated one. Wrong ones are rejected.
    fn revised(&self, sample: &SftSample, own: Vec<Bootstrapped>, mut rejected: Vec<Bootstrapped>) -> Record {
        let mut right = None;
        // in the order of the stages
        let is_of_inject = |answer: &Bootstrapped| answer.kind == CompletionKind::ErrorInjected;
        let mut place = rejected.iter().position(is_of_inject).unwrap_or(rejected.len());
        for own in own {
            match self.is_right(sample, &own.response) {
                Some(true) if right.is_none() => right = Some(own),
                Some(false) => {
                    rejected.insert(place, own);
                    place += 1;
                }
                _ => {}
            }
        }
        record_of(sample, right.map_or_else(|| annotated(sample), chosen), rejected)
    }

    /// Returns the own answers that can be chosen ones, or the reason why the first one cannot. An answer
    /// may decline to answer if the annotated one does.
    fn usable(&self, own: Vec<Bootstrapped>, annotated: &str) -> Result<Vec<Bootstrapped>, SkipReason> {
        let (mut usable, mut reason) = (Vec::new(), None);
        for own in own {
            // training would teach the model to end there
            if own.finish == Some(FinishReason::Length) {
                reason.get_or_insert(SkipReason::OwnCut);
            } else if self.rules.is_refusal(&own.response, annotated) {
                reason.get_or_insert(SkipReason::OwnRefusal);
            } else {
                usable.push(own);
            }
        }
        if usable.is_empty() { Err(reason.unwrap_or(SkipReason::NoOwnAnswer)) } else { Ok(usable) }
    }

    /// Returns whether all objects that an answer names are in the images of its sample, or `None` if it
    /// names none or an image is not in the ground truth.
    fn is_right(&self, sample: &SftSample, answer: &str) -> Option<bool> {
        let (table, truth) = self.truth.as_ref()?;
        if !knows(truth, sample) {
            self.unknown.set(self.unknown.get() + 1);
            return None;
        }
        let of_images = sample.images.iter().filter_map(|image| truth.of(image));
        let objects: BTreeSet<String> = of_images.flatten().cloned().collect();
        let item = ChairItem::new(table, sample.id.as_str(), answer, &objects);
        (!item.mentions.is_empty()).then(|| item.mentions.iter().all(|(_, there)| *there))
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
        if unusable.total() > 0 {
            tracing::warn!("the annotated answer is the chosen one where an own one cannot be: {unusable}");
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
        SkipReason::OwnCut => {
            SkipCause::new(reason, "`weaken.max_new_tokens` (--max-new-tokens) is its limit")
        }
        SkipReason::NoOwnAnswer => SkipCause::new(
            reason,
            "`bpo weaken --chosen own` makes it with the answers about weakened images",
        ),
        reason => reason.into(),
    }
}

/// Returns the error for answers with injected errors beside own ones.
fn injected() -> BpoError {
    BpoError::Conflict {
        key: "chosen".into(),
        with: "answers of `bpo inject`".to_owned(),
        reason: "they are rewritten annotated answers, and with `chosen = \"own\"` these are not used",
    }
}

/// Makes the model's own answer the chosen one.
fn chosen(own: Bootstrapped) -> Completion {
    Completion { response: own.response, score: 1.0, kind: own.kind, provenance: own.provenance }
}
