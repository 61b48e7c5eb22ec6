//! Which pairs are fit for training.

use serde::{Deserialize, Serialize};

use crate::record::{Completion, PreferencePair, Record};
use crate::skipped::SkipReason;

/// Drops pairs with an answer that is empty, too long, or the same as the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table with `max_words`")]
#[non_exhaustive]
pub struct PairFilter {
    /// Most words (by white space) in either answer.
    pub max_words: usize,
    /// Whether an answer with more words drops its whole sample, with all its pairs, as in the authors' code. Default: false (ours), and
    /// then it drops the pairs that it is in.
    pub whole_sample: bool,
}

impl Default for PairFilter {
    /// The authors' limit: 350 words.
    fn default() -> Self {
        Self { max_words: 350, whole_sample: false }
    }
}

impl PairFilter {
    /// Sets the most words in either answer.
    pub fn with_max_words(mut self, max_words: usize) -> Self {
        self.max_words = max_words;
        self
    }

    /// Sets whether an answer with more words drops its whole sample.
    pub fn with_whole_sample(mut self, whole_sample: bool) -> Self {
        self.whole_sample = whole_sample;
        self
    }

    /// Whether a record's pairs are looked at at all.
    ///
    /// # Errors
    /// [`SkipReason::TooLong`] where [`whole_sample`](Self::whole_sample) drops the record.
    pub fn check_record(&self, record: &Record) -> Result<(), SkipReason> {
        let too_long = |completion: &Completion| count_words(&completion.response) > self.max_words;
        if self.whole_sample && record.completions.iter().any(too_long) {
            Err(SkipReason::TooLong)
        } else {
            Ok(())
        }
    }

    /// Whether a pair passes.
    ///
    /// # Errors
    /// The reason why it does not. Answers that differ in white space around them only are identical.
    pub fn check(&self, pair: &PreferencePair) -> Result<(), SkipReason> {
        let (chosen, rejected) = (pair.chosen.trim(), pair.rejected.trim());
        if chosen.is_empty() || rejected.is_empty() {
            return Err(SkipReason::EmptyAnswer);
        }
        if chosen == rejected {
            return Err(SkipReason::Identical);
        }
        if [chosen, rejected].iter().any(|answer| count_words(answer) > self.max_words) {
            return Err(SkipReason::TooLong);
        }
        Ok(())
    }
}

/// Words by white space.
pub fn count_words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CompletionKind;

    #[test]
    fn either_answer_can_fail_a_pair() {
        let check = |chosen: &str, rejected: &str| {
            PairFilter::default().with_max_words(3).check(&PreferencePair {
                id: "p".into(),
                image: "a.jpg".into(),
                system: None,
                history: vec![],
                prompt: "What?".into(),
                chosen: chosen.into(),
                rejected: rejected.into(),
                kind: CompletionKind::ImageWeakened,
                provenance: None,
                margin: None,
                beta: None,
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
    fn the_limit_is_the_authors() {
        assert_eq!(PairFilter::default().max_words, 350);
        assert!(serde_json::from_str::<PairFilter>(r#"{"max_word": 3}"#).is_err());
    }
}
