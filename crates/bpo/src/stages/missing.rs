//! The items of a stage that have no record, one after another, and their records.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bpo_pairs::UsageMeter;

use super::batches::{Item, Records};
use super::record::StageRecord;
use crate::error::BpoError;

/// Maximum time after which written records are on disk, not only in the cache of the system, and
/// the counts of requests are reported.
const EVERY: Duration = Duration::from_secs(1);

/// Hands out the items that have no record, and writes each record as soon as it exists.
pub(super) struct Missing<'a, 'b> {
    items: &'b [Item<'a>],
    is_wanted: &'b [bool],
    records: Records<'b>,
    usage: Option<UsageMeter>,
    /// Number of records before.
    before: usize,
    /// Index of the next item to look at.
    next: usize,
    /// The index of the item of each request that awaits an answer, by the number of the request.
    asked: HashMap<usize, usize>,
    requests: usize,
    answers: usize,
    error: Option<BpoError>,
    synced: Instant,
}

impl<'a, 'b> Missing<'a, 'b> {
    /// Takes all items of a stage. `is_wanted` tells which of them this process answers, and `usage`
    /// counts the requests to a server.
    pub(super) fn new(
        items: &'b [Item<'a>],
        is_wanted: &'b [bool],
        records: Records<'b>,
        usage: Option<UsageMeter>,
    ) -> Self {
        Self {
            items,
            is_wanted,
            before: records.done.count,
            records,
            usage,
            next: 0,
            asked: HashMap::new(),
            requests: 0,
            answers: 0,
            error: None,
            synced: Instant::now(),
        }
    }

    /// Returns the next item without a record, or `None` after the last one or an error.
    pub(super) fn next_item(&mut self) -> Option<(usize, Item<'a>)> {
        if self.error.is_some() {
            return None;
        }
        while let Some(&item) = self.items.get(self.next) {
            let place = self.next;
            self.next += 1;
            if self.is_wanted[place] && !self.records.done.is_done[place] {
                return Some((place, item));
            }
        }
        None
    }

    /// Records that an item is requested. Requests are numbered from 0 in the order of these calls.
    pub(super) fn request(&mut self, place: usize) {
        self.asked.insert(self.requests, place);
        self.requests += 1;
    }

    /// Receives the answer to a request, and writes the record that `record` makes for its item.
    /// After the first error it asks for no further requests, but answers that still arrive are
    /// stored.
    pub(super) fn receive(
        &mut self,
        number: usize,
        record: impl FnOnce(usize, Item<'a>) -> Result<StageRecord, BpoError>,
    ) -> ControlFlow<()> {
        self.answers += 1;
        // finish() reports the answers to no request
        if let Some(place) = self.asked.remove(&number) {
            match record(place, self.items[place]) {
                Ok(record) => return self.write(place, record),
                Err(error) => return self.fail(error),
            }
        }
        self.flow()
    }

    /// Writes the record of an item.
    pub(super) fn write(&mut self, place: usize, record: StageRecord) -> ControlFlow<()> {
        if let Err(error) = self.append(place, record) {
            return self.fail(error);
        }
        self.flow()
    }

    fn append(&mut self, place: usize, record: StageRecord) -> Result<(), BpoError> {
        self.records.append(place, record)?;
        if self.synced.elapsed() >= EVERY {
            self.records.file.sync()?;
            self.report();
            self.synced = Instant::now();
        }
        Ok(())
    }

    /// Keeps the first error, which ends the stage.
    pub(super) fn fail(&mut self, error: BpoError) -> ControlFlow<()> {
        self.error.get_or_insert(error);
        ControlFlow::Break(())
    }

    fn flow(&self) -> ControlFlow<()> {
        if self.error.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Reports the counts of the requests to a server.
    fn report(&mut self) {
        if let Some(usage) = &self.usage {
            let Records { stage, done, total, progress, .. } = &mut self.records;
            let left = total.saturating_sub(done.count);
            progress.requested(*stage, &usage.read(), done.count - self.before, left);
        }
    }

    /// Checks that each item was answered once.
    pub(super) fn finish(mut self) -> Result<(), BpoError> {
        self.report();
        self.records.file.sync()?;
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let is_complete =
            self.asked.is_empty() && self.answers == self.requests && self.next_item().is_none();
        if is_complete {
            return Ok(());
        }
        let (requests, answers) = (self.requests, self.answers);
        Err(BpoError::AnswerCount { stage: self.records.stage.as_str(), requests, answers })
    }
}
