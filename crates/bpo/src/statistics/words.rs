//! Words that occur in rejected answers and not in the chosen ones.

use std::collections::{HashMap, HashSet};

use bpo_pairs::{PreferencePair, lower_words};
use serde::Serialize;

/// Number of words in a table.
const SHOWN: usize = 20;

/// A word and the number of answers with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WordCount {
    /// The word in lower case.
    pub word: String,
    /// Number of answers.
    pub answers: usize,
}

/// Counts the words that only rejected answers have.
#[derive(Default)]
pub(super) struct InjectedWords {
    answers: HashMap<String, usize>,
}

impl InjectedWords {
    pub(super) fn add(&mut self, pair: &PreferencePair) {
        let words = |text: &str| lower_words(text).into_iter().collect::<HashSet<_>>();
        let chosen = words(&pair.chosen);
        for word in words(&pair.rejected).into_iter().filter(|word| !chosen.contains(word)) {
            *self.answers.entry(word).or_default() += 1;
        }
    }

    /// Returns the most common words, those with the same count in alphabetical order.
    pub(super) fn most_common(self) -> Vec<WordCount> {
        let words = self.answers.into_iter().map(|(word, answers)| WordCount { word, answers });
        let mut words: Vec<_> = words.collect();
        words.sort_unstable_by(|a, b| b.answers.cmp(&a.answers).then_with(|| a.word.cmp(&b.word)));
        words.truncate(SHOWN);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::pair;
    use super::*;

    #[test]
    fn words_of_rejected_answers_alone_are_counted_once_an_answer() {
        let mut words = InjectedWords::default();
        words.add(&pair(0, "A cat on a mat.", "A dog, a DOG on a mat."));
        words.add(&pair(1, "A cat.", "Ein Dog, größer."));
        let count = |word: &str, answers| WordCount { word: word.into(), answers };
        assert_eq!(words.most_common(), [count("dog", 2), count("ein", 1), count("größer", 1)]);
    }

    #[test]
    fn table_is_limited() {
        let mut words = InjectedWords::default();
        let many: Vec<String> = (0..100).map(|number| format!("w{number}")).collect();
        words.add(&pair(0, "A cat.", &many.join(" ")));
        assert_eq!(words.most_common().len(), SHOWN);
    }
}
