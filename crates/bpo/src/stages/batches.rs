//! The items of a stage, in batches, and the file of their records.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use bpo_inject::{CutCounts, RejectionCounts};
use bpo_pairs::{RecordKey, SftSample, Skipped, UsageMeter};

use super::file::StageFile;
use super::missing::Missing;
use super::record::StageRecord;
use super::shard::Shard;
use super::{StageOutcome, is_refused};
use crate::error::BpoError;
use crate::progress::Progress;
use crate::stage::Stage;

/// One answer that a stage makes.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) sample: &'a SftSample,
    pub(super) variant: usize,
}

/// Number of answers, none of which a judge could score, after which it is asked no more.
const UNUSABLE_REPLIES: usize = 50;

/// Writes the records of items, counts them and reports the progress.
pub(super) struct Records<'b> {
    pub(super) stage: Stage,
    pub(super) file: &'b mut StageFile,
    pub(super) done: &'b mut Done,
    /// Number of records when the stage is done.
    pub(super) total: usize,
    pub(super) progress: &'b mut dyn Progress,
}

impl Records<'_> {
    /// Appends the record of an item to the file. `place` is the index of the item in the stage.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or [`BpoError::NothingAnswered`] if a judge could
    /// score none of the first [`UNUSABLE_REPLIES`] answers: the others would cost requests, too.
    pub(super) fn append(&mut self, place: usize, record: StageRecord) -> Result<(), BpoError> {
        self.file.append(record)?;
        if let Some((_, record)) = self.file.answers().lines().last() {
            self.done.count(place, record);
        }
        self.progress.advanced(self.stage, self.done.count.min(self.total));
        if self.stage == Stage::Judge && self.done.answered == 0 && self.done.refused >= UNUSABLE_REPLIES {
            return self.done.outcome().nothing_answered(self.stage).map_or(Ok(()), Err);
        }
        Ok(())
    }
}

/// Batches of a stage that are answered at the same time. It writes the records of their items.
pub(super) struct Batch<'a, 'b> {
    /// All items of the batches, in the order of the samples.
    pub(super) items: Vec<Item<'a>>,
    /// Index of each item among those of the stage.
    places: Vec<usize>,
    /// Number of items of each batch.
    pub(super) sizes: Vec<usize>,
    records: Records<'b>,
}

impl Batch<'_, '_> {
    /// Returns whether the file has the record of an item, by the index of the item in `items`.
    pub(super) fn is_done(&self, item: usize) -> bool {
        self.records.done.is_done[self.places[item]]
    }

    /// Writes the record of an item, unless the file has it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn write(&mut self, item: usize, record: StageRecord) -> Result<(), BpoError> {
        if self.is_done(item) { Ok(()) } else { self.records.append(self.places[item], record) }
    }
}

/// The items that have a record, and the counts of the records.
#[derive(Default)]
pub(super) struct Done {
    pub(super) is_done: Vec<bool>,
    pub(super) count: usize,
    answered: usize,
    /// Number of skipped items whose request was refused, or whose reply cannot be read.
    refused: usize,
    cuts: CutCounts,
    rejected: RejectionCounts,
    /// Skipped items with their index.
    skipped: Vec<(usize, Skipped)>,
}

impl Done {
    pub(super) fn count(&mut self, item: usize, record: &StageRecord) {
        self.is_done[item] = true;
        self.count += 1;
        match record {
            StageRecord::Answered(answer) => {
                self.answered += 1;
                answer.cuts.iter().for_each(|&cut| self.cuts.add(cut));
                answer.rejected.iter().for_each(|&reason| self.rejected.add(reason));
            }
            StageRecord::Skipped { skipped, .. } => {
                self.refused += usize::from(is_refused(skipped.reason));
                self.skipped.push((item, skipped.clone()));
            }
        }
    }

    /// Counts the records. Skipped items are in the order of the samples.
    fn outcome(&self) -> StageOutcome {
        let mut skipped = self.skipped.clone();
        skipped.sort_by_key(|(place, _)| *place);
        let skipped = skipped.into_iter().map(|(_, skipped)| skipped).collect();
        let mut outcome = StageOutcome::new(self.answered, skipped);
        outcome.summary.cuts = self.cuts.clone();
        outcome.summary.rejected = self.rejected.clone();
        outcome
    }
}

/// The items of a stage, and the file with the records of those that are done.
pub(super) struct Batches<'a> {
    stage: Stage,
    items: Vec<Item<'a>>,
    /// For each item, whether this process makes its answer.
    is_wanted: Vec<bool>,
    size: NonZeroUsize,
    file: &'a mut StageFile,
    done: Done,
}

impl<'a> Batches<'a> {
    /// Splits `variants` answers per sample into batches of `size` items, and finds the records
    /// that `file` has.
    ///
    /// Items are all variants of the first sample, then those of the second, and so on. Batch `i`
    /// has the items `i * size..(i + 1) * size`, independent of the shard and of finished items, so
    /// the answers of a batch depend on neither. Samples for which `is_dropped` returns true get no
    /// answer; their existing records are kept.
    ///
    /// # Errors
    /// Returns [`BpoError::OtherSamples`] if the file has a record of another sample or shard.
    pub(super) fn new(
        stage: Stage,
        samples: &'a [SftSample],
        variants: NonZeroUsize,
        size: NonZeroUsize,
        shard: Option<Shard>,
        is_dropped: impl Fn(&str) -> bool,
        file: &'a mut StageFile,
    ) -> Result<Self, BpoError> {
        let of = |sample| (0..variants.get()).map(move |variant| Item { sample, variant });
        let items = samples.iter().flat_map(of).collect();
        Self::of_items(stage, items, size, shard, |item| !is_dropped(&item.sample.id), file)
    }

    /// Splits items into batches as [`new`](Self::new) does. Those for which `is_wanted` returns false get no
    /// answer.
    ///
    /// # Errors
    /// Returns the error of [`new`](Self::new).
    pub(super) fn of_items(
        stage: Stage,
        items: Vec<Item<'a>>,
        size: NonZeroUsize,
        shard: Option<Shard>,
        is_wanted: impl Fn(&Item<'a>) -> bool,
        file: &'a mut StageFile,
    ) -> Result<Self, BpoError> {
        let in_shard = |place: usize| shard.is_none_or(|shard| shard.has_batch(place / size.get()));
        let key = |item: &Item<'a>| (item.sample.id.as_str(), item.variant);
        let places: HashMap<(&str, usize), usize> =
            items.iter().enumerate().map(|(place, item)| (key(item), place)).collect();
        let mut done = Done { is_done: vec![false; items.len()], ..Done::default() };
        for (line, record) in file.answers().lines() {
            let RecordKey { id, variant } = RecordKey::of(record);
            let place = places.get(&(id.as_str(), variant)).copied().filter(|&place| in_shard(place));
            let place = place.ok_or_else(|| BpoError::OtherSamples {
                path: file.answers().path().to_owned(),
                line: *line,
                found: RecordKey::new(id, variant).to_string(),
            })?;
            done.count(place, record);
        }
        let is_wanted = items.iter().enumerate().map(|(place, item)| in_shard(place) && is_wanted(item));
        Ok(Self { stage, is_wanted: is_wanted.collect(), items, size, file, done })
    }

    /// Returns whether the file has all records that this process makes.
    pub(super) fn is_done(&self) -> bool {
        self.is_wanted.iter().zip(&self.done.is_done).all(|(&is_wanted, &is_done)| is_done || !is_wanted)
    }

    /// Returns the number of records in the file when the stage is done.
    fn total(&self) -> usize {
        self.is_wanted.iter().zip(&self.done.is_done).filter(|&(&wanted, &done)| wanted || done).count()
    }

    /// Reports the number of records in the file.
    pub(super) fn report(&self, progress: &mut dyn Progress) {
        progress.started(self.stage, self.done.count, self.total());
        progress.advanced(self.stage, self.done.count);
    }

    /// Calls `answer` for the batches that have a missing record, `at_once` at a time.
    ///
    /// # Errors
    /// Returns the error of `answer`, or an error if the file cannot be written. Records that were
    /// written are kept.
    pub(super) fn run(
        &mut self,
        progress: &mut dyn Progress,
        at_once: NonZeroUsize,
        mut answer: impl FnMut(&mut Batch<'a, '_>) -> Result<(), BpoError>,
    ) -> Result<(), BpoError> {
        self.report(progress);
        let total = self.total();
        let Self { stage, items, is_wanted, size, file, done } = self;
        let places: Vec<usize> = (0..items.len()).collect();
        let is_missing = |&place: &usize| is_wanted[place] && !done.is_done[place];
        let missing: Vec<&[usize]> =
            places.chunks(size.get()).filter(|batch| batch.iter().any(is_missing)).collect();
        for batches in missing.chunks(at_once.get()) {
            let places = batches.concat();
            let items = places.iter().map(|&place| items[place]).collect();
            let sizes = batches.iter().map(|batch| batch.len()).collect();
            let records = Records { stage: *stage, file, done, total, progress };
            let answered = answer(&mut Batch { items, places, sizes, records });
            file.sync()?;
            answered?;
        }
        Ok(())
    }

    /// Calls `answer` with the items that have no record, unless there are none. `usage` counts the
    /// requests to a server.
    ///
    /// # Errors
    /// Returns [`BpoError::AnswerCount`] if an item was not answered exactly once, the error that
    /// [`Missing::receive`] got, or an error if the file cannot be written. Records that were written
    /// are kept.
    pub(super) fn stream(
        &mut self,
        progress: &mut dyn Progress,
        usage: Option<UsageMeter>,
        answer: impl FnOnce(&mut Missing<'a, '_>),
    ) -> Result<(), BpoError> {
        self.report(progress);
        let total = self.total();
        let Self { stage, items, is_wanted, file, done, .. } = self;
        let records = Records { stage: *stage, file, done, total, progress };
        let mut missing = Missing::new(items, is_wanted, records, usage);
        answer(&mut missing);
        missing.finish()
    }

    /// Removes all records of the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be truncated.
    pub(super) fn clear(self) -> Result<(), BpoError> {
        self.file.clear()
    }

    /// Counts the records of the file, including those of earlier processes. Skipped items are in
    /// the order of the samples.
    pub(super) fn outcome(&self) -> StageOutcome {
        let outcome = self.done.outcome();
        if outcome.summary.skipped.total() > 0 {
            tracing::info!(stage = %self.stage, skipped = %outcome.summary.skipped, "answers skipped");
        }
        outcome
    }
}
