//! The stages of a run as functions. The subcommands of `bpo` call them one by one, and
//! [`run`](crate::run()) calls all of them.
//!
//! Each stage continues its [file](StageFile), which is opened, locked and read once, where an
//! earlier process stopped. A record is written as soon as its answer arrives, in any order, under
//! the id of its sample and the index of the answer. Batches depend only on the samples, and each
//! item has its own seed, so records depend neither on interruptions nor on the number of
//! [shards](Shard). [`pair()`] writes the pairs in the order of the samples. The stages use models
//! and injectors only through their traits.

mod answer_check;
mod answer_index;
mod answers;
mod assemble;
mod batches;
mod choice;
mod contrasts;
mod file;
mod inject;
mod judge;
mod missing;
mod pair;
mod pair_output;
mod record;
mod sample_images;
mod shard;
#[cfg(feature = "model")]
mod train;
mod weaken;

use bpo_pairs::{SkipReason, Skipped};

pub use answer_index::AnswerIndex;
pub use assemble::{assemble, without_answers};
pub(crate) use choice::check_truth;
pub use contrasts::check_contrasts;
pub use file::{StageAnswers, StageFile};
pub(crate) use inject::copy_answers;
pub use inject::inject;
pub use judge::{grade, judge, read_grades};
pub use pair::{ExistingPairs, PairFiles, TokenCheck, pair, pair_files};
pub use record::{Bootstrapped, StageRecord};
pub use shard::{Shard, ShardError};
#[cfg(feature = "model")]
pub use train::{Trained, train};
pub use weaken::weaken;
pub(crate) use weaken::weakening_seed;

use crate::error::BpoError;
use crate::stage::Stage;
use crate::summary::StageSummary;

/// The counts and the skipped items of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageOutcome {
    /// The counts.
    pub summary: StageSummary,
    /// The skipped items.
    pub skipped: Vec<Skipped>,
}

impl StageOutcome {
    /// Creates the outcome of `done` items and the skipped items.
    pub fn new(done: usize, skipped: Vec<Skipped>) -> Self {
        Self { summary: StageSummary::new(done, &skipped), skipped }
    }

    /// Adds skipped items.
    pub fn add(&mut self, skipped: Vec<Skipped>) {
        skipped.iter().for_each(|skipped| self.summary.skipped.add(skipped.reason));
        self.skipped.extend(skipped);
    }

    /// Returns the error of a stage in which the model refused all requests, for example because the
    /// server does not know it.
    fn nothing_answered(&self, stage: Stage) -> Option<BpoError> {
        let is_refused = |skipped: &&Skipped| is_refused(skipped.reason);
        let is_unasked =
            |skipped: &Skipped| skipped.reason.is_of_image() || skipped.reason == SkipReason::NoImage;
        let first = self.skipped.iter().find(is_refused)?;
        let all = self.skipped.iter().all(|skipped| is_refused(&skipped) || is_unasked(skipped));
        (all && self.summary.done == 0).then(|| BpoError::NothingAnswered {
            stage,
            reason: first.detail.clone(),
            skipped: self.summary.skipped.clone(),
        })
    }
}

/// Returns whether an answer was skipped because a model refused its request, or because its reply cannot be
/// read.
fn is_refused(reason: SkipReason) -> bool {
    use SkipReason::{JudgeFailed, JudgeUnclear, NoText, RequestFailed};
    matches!(reason, RequestFailed | NoText | JudgeFailed | JudgeUnclear)
}
