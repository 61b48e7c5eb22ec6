//! Rules that keep length and style, so that a rejected answer differs from the chosen one in its
//! errors alone.

use bpo_pairs::{lower_words, word_edits};
use serde::{Deserialize, Serialize};

use super::{DraftContext, Rejection};
use crate::{ErrorKind, InjectError};

/// Rules on the length and style of a draft, in words ([`lower_words`]).
///
/// VaPR (Wadhawan et al., COLM 2025, arXiv 2510.01700) finds that rejected answers of another
/// length or style teach a model length and style instead of content. The numbers are ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct StyleRules {
    /// Whether the rules apply to errors of the kind [`ErrorKind::Free`] too. Default: false,
    /// because the authors accept any rewrite.
    pub free: bool,
    /// Minimum share of changed words: inserted, removed and replaced words, divided by the words of
    /// the longer text. Default: 0.01.
    pub min_edit_share: f64,
    /// Maximum share of changed words. Default: 0.5.
    pub max_edit_share: f64,
    /// Minimum number of words, as a fraction of the words of the right answer. Default: 0.75.
    pub min_length_ratio: f64,
    /// Maximum number of words, as a multiple of the words of the right answer. Default: 1.35.
    pub max_length_ratio: f64,
    /// Number of words that may change, be missing or be added in spite of `max_edit_share` and both
    /// length ratios, so that the rules leave short answers alone. Default: 3.
    pub slack_words: usize,
    /// Number of first words that are compared. Default: 3.
    pub opening_words: usize,
    /// Number of these first words that may change. Default: 2. With 0, the opening must be equal.
    pub opening_changes: usize,
}

impl Default for StyleRules {
    fn default() -> Self {
        Self {
            free: false,
            min_edit_share: 0.01,
            max_edit_share: 0.5,
            min_length_ratio: 0.75,
            max_length_ratio: 1.35,
            slack_words: 3,
            opening_words: 3,
            opening_changes: 2,
        }
    }
}

impl StyleRules {
    /// Checks the settings.
    ///
    /// # Errors
    /// Returns [`InjectError::Setting`] if a share is not from 0 to 1, a ratio is negative or not
    /// finite, or a minimum is above its maximum.
    pub(crate) fn validate(&self) -> Result<(), InjectError> {
        let (low, high) = (self.min_edit_share, self.max_edit_share);
        if !(0.0..=1.0).contains(&low) || !(low..=1.0).contains(&high) {
            return Err(InjectError::Setting {
                key: "acceptance.style.min_edit_share and max_edit_share",
                expected: "from 0 to 1, the minimum first",
                found: format!("{low} and {high}"),
            });
        }
        let (low, high) = (self.min_length_ratio, self.max_length_ratio);
        if !(0.0..=1.0).contains(&low) || !(1.0..=1e6).contains(&high) {
            return Err(InjectError::Setting {
                key: "acceptance.style.min_length_ratio and max_length_ratio",
                expected: "from 0 to 1, and from 1 to 1e6",
                found: format!("{low} and {high}"),
            });
        }
        Ok(())
    }

    /// Compares a draft with the right answer.
    ///
    /// # Errors
    /// Returns the reason of the first rule that the draft breaks.
    pub(super) fn check(&self, draft: &str, expected: DraftContext<'_>) -> Result<(), Rejection> {
        let DraftContext { answer, kind, .. } = expected;
        if kind != ErrorKind::Free && !kind.is_in(draft, answer) {
            return Err(Rejection::OtherKind);
        }
        if kind == ErrorKind::Free && !self.free {
            return Ok(());
        }
        let (new, old) = (lower_words(draft), lower_words(answer));
        let (length, expected) = (new.len() as f64, old.len() as f64);
        let is_near = new.len().abs_diff(old.len()) <= self.slack_words;
        let is_like =
            length >= expected * self.min_length_ratio && length <= expected * self.max_length_ratio;
        if !is_near && !is_like {
            return Err(Rejection::OtherLength);
        }
        if !self.opens_alike(&new, &old) {
            return Err(Rejection::OtherOpening);
        }
        let edits = word_edits(&new, &old);
        let share = edits as f64 / length.max(expected).max(1.0);
        if share < self.min_edit_share {
            return Err(Rejection::ChangesTooLittle);
        }
        if share > self.max_edit_share && edits > self.slack_words {
            return Err(Rejection::ChangesTooMuch);
        }
        Ok(())
    }

    /// Returns whether enough of the first words are the same. An answer with no more words than may
    /// change has no opening.
    fn opens_alike(&self, new: &[String], old: &[String]) -> bool {
        let compared = self.opening_words.min(old.len());
        let opening = |words: &[String]| words[..compared.min(words.len())].to_vec();
        compared <= self.opening_changes || word_edits(&opening(new), &opening(old)) <= self.opening_changes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(rules: &StyleRules, kind: ErrorKind, answer: &str, draft: &str) -> Result<(), Rejection> {
        rules.check(draft, DraftContext { prompt: "", question: "", answer, kind })
    }

    /// Answer, draft, and the verdict for the kind.
    const GOLDEN: &[(ErrorKind, &str, &str, Option<Rejection>)] = &[
        (
            ErrorKind::Count,
            "Two dogs are playing on the beach.",
            "Three dogs are playing on the beach.",
            None,
        ),
        (ErrorKind::Count, "7", "9", None),
        (ErrorKind::Count, "There is one dog.", "There are three dogs.", None),
        (ErrorKind::Count, "Two dogs play.", "Two cats play.", Some(Rejection::OtherKind)),
        (ErrorKind::ObjectSwapped, "A cup is on the table.", "A fork is on the table.", None),
        (ErrorKind::ObjectSwapped, "Lemons.", "Pears.", None),
        (
            ErrorKind::ObjectSwapped,
            "The image shows a cat on a red sofa next to a lamp.",
            "In this picture one can see a dog on a red sofa next to a lamp.",
            Some(Rejection::OtherOpening),
        ),
        (
            ErrorKind::ObjectSwapped,
            "The cat sleeps on a red sofa next to a lamp.",
            "The cat watches some birds from an open window at noon.",
            Some(Rejection::ChangesTooMuch),
        ),
        (
            ErrorKind::ObjectAdded,
            "A cat sleeps on a red sofa.",
            "A cat sleeps on a red sofa beside two old armchairs, a lamp, a rug and many books.",
            Some(Rejection::OtherLength),
        ),
        (ErrorKind::ObjectAdded, "A cat sleeps on a sofa.", "A cat and a dog sleep on a sofa.", None),
        (
            ErrorKind::ObjectRemoved,
            "A cat, a dog and two birds rest on the big red sofa in the sun.",
            "A cat rests.",
            Some(Rejection::OtherLength),
        ),
        (ErrorKind::Position, "The cat is on the left.", "The cat is on the right.", None),
        (
            ErrorKind::Position,
            "The cat is on the left.",
            "The dog is on the left.",
            Some(Rejection::OtherKind),
        ),
        (ErrorKind::Text, "The sign says \"STOP\".", "The sign says \"YIELD\".", None),
        (ErrorKind::Attribute, "猫在红色的沙发上", "猫在蓝色的沙发上", None),
        (ErrorKind::Free, "The cat sleeps on a red sofa.", "In this picture, nothing is to be seen.", None),
    ];

    #[test]
    fn golden_cases_are_accepted_or_rejected_with_their_reason() {
        for (kind, answer, draft, expected) in GOLDEN {
            let found = check(&StyleRules::default(), *kind, answer, draft);
            assert_eq!(found.err(), *expected, "{kind}: {answer:?} -> {draft:?}");
        }
    }

    #[test]
    fn rules_follow_their_settings() {
        let (answer, draft) = ("The cat sleeps on a red sofa.", "In this picture, nothing is to be seen.");
        let free = StyleRules { free: true, ..StyleRules::default() };
        assert_eq!(check(&free, ErrorKind::Free, answer, draft), Err(Rejection::OtherOpening));
        let strict = StyleRules { opening_changes: 0, ..StyleRules::default() };
        let other = check(&strict, ErrorKind::ObjectSwapped, answer, "The dog sleeps on a red sofa.");
        assert_eq!(other, Err(Rejection::OtherOpening));
        let many = StyleRules { min_edit_share: 0.3, ..StyleRules::default() };
        let few = check(&many, ErrorKind::ObjectSwapped, answer, "The cat sleeps on a red bed.");
        assert_eq!(few, Err(Rejection::ChangesTooLittle));
    }

    #[test]
    fn settings_that_accept_nothing_are_errors() {
        let broken = [
            StyleRules { min_edit_share: 0.6, ..StyleRules::default() },
            StyleRules { max_edit_share: f64::NAN, ..StyleRules::default() },
            StyleRules { min_length_ratio: 1.2, ..StyleRules::default() },
            StyleRules { max_length_ratio: 0.9, ..StyleRules::default() },
        ];
        for rules in broken {
            assert!(rules.validate().is_err(), "{rules:?}");
        }
        StyleRules::default().validate().unwrap();
    }

    proptest! {
        /// One replaced word after the opening passes in a text of any script, unless the text is so
        /// long that more words have to change.
        #[test]
        fn one_changed_word_keeps_the_style(answer: String, at: prop::sample::Index) {
            let mut words = lower_words(&answer);
            prop_assume!(!words.is_empty() && words.len() <= 100);
            let at = at.index(words.len());
            words[at] = "elsewhere".to_owned();
            let draft = words.join(" ");
            let old = lower_words(&answer).join(" ");
            prop_assume!(lower_words(&old) == lower_words(&answer) && old != draft);
            prop_assert_eq!(check(&StyleRules::default(), ErrorKind::Attribute, &old, &draft), Ok(()));
        }

        #[test]
        fn an_unchanged_text_of_any_script_is_rejected(answer: String) {
            let found = check(&StyleRules::default(), ErrorKind::Attribute, &answer, &answer);
            prop_assert_eq!(found, Err(Rejection::ChangesTooLittle));
        }
    }
}
