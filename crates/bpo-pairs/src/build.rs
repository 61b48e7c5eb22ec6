//! Making records: answers for weakened images, answers with injected errors, and their assembly.
//!
//! [`weaken`] and [`inject`] go through the samples in batches and append one line per sample to their file, in the order of
//! the samples. A stage that was killed goes on from its file and leaves the same bytes as one that was not: what is in a
//! batch depends on the samples alone, and every sample has seeds of its own.

mod assemble;
mod inject;
mod stage;
mod weaken;

pub use assemble::assemble;
pub use inject::{InjectConfig, inject};
pub use stage::{Bootstrapped, Progress, Stage, StageRecord, StageSummary};
pub use weaken::{WeakenConfig, weaken};
