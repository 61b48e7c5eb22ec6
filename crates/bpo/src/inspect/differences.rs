//! Words in which two answers differ.

use similar::{Algorithm, ChangeTag, TextDiff};

/// Answers with more bytes are not compared, because the time grows with the product of the length
/// and the number of differences.
const MOST_BYTES: usize = 32 << 10;

/// A part of an answer: whether the other answer has it too, and its text.
pub(super) type Part<'a> = (bool, &'a str);

/// Splits two answers into parts that both have and parts that only one has. Words, spaces and
/// punctuation are compared as Unicode text segmentation (UAX #29) divides them, so texts without
/// spaces are compared, too. The parts of an answer joined are the answer.
pub(super) fn differences<'a>(chosen: &'a str, rejected: &'a str) -> (Vec<Part<'a>>, Vec<Part<'a>>) {
    if chosen.len().max(rejected.len()) > MOST_BYTES {
        return (vec![(true, chosen)], vec![(true, rejected)]);
    }
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).diff_unicode_words(chosen, rejected);
    let (mut left, mut right) = (Parts::new(chosen), Parts::new(rejected));
    for change in diff.iter_all_changes() {
        let length = change.value().len();
        match change.tag() {
            ChangeTag::Equal => {
                left.add(true, length);
                right.add(true, length);
            }
            ChangeTag::Delete => left.add(false, length),
            ChangeTag::Insert => right.add(false, length),
        }
    }
    (left.parts, right.parts)
}

/// The parts of one answer so far. Neighbouring parts of the same kind are joined.
struct Parts<'a> {
    text: &'a str,
    /// Start of the last part, and end of it.
    last: (usize, usize),
    parts: Vec<Part<'a>>,
}

impl<'a> Parts<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, last: (0, 0), parts: Vec::new() }
    }

    fn add(&mut self, is_common: bool, length: usize) {
        let (start, end) = self.last;
        match self.parts.last_mut() {
            Some((common, part)) if *common == is_common => {
                self.last = (start, end + length);
                *part = &self.text[start..end + length];
            }
            _ => {
                self.last = (end, end + length);
                self.parts.push((is_common, &self.text[end..end + length]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_of_one_answer_are_marked() {
        let (chosen, rejected) = differences("A cat sits on a red mat.", "A dog sits on a blue mat.");
        let marked = |parts: &[Part<'_>]| -> Vec<String> {
            parts.iter().filter(|part| !part.0).map(|part| part.1.to_owned()).collect()
        };
        assert_eq!(marked(&chosen), ["cat", "red"]);
        assert_eq!(marked(&rejected), ["dog", "blue"]);
        let (chosen, rejected) = differences("猫在垫子上", "狗在垫子上");
        assert_eq!((marked(&chosen), marked(&rejected)), (vec!["猫".into()], vec!["狗".into()]));
        assert_eq!(differences("same", "same"), (vec![(true, "same")], vec![(true, "same")]));
        assert_eq!(differences("", "a").0, []);
    }

    #[test]
    fn long_answers_are_not_compared() {
        let long = "word ".repeat(MOST_BYTES);
        assert_eq!(differences(&long, "b"), (vec![(true, long.as_str())], vec![(true, "b")]));
    }

    proptest! {
        #[test]
        fn parts_joined_are_the_answers(chosen in "\\PC{0,40}", rejected in "\\PC{0,40}") {
            let (left, right) = differences(&chosen, &rejected);
            let join = |parts: &[Part<'_>]| parts.iter().map(|part| part.1).collect::<String>();
            let common = |parts: &[Part<'_>]| {
                parts.iter().filter(|part| part.0).map(|part| part.1).collect::<String>()
            };
            prop_assert_eq!(join(&left), chosen.as_str());
            prop_assert_eq!(join(&right), rejected.as_str());
            prop_assert_eq!(common(&left), common(&right));
        }
    }
}
