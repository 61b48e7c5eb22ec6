//! A line of a stage's file.

use bpo_inject::Cut;
use bpo_pairs::{CompletionKind, FinishReason, Keyed, Provenance, SkipReason, Skipped};
use serde::{Deserialize, Serialize};

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

/// A line of a stage's file: `{"id", "type", "response", "finish", "provenance", "cuts"}` or
/// `{"id", "type", "reason", "skipped"}`; with `"variant"`, where it is not a sample's first.
///
/// An item without an answer has its line too, so that it is counted, and not asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum StageRecord {
    /// There is an answer.
    Answered(Bootstrapped),
    /// There is none.
    Skipped {
        /// The kind that the answer would have, by which one knows the stage.
        kind: CompletionKind,
        /// Which answer, and why there is none.
        skipped: Skipped,
    },
}

impl StageRecord {
    /// The kind of the answer.
    pub fn kind(&self) -> &CompletionKind {
        match self {
            Self::Answered(answer) => &answer.kind,
            Self::Skipped { kind, .. } => kind,
        }
    }
}

impl Keyed for StageRecord {
    fn id(&self) -> &str {
        match self {
            Self::Answered(answer) => &answer.id,
            Self::Skipped { skipped, .. } => &skipped.id,
        }
    }

    fn variant(&self) -> usize {
        match self {
            Self::Answered(answer) => answer.variant,
            Self::Skipped { skipped, .. } => skipped.variant,
        }
    }
}

/// Whether a number is left out of a file.
fn is_zero(number: &usize) -> bool {
    *number == 0
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
#[error("a line has `id`, `type` and `response`, or `id`, `type`, `reason` and `skipped`")]
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
            (Some(kind), None, Some(reason), Some(detail))
                if finish.is_none() && provenance.is_none() && cuts.is_empty() =>
            {
                Ok(Self::Skipped { kind, skipped: Skipped { id, variant, reason, detail } })
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
            StageRecord::Skipped { kind, skipped: Skipped { id, variant, reason, detail } } => {
                let (kind, reason, skipped) = (Some(kind), Some(reason), Some(detail));
                Self { id, variant, kind, reason, skipped, ..Self::default() }
            }
        }
    }
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
            r#"{"id":"a","variant":2,"type":"mllm-hal","reason":"request-failed","skipped":"too long"}"#,
            r#"{"id":"a","type":"mllm-hal","reason":"image-missing","skipped":"no image \"a.jpg\""}"#,
        ];
        for line in lines {
            let record: StageRecord = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
        let bad = [
            r#"{"type":"gt","response":"A dog."}"#,
            r#"{"id":"a","response":"A dog."}"#,
            r#"{"id":"a","reason":"no-image","skipped":"x"}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","skipped":"x","provenance":{"distortion":"swap"}}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","reason":"no-image","skipped":"x"}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","skipped":"x","cuts":["note"]}"#,
            r#"{"id":"a","type":"gt","reason":"no-such-reason","skipped":"x"}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","more":1}"#,
        ];
        for line in bad {
            assert!(serde_json::from_str::<StageRecord>(line).is_err(), "{line}");
        }
    }
}
