//! The parts of an answer that single kinds of errors change: numbers, positions and readable texts.

use bpo_pairs::{lower_words, words};

/// English number words.
const NUMBERS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "thousand",
    "million",
    "dozen",
    "dozens",
    "pair",
    "couple",
    "several",
    "many",
    "few",
    "single",
    "double",
];

/// English words for positions and relations of objects.
const POSITIONS: &[&str] = &[
    "above",
    "across",
    "against",
    "along",
    "among",
    "around",
    "back",
    "background",
    "behind",
    "below",
    "beneath",
    "beside",
    "between",
    "bottom",
    "center",
    "centre",
    "corner",
    "down",
    "far",
    "foreground",
    "front",
    "inside",
    "left",
    "leftmost",
    "lower",
    "middle",
    "near",
    "next",
    "on",
    "opposite",
    "outside",
    "over",
    "right",
    "rightmost",
    "top",
    "toward",
    "towards",
    "under",
    "underneath",
    "up",
    "upper",
];

/// Words that name nothing.
const UNNAMED: &[&str] = &["yes", "no", "yeah", "nope", "none"];

/// Quotation marks that open and close a text.
const QUOTES: &[(char, char)] = &[
    ('"', '"'),
    ('\u{201c}', '\u{201d}'),
    ('\u{ab}', '\u{bb}'),
    ('\u{300c}', '\u{300d}'),
    ('\u{2018}', '\u{2019}'),
];

/// Returns the numbers of a text in their order: runs of digits, and English number words.
pub(super) fn numbers(text: &str) -> Vec<String> {
    let mut numbers = Vec::new();
    for word in lower_words(text) {
        if word.chars().any(char::is_numeric) {
            numbers.extend(digit_runs(&word));
        } else if NUMBERS.contains(&word.as_str()) {
            numbers.push(word);
        }
    }
    numbers
}

/// Returns the runs of digits of a word, with the points and commas between them.
fn digit_runs(word: &str) -> impl Iterator<Item = String> + '_ {
    word.split(|letter: char| !letter.is_numeric() && !matches!(letter, '.' | ','))
        .map(|run| run.trim_matches(|letter: char| !letter.is_numeric()))
        .filter(|run| !run.is_empty())
        .map(str::to_owned)
}

/// Returns the position words of a text in their order.
pub(super) fn positions(text: &str) -> Vec<String> {
    lower_words(text).into_iter().filter(|word| POSITIONS.contains(&word.as_str())).collect()
}

/// Returns what can be read in the image according to a text: quotations, words in capitals and
/// runs of digits.
pub(super) fn readable(text: &str) -> Vec<String> {
    let mut found = quotations(text);
    for word in words(text) {
        let letters = word.chars().filter(|letter| letter.is_alphabetic()).count();
        if word.chars().any(char::is_numeric) {
            found.extend(digit_runs(word));
        } else if letters > 1 && word.chars().all(|letter| !letter.is_alphabetic() || letter.is_uppercase()) {
            found.push(word.to_owned());
        }
    }
    found
}

fn quotations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((start, open)) =
        rest.char_indices().find(|(_, c)| QUOTES.iter().any(|&(open, _)| open == *c))
    {
        rest = &rest[start + open.len_utf8()..];
        let close = QUOTES.iter().find(|&&(mark, _)| mark == open).map_or(open, |&(_, close)| close);
        let Some((quoted, after)) = rest.split_once(close) else { break };
        if quoted.chars().any(char::is_alphanumeric) {
            found.push(quoted.to_owned());
        }
        rest = after;
    }
    found
}

/// Returns whether a word may name an object or a property.
pub(super) fn may_be_named(word: &str) -> bool {
    word.chars().any(char::is_alphabetic)
        && !word.chars().any(char::is_numeric)
        && !UNNAMED.contains(&word)
        && !NUMBERS.contains(&word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_all_scripts_and_english_words_are_found() {
        assert_eq!(
            numbers("Twenty-four cups, 3.5 litres at 12:30; \u{664} cats"),
            ["twenty", "four", "3.5", "12", "30", "\u{664}"]
        );
        assert_eq!(numbers("3只猫"), ["3"]);
        assert!(numbers("A cup is on the table.").is_empty());
    }

    #[test]
    fn quotations_capitals_and_digits_are_readable() {
        assert_eq!(readable("The sign says \u{201c}Open now\u{201d}."), ["Open now"]);
        assert_eq!(readable("A STOP sign at gate 7B, says \"go\""), ["go", "STOP", "7"]);
        assert!(readable("A cat I know.").is_empty());
        assert!(readable("It is 'fine', isn't it? \"").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_can_be_examined(text: String) {
            let _ = (positions(&text), readable(&text));
            prop_assert!(numbers(&text).iter().all(|number| !number.is_empty()));
        }
    }
}
