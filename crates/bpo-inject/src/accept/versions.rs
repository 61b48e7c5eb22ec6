//! Rejection of replies with the right answer, or with several versions of the new one.

use super::words::{telling_words, words};

/// Minimum number of words of a right answer that is searched in a reply. Shorter ones occur in
/// rewrites by chance.
const FEWEST_WORDS: usize = 3;
/// Maximum number of words beside the right answer that may be about the task.
const MOST_BESIDE: usize = 16;

/// Words about the task if they precede the right answer.
const TALK_BEFORE: &[&str] = &[
    "accurate",
    "answer",
    "caption",
    "correct",
    "description",
    "original",
    "output",
    "sentence",
    "statement",
    "text",
    "version",
];

/// Words about the task before or after the right answer.
const TALK: &[&str] = &[
    "changes",
    "modification",
    "modifications",
    "modified",
    "response",
    "rewrite",
    "rewritten",
    "unchanged",
    "unmodified",
];

/// Words that number versions, in lower case.
const VERSIONS: &[&str] = &[
    "alternative",
    "alternatively",
    "answer",
    "candidate",
    "description",
    "option",
    "response",
    "variant",
    "variation",
    "version",
];

/// Returns whether a text has the whole right answer in quotes, before a second version of it, or
/// beside text about the task. A rewrite may have the right answer and an addition.
pub(super) fn repeats(text: &str, answer: &str) -> bool {
    let known = words(answer);
    if known.len() < FEWEST_WORDS {
        return false;
    }
    let found = words(text);
    let Some(at) = found.windows(known.len()).position(|words| words == known) else { return false };
    let (before, after) = (&found[..at], &found[at + known.len()..]);
    let has = |beside: &[String], talk: &[&str]| {
        beside.iter().any(|word| talk.contains(&word.as_str()) && !known.contains(word))
    };
    let is_talk = has(before, TALK_BEFORE) || has(before, TALK) || has(after, TALK);
    (is_talk && before.len() + after.len() <= MOST_BESIDE)
        || is_quoted(text, answer)
        || has_second_version(text, answer)
}

/// Returns whether the right answer is between quotation marks.
fn is_quoted(text: &str, answer: &str) -> bool {
    let answer = answer.trim();
    let bare = answer.trim_end_matches(['.', '!', '?']);
    text.match_indices(bare).any(|(at, found)| {
        let before = text[..at].chars().next_back();
        let after = text[at + found.len()..].trim_start_matches(['.', '!', '?', ',']).chars().next();
        let is_mark = |c: Option<char>| {
            c.is_some_and(|c| "\"'`\u{201c}\u{201d}\u{ab}\u{bb}\u{2018}\u{2019}".contains(c))
        };
        is_mark(before) && is_mark(after)
    })
}

/// Returns whether one line is the right answer, and another has at least half of its telling
/// words.
fn has_second_version(text: &str, answer: &str) -> bool {
    let known = words(answer);
    let telling = telling_words(answer);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if !lines.iter().any(|line| words(line) == known) {
        return false;
    }
    lines.iter().filter(|line| words(line) != known).any(|line| {
        let line = telling_words(line);
        let shared = telling.iter().filter(|word| line.contains(word)).count();
        2 * shared >= telling.len()
    })
}

/// Returns whether a text has several versions: with labels, numbers, or "or" on a line.
pub(super) fn has_several(text: &str, answer: &str) -> bool {
    let versions = |text: &str| text.lines().filter(|line| is_version_label(line)).count();
    let numbered = |text: &str| text.lines().filter(|line| is_numbered(line)).count();
    let has_or = |text: &str| text.lines().any(|line| bare(line) == "or");
    (versions(text) > 0 && versions(answer) == 0)
        || (has_or(text) && !has_or(answer))
        || (numbered(text) > 1 && numbered(answer) == 0 && versions_alike(text))
}

/// Returns whether a line is a label such as "Option 1:", "**Version B**" or "Alternatively:".
fn is_version_label(line: &str) -> bool {
    let line = bare(line);
    let Some((label, _)) = line.split_once([':', ')', '.', '\u{ff1a}']).or(Some((&line, ""))) else {
        return false;
    };
    let words: Vec<&str> =
        label.split_whitespace().map(|word| word.trim_matches(['*', '#', '_', '('])).collect();
    match words.as_slice() {
        ["alternatively"] => true,
        [version, number] => VERSIONS.contains(version) && is_number(number),
        _ => false,
    }
}

fn is_number(word: &str) -> bool {
    let of_letters = word.len() == 1 && "abcd".contains(word);
    of_letters || word.parse::<u8>().is_ok() || ["one", "two", "three"].contains(&word)
}

fn is_numbered(line: &str) -> bool {
    let digits = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < line.trim_start().len() && digits.starts_with(['.', ')'])
}

/// Returns whether two consecutive numbered lines share half of their telling words, as versions of
/// one answer do and items of a list do not.
fn versions_alike(text: &str) -> bool {
    let lines: Vec<Vec<String>> = text
        .lines()
        .filter(|line| is_numbered(line))
        .map(|line| {
            telling_words(
                line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit() || ".) ".contains(c)),
            )
        })
        .collect();
    lines.windows(2).any(|pair| {
        let shared = pair[0].iter().filter(|word| pair[1].contains(word)).count();
        2 * shared >= pair[0].len().max(pair[1].len())
    })
}

fn bare(line: &str) -> String {
    line.trim().trim_matches(['*', '#', '_', '-', '(', ' ']).to_lowercase()
}
