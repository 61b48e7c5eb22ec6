//! What the stages have in common: their files and the way through the samples.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;

use bpo_inject::{Cut, FinishReason};
use serde::{Deserialize, Serialize};

use crate::error::PairsError;
use crate::provenance::Provenance;
use crate::record::CompletionKind;
use crate::sft::SftSample;
use crate::skipped::{SkipCounts, SkipReason, Skipped, is_zero};
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
    /// Answers with a line in its file, those of earlier runs included.
    pub done: usize,
    /// All answers.
    pub total: usize,
}

/// A bootstrapped answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrapped {
    /// Id of the sample.
    pub id: String,
    /// Which of its answers from this stage, from 0.
    pub variant: usize,
    /// How the answer was made.
    pub kind: CompletionKind,
    /// The answer.
    pub response: String,
    /// Why it ended, where a model tells.
    pub finish: Option<FinishReason>,
    /// How it was got, where the image was weakened.
    pub provenance: Option<Provenance>,
    /// What was cut from the text model's reply, each kind once.
    pub cuts: Vec<Cut>,
}

/// A line of a stage's file: `{"id", "type", "response", "finish", "provenance", "cuts"}` or `{"id", "reason", "skipped"}`; with
/// `"variant"`, where it is not a sample's first.
///
/// An answer that cannot be had has its line too, so that it is counted, and not tried again at every start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum StageRecord {
    /// There is an answer.
    Answered(Bootstrapped),
    /// There can be none.
    Skipped(Skipped),
}

impl Keyed for StageRecord {
    fn key(&self) -> Cow<'_, str> {
        match self {
            Self::Answered(answer) => key(&answer.id, answer.variant),
            Self::Skipped(skipped) => key(&skipped.id, skipped.variant),
        }
    }
}

/// An answer's name: that of its sample for the first one, and for others with a number behind a character that no name has.
pub(super) fn key(id: &str, variant: usize) -> Cow<'_, str> {
    if variant == 0 { Cow::Borrowed(id) } else { Cow::Owned(format!("{id}\0{variant}")) }
}

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

/// Both forms in one, since serde's untagged enums cannot say what is wrong with a line.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with `id`, and `response` or `skipped`")]
struct Line {
    id: String,
    #[serde(skip_serializing_if = "is_zero")]
    variant: usize,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<CompletionKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: Option<FinishReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Provenance>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cuts: Vec<Cut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<SkipReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("a line has `id`, `type` and `response`, or `id`, `reason` and `skipped`")]
struct LineError;

impl TryFrom<Line> for StageRecord {
    type Error = LineError;

    fn try_from(line: Line) -> Result<Self, LineError> {
        let id = if line.id.is_empty() { return Err(LineError) } else { line.id.clone() };
        let Line { variant, finish, provenance, cuts, .. } = line;
        match (line.kind, line.response, line.reason, line.skipped) {
            (Some(kind), Some(response), None, None) => {
                Ok(Self::Answered(Bootstrapped { id, variant, kind, response, finish, provenance, cuts }))
            }
            (None, None, Some(reason), Some(detail))
                if finish.is_none() && provenance.is_none() && cuts.is_empty() =>
            {
                Ok(Self::Skipped(Skipped { id, variant, reason, detail }))
            }
            _ => Err(LineError),
        }
    }
}

impl From<StageRecord> for Line {
    fn from(record: StageRecord) -> Self {
        match record {
            StageRecord::Answered(answer) => {
                let Bootstrapped { id, variant, kind, response, finish, provenance, cuts } = answer;
                let (kind, response) = (Some(kind), Some(response));
                Self { id, variant, kind, response, finish, provenance, cuts, ..Self::default() }
            }
            StageRecord::Skipped(Skipped { id, variant, reason, detail }) => {
                Self { id, variant, reason: Some(reason), skipped: Some(detail), ..Self::default() }
            }
        }
    }
}

/// What a stage's file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `answered` and `skipped`")]
pub struct StageSummary {
    /// Answers.
    pub answered: usize,
    /// Answers that cannot be had, by reason.
    pub skipped: SkipCounts,
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
                StageRecord::Skipped(skipped) => summary.skipped.add(skipped.reason),
            }
        }
        Ok(summary)
    }
}

/// What becomes of each item of a batch, in order. The outer error stops the stage before any line is written, an inner
/// one after the lines before it.
pub(super) type BatchRecords = Result<Vec<Result<StageRecord, PairsError>>, PairsError>;

/// Goes through the samples, with `variants` answers of each, and appends what `answer` gives to `store`.
///
/// Items are the answers of the first sample, then those of the second, and so on; batch `i` is `items[i * size..(i + 1) * size]`
/// whatever is done already. One that is done in part is answered again as a whole, and only what is missing is written.
pub(super) fn run(
    stage: Stage,
    samples: &[SftSample],
    variants: NonZeroUsize,
    size: NonZeroUsize,
    store: &mut JsonlStore<StageRecord>,
    progress: &mut dyn FnMut(Progress),
    mut answer: impl FnMut(&[Item<'_>]) -> BatchRecords,
) -> Result<StageSummary, PairsError> {
    let of = |sample| (0..variants.get()).map(move |variant| Item { sample, variant });
    let items: Vec<Item<'_>> = samples.iter().flat_map(of).collect();
    check_order(&items, store)?;
    let total = items.len();
    progress(Progress { stage, done: store.len(), total });
    for (index, batch) in items.chunks(size.get()).enumerate() {
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
    if summary.skipped.total() > 0 {
        tracing::info!(%stage, skipped = %summary.skipped, "answers that cannot be had");
    }
    Ok(summary)
}

/// The file holds the records of the first items, in order.
fn check_order(items: &[Item<'_>], store: &JsonlStore<StageRecord>) -> Result<(), PairsError> {
    for (index, found) in store.keys().iter().enumerate() {
        let expected = items.get(index).map_or_else(String::new, |item| item.key().into_owned());
        if expected != *found {
            let (path, line) = (store.path().to_owned(), index + 1);
            return Err(PairsError::OutOfOrder { path, line, expected, found: found.clone() });
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
            r#"{"id":"a","variant":1,"type":"mllm-hal","response":"A dog.","provenance":{"distortion":"no-image","prefix_words":3}}"#,
            r#"{"id":"a","type":"llm-hal","response":"A dog.","cuts":["reasoning","note"]}"#,
            r#"{"id":"a","variant":2,"reason":"request-failed","skipped":"too long"}"#,
            r#"{"id":"a","reason":"image-missing","skipped":"no image \"a.jpg\""}"#,
        ];
        for line in lines {
            let record: StageRecord = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
        let bad = [
            r#"{"type":"gt","response":"A dog."}"#,
            r#"{"id":"a","response":"A dog."}"#,
            r#"{"id":"a","reason":"no-image","skipped":"x","provenance":{"distortion":"swap"}}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","reason":"no-image","skipped":"x"}"#,
            r#"{"id":"a","reason":"no-image","skipped":"x","cuts":["note"]}"#,
            r#"{"id":"a","reason":"no-such-reason","skipped":"x"}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","more":1}"#,
        ];
        for line in bad {
            assert!(serde_json::from_str::<StageRecord>(line).is_err(), "{line}");
        }
    }
}
