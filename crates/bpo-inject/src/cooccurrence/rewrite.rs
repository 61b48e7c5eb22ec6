//! Replacement of words in a text, with the same capitals and a matching article.

use super::token::{self, Word};

/// Pairs of a word in lower case and its replacement.
pub(super) type Replacements = Vec<(String, String)>;

/// Replaces every occurrence of each word.
pub(super) fn rewrite(text: &str, replacements: &Replacements) -> String {
    let words = token::split(text);
    let mut result = String::with_capacity(text.len() + 16);
    let mut written = 0;
    for (i, word) in words.iter().enumerate() {
        let new = match replacement(word, replacements) {
            Some(new) => with_case_of(word.text, new),
            None => match article_for_next(&words, i, replacements) {
                Some(article) => with_case_of(word.text, article),
                None => continue,
            },
        };
        result.push_str(&text[written..word.start]);
        result.push_str(&new);
        written = word.end();
    }
    result.push_str(&text[written..]);
    result
}

fn replacement<'r>(word: &Word<'_>, replacements: &'r Replacements) -> Option<&'r str> {
    let found = replacements.iter().find(|(from, _)| !word.hyphenated && *from == word.lower);
    found.map(|(_, to)| to.as_str())
}

/// Returns "a" or "an" if a word is one of them and the next word changes.
fn article_for_next(words: &[Word<'_>], i: usize, replacements: &Replacements) -> Option<&'static str> {
    let next = words.get(i + 1).filter(|next| next.joined)?;
    let is_article = matches!(words[i].lower.as_str(), "a" | "an");
    is_article.then(|| replacement(next, replacements)).flatten().map(article)
}

/// Returns the indefinite article of a word, by its spelling.
pub(super) fn article(word: &str) -> &'static str {
    let word = word.to_lowercase();
    let starts = |starts: &[&str]| starts.iter().any(|start| word.starts_with(start));
    let silent_h = ["hour", "honest", "honor", "honour", "heir"];
    let sounds_like_consonant = ["eu", "one", "uni", "use", "usu", "ut", "ura"];
    let number = ["8", "11", "18"];
    let vowel = starts(&["a", "e", "i", "o", "u"]) && !starts(&sounds_like_consonant);
    if starts(&silent_h) || vowel || number.contains(&word.as_str()) { "an" } else { "a" }
}

/// Returns `new` with the capitals of `old`: all, the first letter, or none.
pub(super) fn with_case_of(old: &str, new: &str) -> String {
    let mut letters = old.chars().filter(|c| c.is_alphabetic());
    let first_upper = letters.next().is_some_and(char::is_uppercase);
    let mut rest = letters.peekable();
    if first_upper && rest.peek().is_some() && rest.all(char::is_uppercase) {
        new.to_uppercase()
    } else if first_upper {
        let mut chars = new.chars();
        chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
    } else {
        new.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(text: &str, pairs: &[(&str, &str)]) -> String {
        rewrite(text, &pairs.iter().map(|&(from, to)| (from.to_owned(), to.to_owned())).collect())
    }

    #[test]
    fn replacement_keeps_capitals() {
        assert_eq!(
            swap("Cats chase a cat. CATS!", &[("cats", "owls"), ("cat", "owl")]),
            "Owls chase an owl. OWLS!"
        );
        assert_eq!(swap("An orange cup", &[("orange", "red")]), "A red cup");
        assert_eq!(swap("the cat's eyes", &[("cat", "dog")]), "the dog's eyes");
        assert_eq!(swap("a close-up of it", &[("up", "down")]), "a close-up of it");
        assert_eq!(swap("left, then right", &[("left", "right"), ("right", "left")]), "right, then left");
    }

    #[test]
    fn articles_match_the_next_word() {
        for (word, expected) in
            [("hour", "an"), ("unicorn", "a"), ("umbrella", "an"), ("8", "an"), ("horse", "a")]
        {
            assert_eq!(article(word), expected, "{word}");
        }
    }
}
