//! Rejection of the right answer with a short text before or after it.

use super::label::EXCLAMATIONS;
use super::words::{telling_words, words};

/// Maximum number of characters of a head.
const LONGEST_HEAD: usize = 40;
/// Maximum number of words of a note that says that nothing was changed.
const LONGEST_NOTE: usize = 8;
/// Maximum number of heads and notes that are removed.
const MOST_PARTS: usize = 4;

/// Interjections before a sentence, in lower case, in addition to [`EXCLAMATIONS`].
const INTERJECTIONS: &[&str] = &[
    "actually",
    "as you can see",
    "in the image",
    "in the photo",
    "in the picture",
    "ah",
    "correct",
    "hm",
    "hmm",
    "indeed",
    "no",
    "oh",
    "right",
    "so",
    "true",
    "well",
    "yes",
];

/// Words of openings that add nothing to a sentence, in lower case: "I can see that", "It looks
/// like".
const OPENING_WORDS: &[&str] = &[
    "appears", "as", "can", "clear", "clearly", "here", "i", "image", "in", "is", "it", "like", "looks",
    "observe", "of", "photo", "picture", "see", "seems", "shows", "that", "the", "this", "to", "tell", "we",
    "you",
];

/// Maximum number of words of an opening.
const LONGEST_OPENING: usize = 8;

/// Words that say that nothing was changed, together with one of [`CHANGES`].
const NEGATIONS: &[&str] = &["no", "not", "nothing", "without"];

const CHANGES: &[&str] = &[
    "alteration",
    "alterations",
    "change",
    "changed",
    "changes",
    "correction",
    "corrections",
    "edit",
    "edits",
    "modification",
    "modifications",
    "modified",
    "needed",
];

/// Returns whether a text is the right answer after a short head, before a note that nothing was
/// changed, or both: "Annotation: ...", "Yes. ...", "I can see that ...", "... (No change)".
pub(super) fn is_framed(text: &str, answer: &str) -> bool {
    let known = telling_words(answer);
    let mut rest = text.trim();
    if is_opened(rest, &known) {
        return true;
    }
    for _ in 0..MOST_PARTS {
        let Some(shorter) = without_note(rest).or_else(|| without_head(rest)) else { return false };
        if telling_words(shorter) == known || is_opened(shorter, &known) {
            return true;
        }
        rest = shorter;
    }
    false
}

/// Returns whether a text is an opening such as "I can see that" and a sentence with these telling
/// words.
fn is_opened(text: &str, known: &[String]) -> bool {
    let mut rest = text.trim_start();
    for _ in 0..LONGEST_OPENING {
        let Some((word, behind)) = rest.split_once(' ') else { return false };
        let is_opening = words(word).iter().all(|word| OPENING_WORDS.contains(&word.as_str()));
        if !is_opening {
            return false;
        }
        rest = behind.trim_start();
        if telling_words(rest) == known {
            return true;
        }
    }
    false
}

/// Removes a head that ends at a colon, a dash or an exclamation mark, or an interjection.
fn without_head(text: &str) -> Option<&str> {
    let mut before = ' ';
    for (position, (at, c)) in text.char_indices().enumerate().take(LONGEST_HEAD) {
        let rest = &text[at + c.len_utf8()..];
        let ends = match c {
            // "9:45" has no head.
            ':' => !rest.starts_with(|c: char| c.is_ascii_digit()),
            '\u{ff1a}' | '\u{2014}' => true,
            '-' | '\u{2013}' => before == ' ' && rest.starts_with(' '),
            '!' | ',' | '.' | '\u{ff0c}' | '\u{3002}' => {
                return is_interjection(&text[..at], c).then_some(rest);
            }
            _ => false,
        };
        if ends && position > 0 {
            return Some(rest.trim_start()).filter(|rest| !rest.is_empty());
        }
        before = c;
    }
    None
}

fn is_interjection(head: &str, mark: char) -> bool {
    const MOST_WORDS: usize = 2;
    let found = words(head);
    let head = found.join(" ");
    (mark == '!' && found.len() <= MOST_WORDS)
        || (mark == '.' && head.parse::<u8>().is_ok())
        || INTERJECTIONS.contains(&head.as_str())
        || EXCLAMATIONS.contains(&head.as_str())
}

/// Removes a last line in brackets, or a last bracket or line that says that nothing was changed.
fn without_note(text: &str) -> Option<&str> {
    let line = text.rfind('\n').map(|at| (&text[..at], text[at..].trim()));
    if let Some((before, line)) = line
        && (says_no_change(line) || (line.starts_with(['(', '[']) && line.ends_with([')', ']'])))
    {
        return Some(before.trim_end());
    }
    let bare = text.trim_end_matches(['.', '!']);
    let open = bare.rfind(['(', '[', '\u{ff08}']).filter(|_| bare.ends_with([')', ']', '\u{ff09}']))?;
    says_no_change(&bare[open..]).then(|| text[..open].trim_end())
}

fn says_no_change(note: &str) -> bool {
    let words = words(note);
    let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    words.len() <= LONGEST_NOTE
        && ((has(NEGATIONS) && has(CHANGES)) || has(&["identical", "same", "unchanged"]))
}
