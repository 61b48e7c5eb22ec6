//! The way of a stage through its samples, batch by batch.

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::Path;

use bpo_inject::CutCounts;
use bpo_pairs::{JsonlStore, SftSample};

use super::StageOutcome;
use super::record::{StageRecord, key};
use crate::error::BpoError;
use crate::progress::Progress;
use crate::stage::Stage;

/// One answer that a stage is to make.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) sample: &'a SftSample,
    pub(super) variant: usize,
}

impl<'a> Item<'a> {
    pub(super) fn key(self) -> Cow<'a, str> {
        key(&self.sample.id, self.variant)
    }
}

/// What becomes of each item of a batch, in order. The outer error stops the stage before any line
/// is written, an inner one after the lines before it.
pub(super) type BatchRecords = Result<Vec<Result<StageRecord, BpoError>>, BpoError>;

/// The answers that a stage makes, and its file.
pub(super) struct Batches<'a> {
    stage: Stage,
    items: Vec<Item<'a>>,
    size: NonZeroUsize,
    store: JsonlStore<StageRecord>,
}

impl<'a> Batches<'a> {
    /// Opens `file` for `variants` answers of each sample, made `size` at a time.
    ///
    /// Items are the answers of the first sample, then those of the second, and so on.
    ///
    /// # Errors
    /// If the file cannot be opened or holds the answers of other samples
    /// ([`BpoError::OutOfOrder`]).
    pub(super) fn open(
        stage: Stage,
        samples: &'a [SftSample],
        variants: NonZeroUsize,
        size: NonZeroUsize,
        file: &Path,
    ) -> Result<Self, BpoError> {
        let of = |sample| (0..variants.get()).map(move |variant| Item { sample, variant });
        let items: Vec<Item<'_>> = samples.iter().flat_map(of).collect();
        let batches = Self { stage, items, size, store: JsonlStore::open(file)? };
        batches.check_order()?;
        Ok(batches)
    }

    /// Whether the file has all answers.
    pub(super) fn is_done(&self) -> bool {
        self.store.len() >= self.items.len()
    }

    /// Reports what is in the file.
    pub(super) fn report(&self, progress: &mut dyn Progress) {
        progress.started(self.stage, self.store.len(), self.items.len());
        progress.advanced(self.stage, self.store.len());
    }

    /// Appends what `answer` gives for the items that the file does not have yet.
    ///
    /// Batch `i` is `items[i * size..(i + 1) * size]`, whatever is done already. A batch that is
    /// done in part is answered again as a whole, and only what is missing is written.
    ///
    /// # Errors
    /// What `answer` fails with; if the file cannot be written.
    pub(super) fn run(
        &mut self,
        progress: &mut dyn Progress,
        mut answer: impl FnMut(&[Item<'a>]) -> BatchRecords,
    ) -> Result<(), BpoError> {
        self.report(progress);
        let Self { stage, items, size, store } = self;
        for (index, batch) in items.chunks(size.get()).enumerate() {
            let done = store.len().saturating_sub(index * size.get()).min(batch.len());
            if done == batch.len() {
                continue;
            }
            let records = answer(batch)?;
            let mut append = |record: Result<StageRecord, BpoError>| -> Result<(), BpoError> {
                Ok(store.append(&record?)?)
            };
            let appended = records.into_iter().skip(done).try_for_each(&mut append);
            store.sync()?;
            progress.advanced(*stage, store.len());
            appended?;
        }
        Ok(())
    }

    /// Removes the file with all its records.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(self) -> Result<(), BpoError> {
        Ok(self.store.remove()?)
    }

    /// Counts what the file holds, the answers of earlier runs included.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn outcome(&self) -> Result<StageOutcome, BpoError> {
        let (mut answered, mut skipped) = (0, Vec::new());
        let mut cuts = CutCounts::default();
        for record in self.store.records()? {
            match record? {
                StageRecord::Answered(answer) => {
                    answered += 1;
                    answer.cuts.into_iter().for_each(|cut| cuts.add(cut));
                }
                StageRecord::Skipped(skip) => skipped.push(skip),
            }
        }
        let mut outcome = StageOutcome::new(answered, skipped);
        outcome.summary.cuts = cuts;
        if outcome.summary.skipped.total() > 0 {
            tracing::info!(stage = %self.stage, skipped = %outcome.summary.skipped, "answers skipped");
        }
        Ok(outcome)
    }

    /// Checks that the file holds the records of the first items, in order.
    fn check_order(&self) -> Result<(), BpoError> {
        for (index, found) in self.store.keys().iter().enumerate() {
            let expected = self.items.get(index).map_or_else(String::new, |item| item.key().into_owned());
            if expected != *found {
                let (path, line) = (self.store.path().to_owned(), index + 1);
                return Err(BpoError::OutOfOrder { path, line, expected, found: found.clone() });
            }
        }
        Ok(())
    }
}
