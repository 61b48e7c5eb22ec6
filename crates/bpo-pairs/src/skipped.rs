//! Skipped items, the reasons for which they are skipped, and counts of the reasons.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::OverLimit;

/// The reason for which a sample, an answer or a pair is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// A key of the record is missing or has a value of the wrong type.
    Malformed,
    /// A text or list of the record exceeds its limit in [`Limits`](crate::Limits).
    OverLimit,
    /// The sample has no image that could be weakened.
    NoImage,
    /// The image is given as bytes or as a URL instead of a path.
    ImageNotAPath,
    /// The sample has video or audio.
    OtherMedia,
    /// The conversation has no turns.
    NoTurns,
    /// The turns do not alternate between user and assistant, starting with the user.
    TurnOrder,
    /// A turn has a role other than user, assistant or system.
    UnknownRole,
    /// A conversation has another number of image tokens than images, or one in an answer.
    ImageToken,
    /// A text has another model's placeholder for an image, a video or a sound.
    OtherPlaceholder,
    /// The question has no text besides the image token.
    EmptyPrompt,
    /// An answer has no text.
    EmptyAnswer,
    /// An earlier turn of the conversation has no question or no answer.
    BrokenHistory,
    /// An answer exceeds the maximum number of words.
    TooLong,
    /// Both answers of a pair are equal.
    Identical,
    /// An earlier pair of the record has the same kind and the same answers.
    Repeated,
    /// An earlier pair of the same prompt has answers with other text but the same tokens.
    SameTokens,
    /// The record has one answer, and none that it is preferred to.
    NoRejected,
    /// No answer of the record has a higher score than another.
    NoPreference,
    /// The format of the output has no place for a value of the record.
    NotInFormat,
    /// The sample is not in the subset of its source.
    OutsideSubset,
    /// The rule for pairs keeps another pair of the sample.
    NotSelected,
    /// The sample has more pairs than allowed.
    OverCap,
    /// The rejected answer is similar to that of an earlier pair of the sample.
    NearDuplicate,
    /// The answer about a weakened image reached its maximum length.
    WeakenedCut,
    /// The model declined to answer about a weakened image.
    WeakenedRefusal,
    /// The model's answer, which could be the chosen one, reached its maximum length.
    OwnCut,
    /// The model declined to give an answer, which could be the chosen one.
    OwnRefusal,
    /// There is no own answer of the model, which would be the chosen one.
    NoOwnAnswer,
    /// The annotated answer has too few sentences for its last ones to be cut off.
    TooFewSentences,
    /// The model added nothing to the given start of the answer.
    NoContinuation,
    /// The judge could not judge the answer, for example because it exceeds its context.
    JudgeFailed,
    /// The reply of the judge has no score, no claims or no verdict.
    JudgeUnclear,
    /// The image's path leads outside the image root.
    ImageOutside,
    /// The image file does not exist.
    ImageMissing,
    /// The image exceeds a limit on size, scans or decoding time.
    ImageTooLarge,
    /// The image cannot be decoded.
    ImageUnreadable,
    /// The name of the output file is taken or is not valid on the file system.
    OutputName,
    /// The model could not answer, for example because the question exceeds its context.
    RequestFailed,
    /// The answer of a server has no text.
    NoText,
    /// The model cannot process the pair, for example because it exceeds the context.
    PairRefused,
    /// The loss compares the images of a pair with other ones, and the pair has none.
    NoContrast,
    /// The rewritten answer is empty.
    RewriteEmpty,
    /// The rewritten answer equals the annotated one.
    RewriteIdentical,
    /// The text model declined to rewrite the answer.
    RewriteRefused,
    /// The rewritten answer repeats its instructions.
    RewriteEcho,
    /// The rewritten answer is much shorter than the annotated one.
    RewriteTooShort,
    /// The rewritten answer is much longer than the annotated one.
    RewriteTooLong,
    /// The rewritten answer is cut off.
    RewriteCutOff,
    /// The rewritten answer comments on the task.
    RewriteCommentary,
    /// The text model's reasoning does not end, or no answer follows it.
    RewriteReasoning,
    /// The rewritten answer is wrapped in code fences, JSON or chat markers.
    RewriteMarkup,
    /// The text model gave several versions of the answer.
    RewriteAlternatives,
    /// The rewritten answer repeats the annotated one with commentary, quotation marks or a second
    /// version.
    RewriteRepeatsAnswer,
    /// The reply of the text model's server contains the API key.
    RewriteSecret,
    /// The rewritten answer changes too many words of the annotated one.
    RewriteChangesTooMuch,
    /// The rewritten answer changes too few words of the annotated one.
    RewriteChangesTooLittle,
    /// The rewritten answer has another number of words than the annotated one.
    RewriteOtherLength,
    /// The rewritten answer does not begin like the annotated one.
    RewriteOtherOpening,
    /// The rewritten answer does not have the requested kind of error.
    RewriteOtherKind,
    /// No requested kind of error fits the annotated answer.
    NoKindFits,
    /// The annotated answer has no content that could be made wrong.
    NothingToChange,
    /// The rewritten answer was rejected for another reason.
    RewriteRejected,
}

impl SkipReason {
    /// Returns whether the reason concerns the image file.
    pub fn is_of_image(self) -> bool {
        matches!(self, Self::ImageOutside | Self::ImageMissing | Self::ImageTooLarge | Self::ImageUnreadable)
    }

    /// Returns whether the same answer may be possible later, although data and settings stay the
    /// same: an image file can be added or mended, and a server can accept a request that it refused, or
    /// send text where it sent none.
    /// A rejected rewrite is not such a reason, because the same seeds give the same replies.
    pub fn may_change(self) -> bool {
        self.is_of_image() || matches!(self, Self::RequestFailed | Self::NoText | Self::JudgeFailed)
    }

    /// Returns the description of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "record not of the expected form",
            Self::OverLimit => "record over a size limit",
            Self::NoImage => "no image",
            Self::ImageNotAPath => "image not given as a path",
            Self::OtherMedia => "video or audio",
            Self::NoTurns => "no conversation",
            Self::TurnOrder => "turns out of order",
            Self::UnknownRole => "turn of an unknown role",
            Self::ImageToken => "image token repeated or misplaced",
            Self::OtherPlaceholder => "placeholder of another model",
            Self::EmptyPrompt => "empty question",
            Self::EmptyAnswer => "empty answer",
            Self::BrokenHistory => "incomplete earlier turn",
            Self::TooLong => "answer too long",
            Self::Identical => "identical answers",
            Self::Repeated => "same answers as an earlier pair",
            Self::SameTokens => "same tokens as an earlier pair",
            Self::NoRejected => "no rejected answer",
            Self::NoPreference => "no answer has a higher score than another",
            Self::NotInFormat => "not possible in the format of the output",
            Self::OutsideSubset => "outside the subset of its source",
            Self::NotSelected => "another pair of the sample kept",
            Self::OverCap => "more pairs of the sample than allowed",
            Self::NearDuplicate => "rejected answer similar to an earlier one",
            Self::WeakenedCut => "weakened answer cut off",
            Self::WeakenedRefusal => "weakened answer declines to answer",
            Self::OwnCut => "own answer cut off",
            Self::OwnRefusal => "own answer declines to answer",
            Self::NoOwnAnswer => "no own answer of the model",
            Self::TooFewSentences => "too few sentences to cut off the last ones",
            Self::NoContinuation => "start of the answer not continued",
            Self::JudgeFailed => "judge could not answer",
            Self::JudgeUnclear => "reply of the judge unclear",
            Self::ImageOutside => "image outside the image root",
            Self::ImageMissing => "image missing",
            Self::ImageTooLarge => "image too large",
            Self::ImageUnreadable => "image unreadable",
            Self::OutputName => "no name for the output file",
            Self::RequestFailed => "model could not answer",
            Self::NoText => "answer without text",
            Self::PairRefused => "model cannot take the pair",
            Self::NoContrast => "pair without other images",
            Self::RewriteEmpty => "rewritten answer empty",
            Self::RewriteIdentical => "rewritten answer unchanged",
            Self::RewriteRefused => "rewriting refused",
            Self::RewriteEcho => "rewritten answer repeats its instructions",
            Self::RewriteTooShort => "rewritten answer too short",
            Self::RewriteTooLong => "rewritten answer too long",
            Self::RewriteCutOff => "rewritten answer cut off",
            Self::RewriteCommentary => "rewritten answer is about the task",
            Self::RewriteReasoning => "reasoning without a rewritten answer",
            Self::RewriteMarkup => "rewritten answer wrapped in markup",
            Self::RewriteAlternatives => "several rewritten answers",
            Self::RewriteRepeatsAnswer => "rewritten answer repeats the annotated one",
            Self::RewriteSecret => "rewritten answer has the API key",
            Self::RewriteChangesTooMuch => "rewritten answer changes too many words",
            Self::RewriteChangesTooLittle => "rewritten answer changes too few words",
            Self::RewriteOtherLength => "rewritten answer of another length",
            Self::RewriteOtherOpening => "rewritten answer begins in another way",
            Self::RewriteOtherKind => "rewritten answer without the requested kind of error",
            Self::NoKindFits => "no requested kind of error fits the answer",
            Self::NothingToChange => "nothing to make wrong in the answer",
            Self::RewriteRejected => "rewritten answer not accepted",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reason why an item is skipped, before its id is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkipCause {
    /// The reason, for counting.
    pub reason: SkipReason,
    /// The reason and the specifics of this case, for display.
    pub detail: String,
}

impl SkipCause {
    /// Creates a cause whose detail is the reason followed by `particulars`: the key, the value and
    /// what was expected.
    pub fn new(reason: SkipReason, particulars: impl fmt::Display) -> Self {
        Self { reason, detail: format!("{reason}: {particulars}") }
    }

    /// Appends the number of the record, from 1, to the detail.
    #[must_use]
    pub fn in_record(mut self, number: usize) -> Self {
        self.detail.push_str(&format!(" (record {number})"));
        self
    }

    /// Converts the cause into a skipped item with an id.
    pub fn of(self, id: impl Into<String>) -> Skipped {
        Skipped::new(id, self.reason).with_detail(self.detail)
    }
}

impl From<OverLimit> for SkipCause {
    fn from(error: OverLimit) -> Self {
        Self::new(SkipReason::OverLimit, error)
    }
}

impl From<SkipReason> for SkipCause {
    fn from(reason: SkipReason) -> Self {
        Self { reason, detail: reason.to_string() }
    }
}

/// A sample, record or pair that is skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `id`, `reason` and `detail`")]
pub struct Skipped {
    /// Id of the sample, record or pair.
    pub id: String,
    /// Index of the answer among those that a stage makes for one sample, from 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub variant: usize,
    /// The reason, for counting.
    pub reason: SkipReason,
    /// The specifics of this case, for display.
    pub detail: String,
}

impl Skipped {
    /// Creates a skipped item whose detail is the description of the reason.
    pub fn new(id: impl Into<String>, reason: SkipReason) -> Self {
        Self { id: id.into(), variant: 0, reason, detail: reason.to_string() }
    }

    /// Replaces the detail.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Sets the index of the answer among those of the sample.
    pub fn with_variant(mut self, variant: usize) -> Self {
        self.variant = variant;
        self
    }
}

/// Returns whether a number is zero, for serde's `skip_serializing_if`.
pub fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Attaches a [`SkipReason`] to an error.
///
/// [`reason_of`](Self::reason_of) finds the reason anywhere in the sources of an error. The message
/// and the sources are those of the wrapped error.
///
/// ```
/// use bpo_pairs::{SkipError, SkipReason};
///
/// let error = SkipError::new(SkipReason::ImageMissing, "no image cat.jpg");
/// assert_eq!(error.to_string(), "no image cat.jpg");
/// assert_eq!(SkipError::reason_of(&error), Some(SkipReason::ImageMissing));
/// ```
#[derive(Debug)]
pub struct SkipError {
    reason: SkipReason,
    error: Box<dyn Error + Send + Sync>,
}

impl SkipError {
    /// Wraps an error with a reason.
    pub fn new(reason: SkipReason, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason, error: error.into() }
    }

    /// Returns the reason of the first `SkipError` among an error and its sources.
    pub fn reason_of(error: &(dyn Error + 'static)) -> Option<SkipReason> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found.reason);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for SkipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for SkipError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Number of skipped items per reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SkipCounts(BTreeMap<SkipReason, usize>);

impl SkipCounts {
    /// Adds one to the count of `reason`.
    pub fn add(&mut self, reason: SkipReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// Returns the count of `reason`.
    pub fn get(&self, reason: SkipReason) -> usize {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Returns the sum of all counts.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Returns the reasons with nonzero counts, in the order of [`SkipReason`].
    pub fn iter(&self) -> impl Iterator<Item = (SkipReason, usize)> + '_ {
        self.0.iter().map(|(&reason, &count)| (reason, count))
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (reason, count) in other.iter() {
            *self.0.entry(reason).or_default() += count;
        }
    }
}

impl<'a> FromIterator<&'a Skipped> for SkipCounts {
    fn from_iter<I: IntoIterator<Item = &'a Skipped>>(items: I) -> Self {
        let mut counts = Self::default();
        for item in items {
            counts.add(item.reason);
        }
        counts
    }
}

impl fmt::Display for SkipCounts {
    /// Writes `no image: 3, empty answer: 1`, or nothing if all counts are zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (reason, count)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{reason}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_data_and_seeds_do_not_change() {
        for reason in [SkipReason::ImageMissing, SkipReason::RequestFailed] {
            assert!(reason.may_change(), "{reason}");
        }
        for reason in [SkipReason::NoImage, SkipReason::NoKindFits, SkipReason::RewriteEmpty] {
            assert!(!reason.may_change(), "{reason}");
        }
    }

    #[test]
    fn counts_print_in_order_and_round_trip() {
        let skipped = [
            Skipped::new("b", SkipReason::EmptyAnswer),
            Skipped::new("a", SkipReason::NoImage),
            Skipped::new("c", SkipReason::NoImage).with_detail("text only"),
        ];
        let counts: SkipCounts = skipped.iter().collect();
        assert_eq!(counts.to_string(), "no image: 2, empty answer: 1");
        assert_eq!(counts.total(), 3);
        let json = serde_json::to_string(&counts).unwrap();
        assert_eq!(json, r#"{"no-image":2,"empty-answer":1}"#);
        assert_eq!(serde_json::from_str::<SkipCounts>(&json).unwrap(), counts);
    }
}
