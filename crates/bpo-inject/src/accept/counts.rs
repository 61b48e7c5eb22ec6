//! Reasons for rejections, kinds of removed text, and their counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason why a draft was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing is left after removing the parts that do not belong to the answer.
    Empty,
    /// The same words as the right answer, up to case, spacing, punctuation and words such as
    /// "the".
    Identical,
    /// A refusal, or a statement of the model about itself.
    Refusal,
    /// Text about the task or the model instead of an answer.
    Commentary,
    /// A part of the prompt: its instructions, its examples or the question.
    PromptEcho,
    /// Much shorter than the right answer.
    TooShort,
    /// Much longer than the right answer.
    TooLong,
    /// Ended by the limit of tokens, or at a colon or comma.
    Truncated,
    /// No word of the right answer can be swapped ([`CoOccurrence`](crate::CoOccurrence) only).
    NothingToChange,
    /// Reasoning without an end, or without an answer after it.
    Reasoning,
    /// Code fences, JSON, chat markers, or marks around changed words.
    Markup,
    /// Several versions of the answer.
    Alternatives,
    /// The whole right answer: in quotes, after a short head such as "I can see that", before a
    /// second version, or beside text about the task.
    RepeatsAnswer,
    /// A text with the API key of the server.
    Secret,
    /// More changed words than [`StyleRules`](crate::StyleRules) allow.
    ChangesTooMuch,
    /// Fewer changed words than [`StyleRules`](crate::StyleRules) need.
    ChangesTooLittle,
    /// More or fewer words than [`StyleRules`](crate::StyleRules) allow.
    OtherLength,
    /// Other first words than [`StyleRules`](crate::StyleRules) allow.
    OtherOpening,
    /// Not the requested kind of error; see [`ErrorKind::is_in`](crate::ErrorKind::is_in).
    OtherKind,
    /// No kind of error with a weight fits the right answer. There was no draft.
    NoKindFits,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Identical => "identical to the answer",
            Self::Refusal => "refusal",
            Self::Commentary => "text about the task",
            Self::PromptEcho => "echo of the prompt",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::Truncated => "cut off",
            Self::NothingToChange => "nothing to change",
            Self::Reasoning => "reasoning without an answer",
            Self::Markup => "wrapped in markup",
            Self::Alternatives => "several versions",
            Self::RepeatsAnswer => "repetition of the answer",
            Self::Secret => "text with the API key",
            Self::ChangesTooMuch => "too many changed words",
            Self::ChangesTooLittle => "too few changed words",
            Self::OtherLength => "another number of words",
            Self::OtherOpening => "another opening",
            Self::OtherKind => "another kind of error",
            Self::NoKindFits => "no kind of error fits",
        })
    }
}

/// A kind of text that does not belong to the answer and is removed from a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cut {
    /// Reasoning before the answer, as in `<think>...</think>`, also without the opening tag.
    Reasoning,
    /// Chat markers such as `<|im_end|>`, and the text after them.
    ChatMarker,
    /// A Markdown code fence around the answer.
    CodeFence,
    /// A JSON object or array, a tag such as `<answer>` or `\boxed{...}` around the answer.
    Wrapper,
    /// A sentence before the answer, as in "Here is the changed text:" or "Hello!".
    Preamble,
    /// The original answer before the new one, as in "Original: ... New: ...".
    Original,
    /// A label before the answer, as in "Modified response:" or "Annotation:".
    Label,
    /// Quotation marks or emphasis around the whole answer.
    Quotes,
    /// A note after the answer, as in "Note: I changed ..." or "That is correct.".
    Note,
    /// Another example or another turn of a chat after the answer.
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

/// Number of drafts by reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts<R: Ord>(BTreeMap<R, u64>);

/// Number of rejected drafts, by reason.
pub type RejectionCounts = Counts<Rejection>;

/// Number of drafts from which text was removed, by kind.
pub type CutCounts = Counts<Cut>;

impl<R: Ord> Default for Counts<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: Ord + Copy> Counts<R> {
    /// Adds one draft.
    pub fn add(&mut self, reason: R) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Returns the number for one reason.
    pub fn get(&self, reason: R) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Returns the sum over all reasons.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the reasons with a count above 0.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }
}

impl<R: Ord + Copy + fmt::Display> fmt::Display for Counts<R> {
    /// Writes `empty: 1, refusal: 2`, or nothing if all counts are zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, count)) in self.iter().enumerate() {
            write!(f, "{}{reason}: {count}", if i == 0 { "" } else { ", " })?;
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
        assert_eq!(counts.to_string(), "empty: 1, refusal: 2");
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"empty":1,"refusal":2}"#);
    }
}
