//! Skipped records: each has a reason, and each is counted.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::OverLimit;

/// Why a sample, an answer or a pair is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The record has a key that is missing or has a value of another type.
    Malformed,
    /// A text or a list of the record is larger than any real one (see [`Limits`](crate::Limits)).
    OverLimit,
    /// The sample is about no image.
    NoImage,
    /// The sample is about more than one image.
    SeveralImages,
    /// The image is given as bytes or as a URL, not as a path.
    ImageNotAPath,
    /// The sample holds video or audio.
    OtherMedia,
    /// The conversation is empty.
    NoTurns,
    /// The conversation does not alternate between user and assistant, beginning with the user.
    TurnOrder,
    /// A turn is neither the user's nor the assistant's.
    UnknownRole,
    /// The image token is used more than once, after the first question, or in an answer.
    ImageToken,
    /// A text holds what stands for an image, a video or a sound in data for another model.
    OtherPlaceholder,
    /// The question has no text besides the image token.
    EmptyPrompt,
    /// An answer has no text.
    EmptyAnswer,
    /// An earlier turn of the conversation has no question or no answer.
    BrokenHistory,
    /// An answer has more words than allowed.
    TooLong,
    /// Both answers of a pair are the same.
    Identical,
    /// An earlier pair of the record, of the same kind, has the same answers.
    Repeated,
    /// The answers have other text than those of an earlier pair of the same prompt, but the same tokens.
    SameTokens,
    /// All answers of a record have the same score, or there is only one.
    NoPreference,
    /// The image's path leads outside the image root.
    ImageOutside,
    /// There is no such image.
    ImageMissing,
    /// The image is over the limits: of size, scans or time.
    ImageTooLarge,
    /// The image cannot be decoded.
    ImageUnreadable,
    /// The name of the output file is taken, or the file system does not accept it.
    OutputName,
    /// The model cannot answer this question (too long for its context, for example).
    RequestFailed,
    /// The model cannot take the pair (too long for its context, for example).
    PairRefused,
    /// The rewritten answer is empty.
    RewriteEmpty,
    /// The rewritten answer says the same as the annotated one.
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
    /// The rewritten answer is talk about the task.
    RewriteCommentary,
    /// The text model's reasoning has no end, or no answer follows it.
    RewriteReasoning,
    /// The rewritten answer is wrapped in code fences, JSON or chat markers.
    RewriteMarkup,
    /// The text model gave several versions of the answer.
    RewriteAlternatives,
    /// The rewritten answer repeats the annotated one and adds talk, quotation marks or a second version.
    RewriteRepeatsAnswer,
    /// The reply of the text model's server has the API key in it.
    RewriteSecret,
    /// The annotated answer has nothing in it that could be made wrong.
    NothingToChange,
    /// The rewritten answer was not accepted for another reason.
    RewriteRejected,
}

impl SkipReason {
    /// Whether the image is at fault.
    pub fn is_of_image(self) -> bool {
        matches!(self, Self::ImageOutside | Self::ImageMissing | Self::ImageTooLarge | Self::ImageUnreadable)
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "record not of the expected form",
            Self::OverLimit => "record over a size limit",
            Self::NoImage => "no image",
            Self::SeveralImages => "several images",
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
            Self::NoPreference => "no answer is preferred to another",
            Self::ImageOutside => "image outside the image root",
            Self::ImageMissing => "image missing",
            Self::ImageTooLarge => "image too large",
            Self::ImageUnreadable => "image unreadable",
            Self::OutputName => "no name for the output file",
            Self::RequestFailed => "model could not answer",
            Self::PairRefused => "model cannot take the pair",
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

/// Why something cannot be used, where its id is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Why, to be counted.
    pub reason: SkipReason,
    /// Why, to be read: the reason and what is particular to this case.
    pub detail: String,
}

impl Flaw {
    /// A reason with the particulars of this case: the key, the value, and what was expected.
    pub fn new(reason: SkipReason, particulars: impl fmt::Display) -> Self {
        Self { reason, detail: format!("{reason}: {particulars}") }
    }

    /// The same with the number of the record, from 1, at the end of the text.
    #[must_use]
    pub fn in_record(mut self, number: usize) -> Self {
        self.detail.push_str(&format!(" (record {number})"));
        self
    }

    /// What is skipped, once its id is known.
    pub fn of(self, id: impl Into<String>) -> Skipped {
        Skipped::new(id, self.reason).with_detail(self.detail)
    }
}

impl From<OverLimit> for Flaw {
    fn from(error: OverLimit) -> Self {
        Self::new(SkipReason::OverLimit, error)
    }
}

impl From<SkipReason> for Flaw {
    fn from(reason: SkipReason) -> Self {
        Self { reason, detail: reason.to_string() }
    }
}

/// Something that is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `id`, `reason` and `skipped`")]
pub struct Skipped {
    /// Id of the sample, record or pair.
    pub id: String,
    /// Which of the sample's answers, from 0, where a stage makes several.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub variant: usize,
    /// Why, to be counted.
    pub reason: SkipReason,
    /// Why, to be read: names what is particular to this case.
    #[serde(rename = "skipped")]
    pub detail: String,
}

impl Skipped {
    /// Skips `id` for a reason without further detail.
    pub fn new(id: impl Into<String>, reason: SkipReason) -> Self {
        Self { id: id.into(), variant: 0, reason, detail: reason.to_string() }
    }

    /// Replaces the text.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// Says which of the sample's answers it is.
    pub fn with_variant(mut self, variant: usize) -> Self {
        self.variant = variant;
        self
    }
}

/// What files leave out.
pub(crate) fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// An error with the reason to count it under. It can be anywhere among the sources of another error, and it reads as
/// the error that it wraps.
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
    /// Wraps an error.
    pub fn new(reason: SkipReason, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { reason, error: error.into() }
    }

    /// The reason of the first `SkipError` among an error and its sources.
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

/// How often each reason occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SkipCounts(BTreeMap<SkipReason, usize>);

impl SkipCounts {
    /// Counts one.
    pub fn add(&mut self, reason: SkipReason) {
        *self.0.entry(reason).or_default() += 1;
    }

    /// How often `reason` occurred.
    pub fn get(&self, reason: SkipReason) -> usize {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// All together.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Reasons that occurred, with their counts, in the order of [`SkipReason`].
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
    /// `no image: 3, empty answer: 1`; nothing for no counts.
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
