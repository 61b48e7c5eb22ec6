//! The items of a stage, in batches, and the file of their records.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;

use bpo_inject::CutCounts;
use bpo_pairs::{JsonlStore, RecordKey, SftSample, Skipped};

use super::StageOutcome;
use super::record::StageRecord;
use super::shard::Shard;
use crate::error::BpoError;
use crate::progress::Progress;
use crate::stage::Stage;

/// One answer that a stage makes.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) sample: &'a SftSample,
    pub(super) variant: usize,
}

/// One batch of a stage. It writes the records of its items.
pub(super) struct Batch<'a, 'b> {
    /// All items of the batch, in the order of the samples.
    pub(super) items: &'b [Item<'a>],
    /// Index of the first item among those of the stage.
    first: usize,
    sink: &'b mut Sink,
    progress: &'b mut dyn Progress,
    stage: Stage,
    total: usize,
}

impl Batch<'_, '_> {
    /// Returns whether the file has the record of an item, by the index of the item in the batch.
    pub(super) fn is_done(&self, place: usize) -> bool {
        self.sink.is_done[self.first + place]
    }

    /// Writes the record of an item, unless the file has it.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub(super) fn write(&mut self, place: usize, record: StageRecord) -> Result<(), BpoError> {
        if self.is_done(place) {
            return Ok(());
        }
        self.sink.store.append(&record)?;
        self.sink.count(self.first + place, record);
        self.progress.advanced(self.stage, self.sink.done.min(self.total));
        Ok(())
    }
}

/// The file of a stage, and the counts of its records.
struct Sink {
    store: JsonlStore<StageRecord>,
    is_done: Vec<bool>,
    done: usize,
    answered: usize,
    cuts: CutCounts,
    /// Skipped items with their index.
    skipped: Vec<(usize, Skipped)>,
}

impl Sink {
    fn count(&mut self, item: usize, record: StageRecord) {
        self.is_done[item] = true;
        self.done += 1;
        match record {
            StageRecord::Answered(answer) => {
                self.answered += 1;
                answer.cuts.into_iter().for_each(|cut| self.cuts.add(cut));
            }
            StageRecord::Skipped { skipped, .. } => self.skipped.push((item, skipped)),
        }
    }
}

/// The items of a stage, and the file with the records of those that are done.
pub(super) struct Batches<'a> {
    stage: Stage,
    items: Vec<Item<'a>>,
    /// For each item, whether this process makes its answer.
    is_wanted: Vec<bool>,
    size: NonZeroUsize,
    sink: Sink,
}

impl<'a> Batches<'a> {
    /// Opens `file` for `variants` answers per sample in batches of `size` items, and reads its
    /// records.
    ///
    /// Items are all variants of the first sample, then those of the second, and so on. Batch `i`
    /// has the items `i * size..(i + 1) * size`, independent of the shard and of finished items, so
    /// the answers of a batch depend on neither. Samples for which `is_dropped` returns true get no
    /// answer; their existing records are kept.
    ///
    /// # Errors
    /// Returns [`BpoError::OtherSamples`] if the file has a record of another sample or shard, or
    /// an error if the file cannot be opened.
    pub(super) fn open(
        stage: Stage,
        samples: &'a [SftSample],
        variants: NonZeroUsize,
        size: NonZeroUsize,
        shard: Option<Shard>,
        is_dropped: impl Fn(&str) -> bool,
        file: &Path,
    ) -> Result<Self, BpoError> {
        let of = |sample| (0..variants.get()).map(move |variant| Item { sample, variant });
        let items: Vec<Item<'_>> = samples.iter().flat_map(of).collect();
        let in_shard = |place: usize| shard.is_none_or(|shard| shard.has_batch(place / size.get()));
        let places: HashMap<&str, usize> =
            samples.iter().enumerate().map(|(place, sample)| (sample.id.as_str(), place)).collect();
        let mut records = Vec::new();
        let store = JsonlStore::open_each(file, |line, record: StageRecord| {
            let RecordKey { id, variant } = RecordKey::of(&record);
            let place = places.get(id.as_str()).map(|place| place * variants.get() + variant);
            let place = place.filter(|&place| variant < variants.get() && in_shard(place));
            let place = place.ok_or_else(|| BpoError::OtherSamples {
                path: file.to_owned(),
                line,
                found: RecordKey::new(id, variant).to_string(),
            })?;
            records.push((place, record));
            Ok::<_, BpoError>(())
        })?;
        let is_wanted =
            items.iter().enumerate().map(|(place, item)| in_shard(place) && !is_dropped(&item.sample.id));
        let mut batches = Self {
            stage,
            is_wanted: is_wanted.collect(),
            sink: Sink {
                store,
                is_done: vec![false; items.len()],
                done: 0,
                answered: 0,
                cuts: CutCounts::default(),
                skipped: Vec::new(),
            },
            items,
            size,
        };
        records.into_iter().for_each(|(place, record)| batches.sink.count(place, record));
        Ok(batches)
    }

    /// Returns whether the file has all records that this process makes.
    pub(super) fn is_done(&self) -> bool {
        self.is_wanted.iter().zip(&self.sink.is_done).all(|(&is_wanted, &is_done)| is_done || !is_wanted)
    }

    /// Returns the number of records in the file when the stage is done.
    fn total(&self) -> usize {
        self.is_wanted.iter().zip(&self.sink.is_done).filter(|&(&wanted, &done)| wanted || done).count()
    }

    /// Reports the number of records in the file.
    pub(super) fn report(&self, progress: &mut dyn Progress) {
        progress.started(self.stage, self.sink.done, self.total());
        progress.advanced(self.stage, self.sink.done);
    }

    /// Calls `answer` for each batch that has a missing record.
    ///
    /// # Errors
    /// Returns the error of `answer`, or an error if the file cannot be written. Records that were
    /// written are kept.
    pub(super) fn run(
        &mut self,
        progress: &mut dyn Progress,
        mut answer: impl FnMut(&mut Batch<'a, '_>) -> Result<(), BpoError>,
    ) -> Result<(), BpoError> {
        self.report(progress);
        let total = self.total();
        let Self { stage, items, is_wanted, size, sink } = self;
        for (index, items) in items.chunks(size.get()).enumerate() {
            let first = index * size.get();
            let places = first..first + items.len();
            if places.into_iter().all(|place| sink.is_done[place] || !is_wanted[place]) {
                continue;
            }
            let answered = answer(&mut Batch { items, first, sink, progress, stage: *stage, total });
            sink.store.sync()?;
            answered?;
        }
        Ok(())
    }

    /// Removes the file with all its records.
    ///
    /// # Errors
    /// Returns an error if the file cannot be removed.
    pub(super) fn remove(self) -> Result<(), BpoError> {
        Ok(self.sink.store.remove()?)
    }

    /// Counts the records of the file, including those of earlier processes. Skipped items are in
    /// the order of the samples.
    pub(super) fn outcome(&self) -> StageOutcome {
        let Sink { answered, cuts, skipped, .. } = &self.sink;
        let mut skipped = skipped.clone();
        skipped.sort_by_key(|(place, _)| *place);
        let mut outcome =
            StageOutcome::new(*answered, skipped.into_iter().map(|(_, skipped)| skipped).collect());
        outcome.summary.cuts = cuts.clone();
        if outcome.summary.skipped.total() > 0 {
            tracing::info!(stage = %self.stage, skipped = %outcome.summary.skipped, "answers skipped");
        }
        outcome
    }
}
