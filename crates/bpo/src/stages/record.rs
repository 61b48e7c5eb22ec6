//! The lines of a stage's file.

use bpo_inject::{Cut, Rejection};
use bpo_pairs::{CompletionKind, FinishReason, Keyed, Provenance, SkipReason, Skipped, is_zero};
use serde::{Deserialize, Serialize};

use crate::judge::Judgment;

/// A bootstrapped answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrapped {
    /// Id of the sample.
    pub id: String,
    /// Index of the answer among those of the sample from this stage, counted from 0.
    pub variant: usize,
    /// How the answer was made.
    pub kind: CompletionKind,
    /// The answer.
    pub response: String,
    /// The reason why generation stopped, if the model reports it.
    pub finish: Option<FinishReason>,
    /// How the image was weakened and the answer generated, or the kind of the injected error.
    pub provenance: Option<Provenance>,
    /// Kinds of text that were removed from the reply of the language model, each once.
    pub cuts: Vec<Cut>,
    /// The reasons for which earlier replies of the language model were rejected.
    pub rejected: Vec<Rejection>,
    /// What a judge found about the answer, if one was asked.
    pub judgment: Option<Box<Judgment>>,
}

/// A line of a stage's file: an answer, or the reason why there is none.
///
/// The keys are `{"id", "type", "response", "finish", "provenance", "cuts", "rejected", "judgment"}` or
/// `{"id", "type", "reason", "detail"}`, and `"variant"` if it is not 0. Skipped items have a line
/// too, so that they are counted and not requested again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub enum StageRecord {
    /// An answer.
    Answered(Bootstrapped),
    /// A skipped item.
    Skipped {
        /// The kind that the answer would have, which identifies the stage.
        kind: CompletionKind,
        /// The item, and the reason.
        skipped: Skipped,
    },
}

impl StageRecord {
    /// Returns the kind of the answer.
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

/// Both forms in one type, because serde's untagged enums do not report what is wrong with a line.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with `id`, and `response` or `detail`")]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Rejection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    judgment: Option<Box<Judgment>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<SkipReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("a line has `id`, `type` and `response`, or `id`, `type`, `reason` and `detail`")]
struct LineError;

impl TryFrom<Line> for StageRecord {
    type Error = LineError;

    fn try_from(line: Line) -> Result<Self, LineError> {
        let id = if line.id.is_empty() { return Err(LineError) } else { line.id.clone() };
        let Line { variant, finish, provenance, cuts, rejected, judgment, .. } = line;
        match (line.kind, line.response, line.reason, line.detail) {
            (Some(kind), Some(response), None, None) => Ok(Self::Answered(Bootstrapped {
                id,
                variant,
                kind,
                response,
                finish,
                provenance,
                cuts,
                rejected,
                judgment,
            })),
            (Some(kind), None, Some(reason), Some(detail))
                if finish.is_none()
                    && provenance.is_none()
                    && cuts.is_empty()
                    && rejected.is_empty()
                    && judgment.is_none() =>
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
                let Bootstrapped { id, variant, finish, provenance, cuts, rejected, judgment, .. } = answer;
                let (kind, response) = (Some(answer.kind), Some(answer.response));
                Self {
                    id,
                    variant,
                    kind,
                    response,
                    finish,
                    provenance,
                    cuts,
                    rejected,
                    judgment,
                    ..Self::default()
                }
            }
            StageRecord::Skipped { kind, skipped: Skipped { id, variant, reason, detail } } => {
                let (kind, reason, detail) = (Some(kind), Some(reason), Some(detail));
                Self { id, variant, kind, reason, detail, ..Self::default() }
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
            r#"{"id":"a","type":"llm-hal","response":"A dog.","provenance":{"error":"count"},"rejected":["empty","other_opening"]}"#,
            r#"{"id":"a","variant":3,"type":"own","response":"A dog.","judgment":{"score":4.5,"reply":"Score: 4.5"}}"#,
            r#"{"id":"a","type":"own","response":"A dog.","judgment":{"score":0.0,"claims":[{"question":"A dog?","verdict":"right"}]}}"#,
            r#"{"id":"a","variant":2,"type":"mllm-hal","reason":"request-failed","detail":"too long"}"#,
            r#"{"id":"a","type":"mllm-hal","reason":"image-missing","detail":"no image \"a.jpg\""}"#,
        ];
        for line in lines {
            let record: StageRecord = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
        }
        let bad = [
            r#"{"type":"gt","response":"A dog."}"#,
            r#"{"id":"a","response":"A dog."}"#,
            r#"{"id":"a","reason":"no-image","detail":"x"}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","detail":"x","provenance":{"distortion":"swap"}}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","reason":"no-image","detail":"x"}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","detail":"x","cuts":["note"]}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","detail":"x","rejected":["empty"]}"#,
            r#"{"id":"a","type":"gt","reason":"no-such-reason","detail":"x"}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","more":1}"#,
            r#"{"id":"a","type":"gt","response":"A dog.","judgment":{"reply":"Score: 4.5"}}"#,
            r#"{"id":"a","type":"gt","reason":"no-image","detail":"x","judgment":{"score":1}}"#,
        ];
        for line in bad {
            assert!(serde_json::from_str::<StageRecord>(line).is_err(), "{line}");
        }
    }
}
