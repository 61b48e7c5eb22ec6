//! Removal of notes after an answer, and of the original answer before it.

use super::cut::Rest;
use super::label::{TEXTS, is_label, is_new};
use super::words::same_text;

/// Starts of notes in lower case, at the start of a line or in brackets.
const NOTES: &[&str] = &[
    "note:",
    "notes:",
    "note -",
    "note that i ",
    "note that this",
    "note that the description",
    "nb:",
    "n.b.",
    "p.s.",
    "disclaimer:",
    "explanation",
    "rationale:",
    "reasoning:",
    "remark:",
    "comment:",
    "justification:",
    "clarification:",
    "error:",
    "errors:",
    "error introduced",
    "errors introduced",
    "introduced error",
    "mistake:",
    "mistakes:",
    "inaccuracy:",
    "hallucination:",
    "edit:",
    "edits:",
    "edits made",
    "change:",
    "change made",
    "changes:",
    "changes made",
    "changes include",
    "changed:",
    "changed from",
    "changes from",
    "key changes",
    "main changes",
    "list of changes",
    "summary of changes",
    "summary of the changes",
    "summary:",
    "what changed",
    "what i changed",
    "what was changed",
    "the changes",
    "these changes",
    "the changed ",
    "differences",
    "key differences",
    "modifications",
    "modification:",
    "alterations",
    "the modified ",
    "the rewritten ",
    "the altered ",
    "this modified",
    "this rewritten",
    "this version",
    "this altered",
    "this revised",
    "in this version",
    "in this modified",
    "in this rewritten",
    "in the modified",
    "in the rewritten",
    "i changed",
    "i've changed",
    "i have changed",
    "i replaced",
    "i've replaced",
    "i have replaced",
    "i altered",
    "i've altered",
    "i have altered",
    "i modified",
    "i've modified",
    "i have modified",
    "i swapped",
    "i've swapped",
    "i have swapped",
    "i added ",
    "i've added",
    "i have added",
    "i removed",
    "i've removed",
    "i have removed",
    "i made ",
    "i've made",
    "i have made",
    "i kept ",
    "i've kept",
    "i have kept",
    "i rewrote",
    "i hope this",
    "hope this",
    "let me know",
    "feel free",
    "please let me know",
    "if you need",
    "if you'd like",
    "if you would like",
    "would you like me",
    "is there anything else",
    "original:",
    "original answer",
    "original response",
    "original description",
    "originally",
    "anmerkung",
    "hinweis:",
    "\u{e4}nderungen",
    "erkl\u{e4}rung:",
    "remarque",
    "note :",
    "changements",
    "explication",
    "nota:",
    "cambios",
    "explicaci\u{f3}n",
    "modifiche",
    "altera\u{e7}\u{f5}es",
    "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{447}\u{430}\u{43d}\u{438}\u{435}",
    "\u{438}\u{437}\u{43c}\u{435}\u{43d}\u{435}\u{43d}\u{438}\u{44f}",
    "\u{6ce8}:",
    "\u{6ce8}\u{ff1a}",
    "\u{6ce8}\u{610f}\u{ff1a}",
    "\u{8bf4}\u{660e}\u{ff1a}",
    "\u{8aac}\u{660e}\u{ff1a}",
    "\u{6ce8}\u{91ca}\u{ff1a}",
    "\u{4fee}\u{6539}\u{8bf4}\u{660e}",
    "\u{ccb8}\u{ace0}:",
    "\u{8ffd}\u{8a18}",
];

/// Starts of notes in lower case that may follow a sentence on the same line.
const NOTE_SENTENCES: &[&str] = &[
    "note: i ",
    "note: the original",
    "note: this ",
    "note that i ",
    "changes made:",
    "changes:",
    "i changed the",
    "i've changed the",
    "i have changed the",
    "i replaced the",
    "i've replaced the",
    "i have replaced the",
    "i altered the",
    "i modified the",
    "i've modified the",
    "i have modified the",
    "i swapped the",
    "explanation: i",
    "explanation: the",
    "let me know if you",
    "i hope this helps",
    "hope this helps",
    "hope that helps",
    "that is correct.",
    "that is correct!",
    "that's correct.",
    "that's correct!",
    "this is correct.",
    "that is right.",
    "that's right.",
    "is that correct?",
    "is this correct?",
];

/// Verbs of a sentence about the rewritten text.
const DOES: &[&str] = &["alters", "changes", "contradicts", "introduces", "replaces", "swaps"];

/// Adjectives of a sentence about the rewritten text, if one of [`REASONS`] follows.
const FALSE: &[&str] = &["false", "inaccurate", "incorrect", "wrong"];
const REASONS: &[&str] = &["as", "because", "since"];

/// Verbs in lower case at the start of an item in a list of changes.
const CHANGES: &[&str] =
    &["added", "altered", "changed", "modified", "moved", "removed", "replaced", "swapped"];

/// Labels in lower case of the original answer or of an analysis of it.
const ORIGINALS: &[&str] = &[
    "analysis",
    "before",
    "correct answer",
    "correct response",
    "explanation",
    "input",
    "old",
    "original",
    "original answer",
    "original caption",
    "original description",
    "original response",
    "original sentence",
    "original text",
    "original version",
    "reasoning",
    "the original answer",
    "the original description",
    "the original response",
    "thinking",
    "thinking process",
    "thought",
    "thoughts",
];

const ARROWS: &[&str] = &["-->", "->", "==>", "=>", "\u{2192}", "\u{27f6}", "\u{21d2}"];

/// Returns whether a text begins with a note that the right answer does not have.
pub(super) fn begins_note(text: &str, answer: &str) -> bool {
    let item = text.chars().take(64).find(|c| !c.is_whitespace()).is_some_and(|c| "-*\u{2022}".contains(c));
    let head = note_head(text);
    let starts = |phrase: &&&str| head.starts_with(**phrase);
    let phrase = NOTES.iter().find(starts).or_else(|| CHANGES.iter().filter(|_| item).find(starts));
    phrase.is_some_and(|phrase| !answer.to_lowercase().contains(phrase.trim()))
        || is_about_text(&head, answer)
}

/// Returns whether a sentence is about the rewritten text: "This response introduces", "In this
/// version, the cup", "This is incorrect because". "This version of the poster" may be part of an
/// answer.
fn is_about_text(head: &str, answer: &str) -> bool {
    let words: Vec<&str> = head.split_whitespace().collect();
    let is_in = words.first() == Some(&"in");
    let [this, rest @ ..] = &words[usize::from(is_in)..] else { return false };
    let adjectives = rest.iter().take_while(|word| is_new(word)).count();
    if *this != "this" && (*this != "the" || adjectives == 0) {
        return false;
    }
    let rest = &rest[adjectives..];
    let length = match rest {
        [text, ..] if is_in && text.strip_suffix(',').is_some_and(|text| TEXTS.contains(&text)) => 1,
        _ if is_in => return false,
        [text, does, ..] if TEXTS.contains(text) && DOES.contains(does) => 2,
        [does, ..] if adjectives == 0 && DOES.contains(does) => 1,
        ["is", wrong, reason, ..] if adjectives == 0 && FALSE.contains(wrong) && REASONS.contains(reason) => {
            3
        }
        _ => return false,
    };
    let phrase = words[..usize::from(is_in) + 1 + adjectives + length].join(" ");
    !answer.to_lowercase().contains(&phrase)
}

/// Returns the start of a text in lower case, without list marks, emphasis and an opening bracket.
fn note_head(text: &str) -> String {
    const LONGEST: usize = 64;
    // Bounds the time for replies of many marks.
    const MOST_MARKS: usize = 64;
    let text = text.char_indices().nth(LONGEST + MOST_MARKS).map_or(text, |(at, _)| &text[..at]);
    let bare = text.trim_start_matches(|c: char| {
        c.is_whitespace() || "*_#>([-\u{2022}\u{2013}\u{2014}\u{ff08}\u{3010}".contains(c)
    });
    bare.chars().take(LONGEST).collect::<String>().to_lowercase().replace('\u{2019}', "'").replace("**", "")
}

/// Returns the text before the first note.
pub(super) fn before_note(text: &str, answer: &str) -> Option<Rest> {
    let at = note_starts(text).find(|&(at, place)| is_note_at(&text[at..], place, answer))?.0;
    let rest = text[..at].trim_end().trim_end_matches(['-', '*', '_', '=', '\n', '#', ' ']).trim_end();
    // An answer that ends in emphasis keeps its mark.
    let rest = if rest.is_empty() { "" } else { closing_emphasis(&text[..at], rest) };
    (!rest.is_empty()).then(|| Rest { ended: true, ..Rest::of(rest) })
}

/// Returns `rest` with the marks of emphasis that follow it in `text`.
fn closing_emphasis<'a>(text: &'a str, rest: &'a str) -> &'a str {
    let behind = &text[rest.len()..];
    let marks = behind.len() - behind.trim_start_matches(['*', '_']).len();
    &text[..rest.len() + marks]
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Line,
    Bracket,
    Sentence,
}

/// Iterates over the places where a note may begin: lines, brackets, and sentences.
fn note_starts(text: &str) -> impl Iterator<Item = (usize, Place)> + '_ {
    let mut before = ['\n'; 2];
    text.char_indices().filter_map(move |(at, c)| {
        let [earlier, last] = before;
        before = [last, c];
        let place = match (last, c) {
            (_, '(' | '[' | '\u{ff08}' | '\u{3010}') => Place::Bracket,
            ('\n', _) => Place::Line,
            (' ', _) if ".!?\"\u{201d}*)".contains(earlier) => Place::Sentence,
            _ => return None,
        };
        (at > 0).then_some((at, place))
    })
}

fn is_note_at(text: &str, place: Place, answer: &str) -> bool {
    match place {
        Place::Line => begins_note(text, answer) || is_note_sentence(text, answer),
        Place::Bracket => begins_note(text, answer) && closes_line(text),
        Place::Sentence => is_note_sentence(text, answer) || is_about_text(&note_head(text), answer),
    }
}

/// Returns whether a text begins with a phrase of [`NOTE_SENTENCES`] that the right answer does not
/// have.
fn is_note_sentence(text: &str, answer: &str) -> bool {
    let head = note_head(text);
    let phrase = NOTE_SENTENCES.iter().find(|phrase| head.starts_with(**phrase));
    phrase.is_some_and(|phrase| !answer.to_lowercase().contains(phrase.trim()))
}

/// Returns whether a sentence has a note in brackets. "(originally red)" may be part of an answer.
pub(super) fn has_bracketed_note(text: &str, answer: &str) -> bool {
    note_starts(text).any(|(at, place)| {
        place == Place::Bracket
            && begins_note(&text[at..], answer)
            && !["note that", "originally"].iter().any(|phrase| note_head(&text[at..]).starts_with(phrase))
    })
}

/// Returns whether only punctuation follows a closing bracket on its line.
fn closes_line(text: &str) -> bool {
    let Some(close) = text.find([')', ']', '\u{ff09}', '\u{3011}']) else { return true };
    let behind = text[close..].lines().next().unwrap_or_default();
    !behind.contains(char::is_alphanumeric)
}

/// Returns the new answer after the original: "Original: ... New: ...", or the right answer, an
/// arrow and the new answer.
pub(super) fn after_original(text: &str, answer: &str) -> Option<Rest> {
    after_arrow(text, answer).or_else(|| after_original_label(text, answer))
}

fn after_arrow(text: &str, answer: &str) -> Option<Rest> {
    ARROWS.iter().find_map(|arrow| {
        let (before, after) = text.split_once(arrow)?;
        let before = before.trim().trim_matches(['"', '\'', '*']);
        (same_text(before, answer) && !after.trim().is_empty()).then(|| Rest::of(after.trim()))
    })
}

fn after_original_label(text: &str, answer: &str) -> Option<Rest> {
    let (first, rest) = text.split_once(':')?;
    let first = bare(first);
    if !ORIGINALS.contains(&first.as_str()) || answer.trim().to_lowercase().starts_with(&first) {
        return None;
    }
    let after: Vec<&str> = rest
        .match_indices(':')
        .filter(|&(at, _)| ends_in_label(&rest[..at]))
        .map(|(at, _)| &rest[at + 1..])
        .collect();
    match after.as_slice() {
        [only] => Some(Rest::of(only.trim_start_matches(['*', '_', ' ']))),
        _ => None,
    }
}

/// Returns whether a text ends in the label of a rewrite, at the start of a line or after a
/// sentence.
fn ends_in_label(before: &str) -> bool {
    // Bounds the time for replies of many colons.
    const LONGEST: usize = 80;
    let start = before.len().saturating_sub(LONGEST);
    let start = (start..=before.len()).find(|&at| before.is_char_boundary(at)).unwrap_or(start);
    let before = &before[start..];
    let line = before.rsplit('\n').next().unwrap_or(before);
    let sentence = line.rsplit(['.', '!', '?', '"', '\u{201d}', ';', '|', '>', '/']).next().unwrap_or(line);
    is_label(&bare(sentence))
}

fn bare(label: &str) -> String {
    label.trim().trim_matches(['*', '_', '#', ' ', '-', '[', ']', '>', '\u{2192}', '(', ')']).to_lowercase()
}
