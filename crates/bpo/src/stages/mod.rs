//! The stages of a run, each on its own: what the subcommands of `bpo` do, and what
//! [`run`](crate::run()) chains.
//!
//! Each stage continues its file where an earlier process left it. A record is written as soon as its
//! answer is there, in any order, under the id of its sample and the number of the answer. What is in
//! a batch depends on the samples alone, and every item has a seed of its own, so that the records do
//! not depend on how often a stage was killed or into how many [shards](Shard) it was split. [`pair()`]
//! brings the pairs into the samples' order. The stages know models and injectors by their traits only.

mod answers;
mod assemble;
mod batches;
mod inject;
mod loaded;
mod pair;
mod record;
mod shard;
#[cfg(feature = "model")]
mod train;
mod weaken;

use std::path::Path;

use bpo_pairs::{JsonlStore, Skipped};

pub use assemble::{assemble, without_answers, without_answers_in};
pub use inject::inject;
pub use pair::{Existing, pair};
pub use record::{Bootstrapped, StageRecord};
pub use shard::{Shard, ShardError};
#[cfg(feature = "model")]
pub use train::{Trained, train};
pub use weaken::weaken;

use crate::error::BpoError;
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
}

/// Whether a stage's file, which is made if it is not there, has an answer.
pub(crate) fn has_answers(path: &Path) -> Result<bool, BpoError> {
    let mut answered = false;
    JsonlStore::<StageRecord>::open_each(path, |_, record| {
        answered |= matches!(record, StageRecord::Answered(_));
        Ok::<_, BpoError>(())
    })?;
    Ok(answered)
}

/// Removes a stage's file, which holds reasons why samples were skipped, and no answer.
pub(crate) fn remove_unanswered(path: &Path) -> Result<(), BpoError> {
    Ok(JsonlStore::<StageRecord>::open(path)?.remove()?)
}
