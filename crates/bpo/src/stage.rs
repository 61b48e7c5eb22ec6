//! The stages of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Reading the annotated data.
    Data,
    /// Generating answers about weakened images: `weakened.jsonl`.
    Weaken,
    /// Scoring answers by a judge: `judged.jsonl`.
    Judge,
    /// Injecting errors into annotated answers: `injected.jsonl`.
    Inject,
    /// Making pairs of the answers: `pairs.jsonl`.
    Pair,
    /// Computing log-probabilities of the reference for a cache.
    Reference,
    /// Training: `checkpoints/`, `metrics.jsonl`, `adapter/` or `model/`.
    Train,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 7] =
        [Self::Data, Self::Weaken, Self::Judge, Self::Inject, Self::Pair, Self::Reference, Self::Train];

    /// Returns the name of the stage in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Weaken => "weaken",
            Self::Judge => "judge",
            Self::Inject => "inject",
            Self::Pair => "pair",
            Self::Reference => "reference",
            Self::Train => "train",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
