//! The filter for pairs.

use serde::{Deserialize, Serialize};

use crate::record::{Completion, PreferencePair, Record};
use crate::skipped::SkipReason;

/// Rejects pairs with an empty answer, an answer that is too long, or identical answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table with `max_words`")]
#[non_exhaustive]
pub struct PairFilter {
    /// Maximum number of words, separated by white space, in each answer.
    pub max_words: usize,
    /// Whether an answer above `max_words` rejects the whole record, as in the authors' code. If
    /// false (the default), it rejects only the pairs that contain it.
    pub whole_sample: bool,
}

impl Default for PairFilter {
    /// The authors' limit of 350 words.
    fn default() -> Self {
        Self { max_words: 350, whole_sample: false }
    }
}

impl PairFilter {
    /// Sets the maximum number of words in each answer.
    pub fn with_max_words(mut self, max_words: usize) -> Self {
        self.max_words = max_words;
        self
    }

    /// Sets whether an answer above `max_words` rejects the whole record.
    pub fn with_whole_sample(mut self, whole_sample: bool) -> Self {
        self.whole_sample = whole_sample;
        self
    }

    /// Checks a record before its pairs are made.
    ///
    /// # Errors
    /// Returns [`SkipReason::TooLong`] if [`whole_sample`](Self::whole_sample) is set and a
    /// completion has more than `max_words` words.
    pub fn check_record(&self, record: &Record) -> Result<(), SkipReason> {
        let too_long = |completion: &Completion| self.is_too_long(&completion.response);
        if self.whole_sample && record.completions.iter().any(too_long) {
            Err(SkipReason::TooLong)
        } else {
            Ok(())
        }
    }

    /// Checks a pair. White space around an answer is ignored.
    ///
    /// # Errors
    /// Returns the reason for which the pair is rejected.
    pub fn check(&self, pair: &PreferencePair) -> Result<(), SkipReason> {
        self.check_answers(&pair.chosen, &pair.rejected)
    }

    /// Checks the answers of a pair.
    pub(crate) fn check_answers(&self, chosen: &str, rejected: &str) -> Result<(), SkipReason> {
        let (chosen, rejected) = (chosen.trim(), rejected.trim());
        if chosen.is_empty() || rejected.is_empty() {
            return Err(SkipReason::EmptyAnswer);
        }
        if chosen == rejected {
            return Err(SkipReason::Identical);
        }
        if [chosen, rejected].iter().any(|answer| self.is_too_long(answer)) {
            return Err(SkipReason::TooLong);
        }
        Ok(())
    }

    /// Returns whether an answer has more than `max_words` words.
    pub fn is_too_long(&self, answer: &str) -> bool {
        // n words have at least n - 1 separators
        answer.len() / 2 >= self.max_words && answer.split_whitespace().nth(self.max_words).is_some()
    }
}

/// Counts the words of a text, separated by white space.
pub fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CompletionKind;

    #[test]
    fn the_limit_is_that_of_counted_words() {
        for text in ["", "a", " a", "a b", "ab cd", "a b c", "a  b\u{3000}c", "\u{e9} \u{e9} \u{e9} "] {
            for limit in 0..5 {
                let filter = PairFilter::default().with_max_words(limit);
                assert_eq!(filter.is_too_long(text), count_words(text) > limit, "{text:?}, {limit}");
            }
        }
    }

    #[test]
    fn pair_fails_by_either_answer() {
        let check = |chosen: &str, rejected: &str| {
            PairFilter::default().with_max_words(3).check(&PreferencePair {
                id: "p".into(),
                images: vec!["a.jpg".into()],
                system: None,
                history: Default::default(),
                prompt: "What?".into(),
                chosen: chosen.into(),
                rejected: rejected.into(),
                kind: CompletionKind::ImageWeakened,
                chosen_kind: None,
                provenance: None,
                margin: None,
                beta: None,
                contrast_images: Vec::new(),
                contrast_answer: None,
            })
        };
        assert_eq!(check("a b c", "d"), Ok(()));
        assert_eq!(check("a b c d", "d"), Err(SkipReason::TooLong));
        assert_eq!(check("d", "a\nb\tc d"), Err(SkipReason::TooLong));
        assert_eq!(check(" a b", "a b\n"), Err(SkipReason::Identical));
        assert_eq!(check("a", " \n"), Err(SkipReason::EmptyAnswer));
        assert_eq!(check("", "b"), Err(SkipReason::EmptyAnswer));
    }

    #[test]
    fn default_limit_equals_the_authors() {
        assert_eq!(PairFilter::default().max_words, 350);
        assert!(serde_json::from_str::<PairFilter>(r#"{"max_word": 3}"#).is_err());
    }
}
