//! Markup within a text that shows where it was changed: struck-out words, tags around words, words in brackets.

use super::words::words;

/// Tags around words, in lower case.
const TAGS: &[&str] =
    &["b", "del", "em", "font", "i", "ins", "mark", "s", "span", "strike", "strong", "sub", "sup", "u"];

/// Most words of the right answer that one bracket stands for.
const LONGEST_SPAN: usize = 4;

/// Most brackets that are looked at.
const MOST_BRACKETS: usize = 16;

/// Whether a text has struck-out words: `~~red~~`.
pub(super) fn has_strike(text: &str) -> bool {
    const MARK: &str = "~~";
    text.split_once(MARK).is_some_and(|(_, rest)| rest.contains(MARK))
}

/// Whether a text has words between an opening and a closing tag: `<b>blue</b>`.
pub(super) fn has_tags(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    TAGS.iter().any(|tag| {
        lower
            .split_once(&format!("<{tag}"))
            .is_some_and(|(_, rest)| rest.starts_with(['>', ' ']) && rest.contains(&format!("</{tag}>")))
    })
}

/// Whether a bracket stands where the right answer has other words: "a \[blue\] cup" for "a red cup". A bracket at a place
/// that the right answer does not have may be part of a rewrite.
pub(super) fn has_bracketed_change(text: &str, answer: &str) -> bool {
    if answer.contains('[') {
        return false;
    }
    let known = words(answer);
    text.match_indices('[').take(MOST_BRACKETS).any(|(open, _)| {
        let Some(close) = text[open..].find(']').map(|at| open + at) else { return false };
        let before = spoken(&text[..open]);
        let after = spoken(&text[close + 1..]);
        !spoken(&text[open + 1..close]).is_empty() && spans(&known, before.last(), after.first())
    })
}

/// The words of a text, none where it is punctuation alone.
fn spoken(text: &str) -> Vec<String> {
    if text.contains(char::is_alphanumeric) { words(text) } else { Vec::new() }
}

/// Whether one to [`LONGEST_SPAN`] words stand between these two neighbours; none is the start or the end of the text.
fn spans(known: &[String], before: Option<&String>, after: Option<&String>) -> bool {
    let starts = (0..=known.len()).filter(|&at| match before {
        None => at == 0,
        Some(word) => at > 0 && known[at - 1] == *word,
    });
    starts.into_iter().any(|start| {
        (start + 1..=(start + LONGEST_SPAN).min(known.len())).any(|end| match after {
            None => end == known.len(),
            Some(word) => known.get(end) == Some(word),
        })
    })
}
