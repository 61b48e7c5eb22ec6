//! Rejection of markup at changed words: strikes, tags, emphasis and brackets.

use super::words::words;

/// Tags around words, in lower case.
const TAGS: &[&str] =
    &["b", "del", "em", "font", "i", "ins", "mark", "s", "span", "strike", "strong", "sub", "sup", "u"];

/// Maximum number of words of the right answer that one bracket replaces.
const LONGEST_SPAN: usize = 4;

/// Maximum number of brackets that are searched.
const MOST_BRACKETS: usize = 16;

/// Returns whether a text has struck-out words: `~~red~~`.
pub(super) fn has_strike(text: &str) -> bool {
    const MARK: &str = "~~";
    text.split_once(MARK).is_some_and(|(_, rest)| rest.contains(MARK))
}

/// Returns whether a text has words between an opening and a closing tag: `<b>blue</b>`.
pub(super) fn has_tags(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    TAGS.iter().any(|tag| {
        lower
            .split_once(&format!("<{tag}"))
            .is_some_and(|(_, rest)| rest.starts_with(['>', ' ']) && rest.contains(&format!("</{tag}>")))
    })
}

/// Returns whether a text has emphasized words or code: `**blue**`, `__blue__`, or `blue` between
/// backticks. A single `*` may be part of a text.
pub(super) fn has_emphasis(text: &str) -> bool {
    ["**", "__", "`"].iter().any(|mark| {
        let mut parts = text.split(mark);
        parts.next();
        let inner = parts.next().filter(|_| parts.next().is_some()).unwrap_or_default();
        !inner.is_empty() && !inner.starts_with(char::is_whitespace) && !inner.ends_with(char::is_whitespace)
    })
}

/// Returns whether a bracket replaces words of the right answer: "a \[blue\] cup" for "a red cup".
/// Any other bracket may be part of a rewrite.
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

/// Returns the words of a text, none for punctuation alone.
fn spoken(text: &str) -> Vec<String> {
    if text.contains(char::is_alphanumeric) { words(text) } else { Vec::new() }
}

/// Returns whether 1 to [`LONGEST_SPAN`] words are between two neighbors. `None` is the start or
/// the end of the text.
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
