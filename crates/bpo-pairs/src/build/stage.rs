//! What the stages have in common: their files and the way through the samples.

use std::fmt;
use std::num::NonZeroUsize;

use bpo_inject::FinishReason;
use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::record::CompletionKind;
use crate::set_aside::{Reason, ReasonCounts, SetAside};
use crate::sft::SftSample;
use crate::store::{JsonlStore, Keyed};

/// A step in the making of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The model answers for weakened images.
    Weaken,
    /// Errors are injected into annotated answers.
    Inject,
}

impl Stage {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weaken => "weaken",
            Self::Inject => "inject",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Which stage.
    pub stage: Stage,
    /// Samples with a line in its file, those of earlier runs included.
    pub done: usize,
    /// All samples.
    pub total: usize,
}

/// A bootstrapped answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrapped {
    /// Id of the sample.
    pub id: String,
    /// How the answer was made.
    pub kind: CompletionKind,
    /// The answer.
    pub response: String,
    /// Why it ended, where a model tells.
    pub finish: Option<FinishReason>,
}

/// A line of a stage's file: `{"id", "type", "response", "finish"}` or `{"id", "reason", "set_aside"}`.
///
/// A sample that is set aside has its line too, so that it is counted, and not tried again at every start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum StageRecord {
    /// The sample has an answer.
    Answered(Bootstrapped),
    /// The sample can have none.
    SetAside(SetAside),
}

impl Keyed for StageRecord {
    fn key(&self) -> &str {
        match self {
            Self::Answered(answer) => &answer.id,
            Self::SetAside(aside) => &aside.id,
        }
    }
}

/// Both forms in one, since serde's untagged enums cannot say what is wrong with a line.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Line {
    id: String,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<CompletionKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("a line has `id`, `type` and `response`, or `id`, `reason` and `set_aside`")]
struct LineError;

impl TryFrom<Line> for StageRecord {
    type Error = LineError;

    fn try_from(line: Line) -> Result<Self, LineError> {
        let id = if line.id.is_empty() { return Err(LineError) } else { line.id };
        match (line.kind, line.response, line.finish, line.reason, line.set_aside) {
            (Some(kind), Some(response), finish, None, None) => {
                Ok(Self::Answered(Bootstrapped { id, kind, response, finish }))
            }
            (None, None, None, Some(reason), Some(detail)) => {
                Ok(Self::SetAside(SetAside { id, reason, detail }))
            }
            _ => Err(LineError),
        }
    }
}

impl From<StageRecord> for Line {
    fn from(record: StageRecord) -> Self {
        match record {
            StageRecord::Answered(Bootstrapped { id, kind, response, finish }) => {
                Self { id, kind: Some(kind), response: Some(response), finish, ..Self::default() }
            }
            StageRecord::SetAside(SetAside { id, reason, detail }) => {
                Self { id, reason: Some(reason), set_aside: Some(detail), ..Self::default() }
            }
        }
    }
}

/// What a stage's file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSummary {
    /// Samples with an answer.
    pub answered: usize,
    /// Samples without, by reason.
    pub set_aside: ReasonCounts,
}

impl StageSummary {
    /// Counts the records of a file, those of earlier runs included.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of(store: &JsonlStore<StageRecord>) -> Result<Self, PairsError> {
        let mut summary = Self::default();
        for record in store.records()? {
            match record? {
                StageRecord::Answered(_) => summary.answered += 1,
                StageRecord::SetAside(aside) => summary.set_aside.add(aside.reason),
            }
        }
        Ok(summary)
    }
}

/// What becomes of each sample of a batch, in order. The outer error stops the stage before any line is written, an inner
/// one after the lines before it.
pub(super) type BatchRecords = Result<Vec<Result<StageRecord, PairsError>>, PairsError>;

/// Goes through the samples and appends what `answer` gives to `store`.
///
/// Batch `i` is `samples[i * size..(i + 1) * size]` whatever is done already. One that is done in part is answered again as
/// a whole, and only what is missing is written.
pub(super) fn run(
    stage: Stage,
    samples: &[SftSample],
    size: NonZeroUsize,
    store: &mut JsonlStore<StageRecord>,
    progress: &mut dyn FnMut(Progress),
    mut answer: impl FnMut(&[SftSample]) -> BatchRecords,
) -> Result<StageSummary, PairsError> {
    check_order(samples, store)?;
    let total = samples.len();
    progress(Progress { stage, done: store.len(), total });
    for (index, batch) in samples.chunks(size.get()).enumerate() {
        let done = store.len().saturating_sub(index * size.get()).min(batch.len());
        if done == batch.len() {
            continue;
        }
        let records = answer(batch)?;
        let appended = records.into_iter().skip(done).try_for_each(|record| store.append(&record?));
        store.sync()?;
        progress(Progress { stage, done: store.len(), total });
        appended?;
    }
    let summary = StageSummary::of(store)?;
    if summary.set_aside.total() > 0 {
        tracing::info!(%stage, set_aside = %summary.set_aside, "samples without an answer");
    }
    Ok(summary)
}

/// The file holds the records of the first samples, in order.
fn check_order(samples: &[SftSample], store: &JsonlStore<StageRecord>) -> Result<(), PairsError> {
    for (index, found) in store.keys().iter().enumerate() {
        let expected = samples.get(index).map_or("", |sample| sample.id.as_str());
        if expected != found {
            return Err(PairsError::OutOfOrder {
                path: store.path().to_owned(),
                line: index + 1,
                expected: expected.to_owned(),
                found: found.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_one_of_two_forms() {
        let lines = [
            r#"{"id":"a","type":"mllm-hal","response":"A dog.","finish":"stop"}"#,
            r#"{"id":"a","type":"llm-hal","response":""}"#,
            r#"{"id":"a","reason":"image-missing","set_aside":"no image \"a.jpg\""}"#,
        ];
        for line in lines {
            let record: StageRecord = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
        let bad = [
            r#"{"type":"gt","response":"A dog."}"#,
            r#"{"id":"a","response":"A dog."}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","reason":"no-image","set_aside":"x"}"#,
            r#"{"id":"a","reason":"no-such-reason","set_aside":"x"}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","more":1}"#,
        ];
        for line in bad {
            assert!(serde_json::from_str::<StageRecord>(line).is_err(), "{line}");
        }
    }
}
