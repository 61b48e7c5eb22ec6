//! Why drafts are rejected, what is cut from them, and how often.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a rewritten answer was turned down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing is left after cleaning.
    Empty,
    /// The same words as the right answer, whatever the case, spacing, punctuation and words such as "the" or "is".
    Identical,
    /// The model declined or spoke about itself.
    Refusal,
    /// Talk about the task or the model in place of an answer.
    Commentary,
    /// Parts of the prompt came back: its instructions, its examples or the question.
    PromptEcho,
    /// Much shorter than the right answer.
    TooShort,
    /// Much longer than the right answer.
    TooLong,
    /// Cut off at the longest allowed answer, or ended at a colon or comma.
    Truncated,
    /// The right answer holds nothing that could be swapped ([`CoOccurrence`](crate::CoOccurrence) only).
    NothingToChange,
    /// Reasoning that has no end, or that no answer follows.
    Reasoning,
    /// Code fences, JSON, chat markers, or marks around changed words that cannot be cut without guessing.
    Markup,
    /// Several versions of the answer, of which one would have to be chosen.
    Alternatives,
    /// The right answer is in it as a whole: in quotes, behind a short head such as "Annotation:", before a second version or
    /// beside talk about the task.
    RepeatsAnswer,
    /// The key for the server was in it.
    Secret,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Identical => "identical to the answer",
            Self::Refusal => "a refusal",
            Self::Commentary => "talk about the task",
            Self::PromptEcho => "an echo of the prompt",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::Truncated => "cut off",
            Self::NothingToChange => "nothing to change",
            Self::Reasoning => "reasoning without an answer",
            Self::Markup => "wrapped in markup",
            Self::Alternatives => "several versions",
            Self::RepeatsAnswer => "a repetition of the answer",
            Self::Secret => "a text with the API key",
        })
    }
}

/// A kind of text that is not part of the answer and is cut from a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cut {
    /// Reasoning before the answer, as in `<think>...</think>`, also where the opening tag is missing.
    Reasoning,
    /// Chat markers such as `<|im_end|>`, and what follows them.
    ChatMarker,
    /// A Markdown code fence around the answer.
    CodeFence,
    /// A JSON object or array, a tag such as `<answer>` or `\boxed{...}` around the answer.
    Wrapper,
    /// A sentence that announces the answer, as in "Here is the changed text:".
    Preamble,
    /// The original answer before the new one, as in "Original: ... New: ...".
    Original,
    /// A label before the answer, as in "Modified response:".
    Label,
    /// Quotation marks or emphasis around the whole answer.
    Quotes,
    /// A note behind the answer, as in "Note: I changed ..." or "(Changes made: ...)".
    Note,
    /// A further example or a further turn of a chat behind the answer.
    NextExample,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reasoning => "reasoning",
            Self::ChatMarker => "chat marker",
            Self::CodeFence => "code fence",
            Self::Wrapper => "JSON or tag",
            Self::Preamble => "preamble",
            Self::Original => "original answer",
            Self::Label => "label",
            Self::Quotes => "quotation marks",
            Self::Note => "note",
            Self::NextExample => "further example",
        })
    }
}

/// How often each reason occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts<R: Ord>(BTreeMap<R, u64>);

/// How many drafts were turned down, by reason.
pub type RejectionCounts = Counts<Rejection>;

/// From how many drafts something was cut, by kind.
pub type CutCounts = Counts<Cut>;

impl<R: Ord> Default for Counts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord + Copy> Counts<R> {
    /// Counts one more.
    pub fn add(&mut self, reason: R) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// How many for this reason.
    pub fn get(&self, reason: R) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every reason that occurred, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

impl<R: Ord + Copy + fmt::Display> fmt::Display for Counts<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, count)) in self.iter().enumerate() {
            write!(f, "{}{count} {reason}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_print() {
        let mut counts = RejectionCounts::default();
        for reason in [Rejection::Refusal, Rejection::Empty, Rejection::Refusal] {
            counts.add(reason);
        }
        assert_eq!((counts.get(Rejection::Refusal), counts.total()), (2, 3));
        assert_eq!(counts.to_string(), "1 empty, 2 a refusal");
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"empty":1,"refusal":2}"#);
    }
}
