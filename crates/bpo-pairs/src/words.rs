//! The words of texts, and the number of changed words between two texts.

use std::collections::HashMap;
use std::hash::Hash;

use unicode_segmentation::UnicodeSegmentation;

/// Maximum number of comparisons of two words for the exact number of edits.
const MOST_COMPARISONS: usize = 4_000_000;

/// Iterates over the words of a text, as Unicode text segmentation (UAX #29) divides it, without
/// spaces and punctuation. In scripts that are written without spaces, such as Chinese and Thai,
/// most letters are words.
///
/// ```
/// use bpo_pairs::words;
///
/// let found: Vec<&str> = words("A well-lit cup, isn't it? 3.5 两只").collect();
/// assert_eq!(found, ["A", "well", "lit", "cup", "isn't", "it", "3.5", "两", "只"]);
/// ```
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    // a part may have spaces: one before a combining character, and narrow no-break spaces
    let parts = text.unicode_words().flat_map(str::split_whitespace);
    parts.filter(|part| part.contains(char::is_alphanumeric))
}

/// Returns the [words] of a text in lower case.
pub fn lower_words(text: &str) -> Vec<String> {
    words(text).map(str::to_lowercase).collect()
}

/// Returns the number of words that must be inserted, removed or replaced to turn `a` into `b`
/// (Levenshtein distance).
///
/// Equal words at the start and at the end cost no time. If the words between them need more than
/// four million comparisons, the result is a lower bound: the number of words that one text has
/// more often than the other one, regardless of their order.
pub fn word_edits<W: Eq + Hash>(a: &[W], b: &[W]) -> usize {
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[start..], &b[start..]);
    let end = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[..a.len() - end], &b[..b.len() - end]);
    if a.is_empty() || b.is_empty() {
        return a.len().max(b.len());
    }
    if a.len().saturating_mul(b.len()) > MOST_COMPARISONS {
        return unordered_edits(a, b);
    }
    // `edits[j]` is the distance of the first `i` words of `a` and the first `j` words of `b`
    let mut edits: Vec<usize> = (0..=b.len()).collect();
    for (i, word) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut edits[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(word != other);
            diagonal = edits[j + 1];
            edits[j + 1] = replaced.min(edits[j] + 1).min(diagonal + 1);
        }
    }
    edits[b.len()]
}

fn unordered_edits<W: Eq + Hash>(a: &[W], b: &[W]) -> usize {
    let mut counts: HashMap<&W, i64> = HashMap::new();
    a.iter().for_each(|word| *counts.entry(word).or_default() += 1);
    b.iter().for_each(|word| *counts.entry(word).or_default() -= 1);
    let sum = |sign: i64| -> i64 { counts.values().map(|count| (count * sign).max(0)).sum() };
    sum(1).max(sum(-1)) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edits_are_counted_in_words() {
        let edits = |a: &str, b: &str| word_edits(&lower_words(a), &lower_words(b));
        assert_eq!(edits("A red cup.", "a RED cup"), 0);
        assert_eq!(edits("A red cup stands here.", "A blue cup stands here."), 1);
        assert_eq!(edits("a b c d", "b c d e"), 2);
        assert_eq!(edits("", "a b"), 2);
        assert_eq!(edits("两只猫在桌上", "三只猫在桌上"), 1);
    }

    #[test]
    fn narrow_spaces_divide_words() {
        assert_eq!(
            words("Σ\u{202f} 10\u{202f}000 «\u{202f}oui\u{202f}»").collect::<Vec<_>>(),
            ["Σ", "10", "000", "oui"]
        );
    }

    #[test]
    fn long_texts_give_a_lower_bound_quickly() {
        let numbers = |from: usize| (from..from + 50_000).collect::<Vec<_>>();
        assert_eq!(word_edits(&numbers(0), &numbers(25_000)), 25_000);
        let mut reversed = numbers(0);
        reversed.reverse();
        assert_eq!(word_edits(&numbers(0), &reversed), 0);
    }

    proptest! {
        #[test]
        fn edits_are_a_distance(
            a in prop::collection::vec(0_u8..4, 0..12),
            b in prop::collection::vec(0_u8..4, 0..12),
            c in prop::collection::vec(0_u8..4, 0..12),
        ) {
            let ab = word_edits(&a, &b);
            prop_assert_eq!(ab == 0, a == b);
            prop_assert_eq!(ab, word_edits(&b, &a));
            prop_assert!(ab <= word_edits(&a, &c) + word_edits(&c, &b));
            prop_assert!((a.len().abs_diff(b.len())..=a.len().max(b.len())).contains(&ab));
            prop_assert!(unordered_edits(&a, &b) <= ab);
        }

        #[test]
        fn words_of_any_text_have_letters_and_no_spaces(text: String) {
            for word in lower_words(&text) {
                prop_assert!(word.chars().any(char::is_alphanumeric) && !word.contains(char::is_whitespace), "{word:?}");
            }
        }
    }
}
