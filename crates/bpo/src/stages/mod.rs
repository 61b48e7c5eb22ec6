//! The stages of a run, each on its own: what the subcommands of `bpo` do, and what [`run`](crate::run::run) chains.
//!
//! Each takes up its file where an earlier process left it, and leaves the same bytes however often it was killed. They
//! know models and injectors by their traits only.

pub mod inject;
pub mod pair;
pub mod settings;
pub mod train;
pub mod weaken;

use std::path::Path;

use bpo_inject::{CutCounts, ErrorInjector, Generated, Injection, InjectionFailure, InjectionRequest};
use bpo_pairs::build::{Progress as Built, StageRecord};
use bpo_pairs::responder::{VisionLanguageModel, VisionRequest};
use bpo_pairs::skipped::Skipped;
use bpo_pairs::store::JsonlStore;

use crate::config::Stage;
use crate::error::BpoError;
use crate::progress::Progress;
use crate::summary::StageSummary;

/// What a stage did, and all that it skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// In numbers.
    pub summary: StageSummary,
    /// One by one.
    pub skipped: Vec<Skipped>,
}

impl StageOutcome {
    /// `done` items, and those skipped.
    pub fn new(done: usize, skipped: Vec<Skipped>) -> Self {
        Self { summary: StageSummary::new(done, &skipped), skipped }
    }

    /// Adds more that was skipped.
    pub fn add(&mut self, skipped: Vec<Skipped>) {
        skipped.iter().for_each(|skipped| self.summary.skipped.add(skipped.reason));
        self.skipped.extend(skipped);
    }

    /// What a stage's file holds.
    ///
    /// # Errors
    /// If it cannot be read.
    fn of(store: &JsonlStore<StageRecord>) -> Result<Self, BpoError> {
        let (mut answered, mut skipped) = (0, Vec::new());
        let mut cuts = CutCounts::default();
        for record in store.records()? {
            match record? {
                StageRecord::Answered(answer) => {
                    answered += 1;
                    answer.cuts.into_iter().for_each(|cut| cuts.add(cut));
                }
                StageRecord::Skipped(skip) => skipped.push(skip),
            }
        }
        let mut outcome = Self::new(answered, skipped);
        outcome.summary.cuts = cuts;
        Ok(outcome)
    }
}

/// In place of a model or injector that has nothing left to do.
struct Unneeded;

impl VisionLanguageModel for Unneeded {
    type Error = std::convert::Infallible;

    fn respond(&mut self, _: &[VisionRequest]) -> Vec<Result<Generated, Self::Error>> {
        Vec::new()
    }
}

impl ErrorInjector for Unneeded {
    fn inject(&mut self, _: &[InjectionRequest]) -> Vec<Result<Injection, InjectionFailure>> {
        Vec::new()
    }
}

/// Opens a stage's file.
fn open(path: &Path) -> Result<JsonlStore<StageRecord>, BpoError> {
    Ok(JsonlStore::open(path)?)
}

/// Whether a stage's file, which is made if it is not there, has an answer.
pub(crate) fn has_answers(path: &Path) -> Result<bool, BpoError> {
    let mut answered = false;
    for record in open(path)?.records()? {
        answered |= matches!(record?, StageRecord::Answered(_));
    }
    Ok(answered)
}

/// Passes a library's progress on.
fn forward<'a>(stage: Stage, progress: &'a mut dyn Progress) -> impl FnMut(Built) + 'a {
    let mut started = false;
    move |built: Built| {
        if !std::mem::replace(&mut started, true) {
            progress.started(stage, built.done, built.total);
        }
        progress.advanced(stage, built.done);
    }
}
