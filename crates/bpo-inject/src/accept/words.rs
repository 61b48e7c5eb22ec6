//! Comparison of texts by their words.

use bpo_pairs::lower_words;

/// Returns whether two texts have the same words, up to case, spacing and punctuation.
pub fn same_text(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

/// Words that carry no meaning of their own.
const SILENT: &[&str] = &[
    "a", "an", "and", "are", "been", "has", "have", "is", "it", "its", "that", "the", "there", "was", "were",
    "with",
];

/// Returns the words of a text without [`SILENT`] ones and repetitions, or all words if none is
/// left.
pub(super) fn telling_words(text: &str) -> Vec<String> {
    let words = words(text);
    let mut telling: Vec<String> = Vec::new();
    for word in &words {
        let word = word.trim_end_matches("'s").trim_end_matches("\u{2019}s");
        if !SILENT.contains(&word) && !telling.iter().any(|earlier| earlier == word) {
            telling.push(word.to_owned());
        }
    }
    if telling.is_empty() { words } else { telling }
}

/// Returns the words in lower case. A text of punctuation alone keeps it.
pub(super) fn words(text: &str) -> Vec<String> {
    let words = lower_words(text);
    if words.is_empty() { text.split_whitespace().map(str::to_lowercase).collect() } else { words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_punctuation_are_compared() {
        assert!(same_text("??", " ??"));
        assert!(!same_text("??", "!"));
        assert!(!same_text("3.5", "35"));
    }
}
