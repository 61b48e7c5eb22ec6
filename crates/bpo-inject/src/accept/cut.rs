//! The rules that remove parts of a draft that do not belong to the answer.

use std::ops::ControlFlow;

use super::counts::Cut;
use super::{label, markers, note, wrapping};

/// Labels in lower case that begin another example or turn after the answer.
const NEXT_EXAMPLE: &[&str] = &[
    "question:",
    "description:",
    "response:",
    "modified response:",
    "modified description:",
    "user:",
    "assistant:",
    "human:",
    "instruction:",
    "q:",
];

/// Labels in lower case that begin a turn of the user. A text that begins with one is no answer.
const OTHER_SIDE: &[&str] = &["user:", "human:", "instruction:", "q:"];

/// Lines in lower case that begin a turn if the server has removed the chat markers.
const ROLE_LINES: &[&str] = &["user", "human", "assistant"];

/// Labels that start a turn within a line in some chat templates.
const TURNS: &[&str] = &[" USER:", " ASSISTANT:", " HUMAN:"];

/// Maximum number of rounds, which bounds the time for nested wrappers.
const MAX_ROUNDS: usize = 16;

/// The rest of a text after a part was removed.
pub(super) struct Rest {
    /// The text.
    pub text: String,
    /// Whether the removed text followed the answer, so that the answer is complete even in a
    /// truncated draft.
    pub ended: bool,
}

impl Rest {
    /// Creates a rest that is complete only if the draft is.
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned(), ended: false }
    }
}

/// A rule. It takes a text and the right answer, and returns the rest if there is a part to remove.
type Rule = fn(&str, &str) -> Option<Rest>;

/// The rules, in order. No rule removes text that the right answer also has.
const RULES: &[(Cut, Rule)] = &[
    (Cut::Reasoning, markers::after_reasoning),
    (Cut::ChatMarker, markers::without_markers),
    (Cut::CodeFence, wrapping::without_fence),
    (Cut::Wrapper, wrapping::without_json),
    (Cut::Wrapper, wrapping::without_tag),
    (Cut::Wrapper, wrapping::without_box),
    (Cut::Original, note::after_original),
    (Cut::NextExample, before_next_example),
    (Cut::Note, note::before_note),
    (Cut::Preamble, label::without_preamble),
    (Cut::Label, label::without_label),
    (Cut::Label, label::without_name),
    (Cut::Quotes, wrapping::without_quotes),
    (Cut::Quotes, wrapping::without_quote_lines),
];

/// A draft without the removed parts.
pub(super) struct Cleaned {
    /// The answer.
    pub text: String,
    /// Whether the answer is complete even if the draft is truncated.
    pub complete: bool,
    /// Kinds of removed text, each once.
    pub cuts: Vec<Cut>,
    /// Whether more could be removed after [`MAX_ROUNDS`].
    pub too_deep: bool,
}

/// Applies the rules until none applies.
pub(super) fn clean(text: &str, answer: &str) -> Cleaned {
    let mut cleaned =
        Cleaned { text: text.trim().to_owned(), complete: false, cuts: Vec::new(), too_deep: false };
    for _ in 0..MAX_ROUNDS {
        if round(&mut cleaned, answer).is_break() {
            return cleaned;
        }
    }
    cleaned.too_deep = round(&mut cleaned, answer).is_continue();
    cleaned
}

/// Applies the first rule that removes something.
fn round(cleaned: &mut Cleaned, answer: &str) -> ControlFlow<()> {
    for (cut, rule) in RULES {
        let Some(rest) = rule(&cleaned.text, answer) else { continue };
        let text = rest.text.trim();
        if text.len() >= cleaned.text.len() {
            continue;
        }
        cleaned.text = text.to_owned();
        cleaned.complete |= rest.ended;
        if !cleaned.cuts.contains(cut) {
            cleaned.cuts.push(*cut);
        }
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(())
}

fn before_next_example(text: &str, answer: &str) -> Option<Rest> {
    let lower = answer.to_lowercase();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let label = label_of(line, NEXT_EXAMPLE).filter(|label| start > 0 && !lower.contains(label));
        let label = label.or_else(|| role_line(line).filter(|role| start > 0 && !lower.contains(role)));
        let turn = TURNS.iter().filter(|turn| !answer.contains(turn.trim())).find_map(|turn| line.find(turn));
        if let Some(at) = label.map(|_| 0).or(turn) {
            return Some(Rest { ended: true, ..Rest::of(text[..start + at].trim_end()) });
        }
        start += line.len();
    }
    None
}

/// Returns the label in lower case at the start of a line, after heading marks and emphasis.
fn label_of<'a>(line: &str, labels: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 32;
    let bare = line.trim_start_matches(|c: char| c.is_whitespace() || "#*_".contains(c));
    let head = bare.chars().take(LONGEST).collect::<String>().to_lowercase();
    labels.iter().find(|label| head.starts_with(**label)).copied()
}

/// Returns the role if a line has nothing else but heading marks and emphasis.
fn role_line(line: &str) -> Option<&'static str> {
    let bare = line.trim_matches(|c: char| c.is_whitespace() || "#*_".contains(c));
    ROLE_LINES.iter().find(|role| bare.eq_ignore_ascii_case(role)).copied()
}

/// Returns whether a text begins with a turn of the user whose label the right answer does not
/// have.
pub(super) fn begins_other_side(text: &str, answer: &str) -> bool {
    label_of(text, OTHER_SIDE).is_some_and(|label| !answer.to_lowercase().contains(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_is_removed() {
        let cases = [
            ("Answer: A dog.", "A dog."),
            ("**Modified response:** A dog.", "A dog."),
            ("Modified Response: \"A dog.\"", "A dog."),
            ("Sure! Here is the modified response:\n\nA dog.", "A dog."),
            ("\u{201c}A dog.\u{201d}", "A dog."),
            ("A dog.\nQuestion: What else? Response: 4", "A dog."),
            ("\"A dog.\"\nQuestion: What else?", "A dog."),
            ("Response:", ""),
            ("\"", "\""),
        ];
        for (raw, cleaned) in cases {
            assert_eq!(clean(raw, "A cat.").text, cleaned, "{raw:?}");
        }
    }

    #[test]
    fn answer_text_is_kept() {
        let texts = [
            "The sign says \"stop\"",
            "\"Stop\" and \"go\"",
            "The time: 12:30.",
            "Here is a cat.\nIt sleeps.",
        ];
        for text in texts {
            assert_eq!(clean(text, "A cat.").text, text);
        }
    }

    #[test]
    fn too_deep_nesting_is_detected() {
        assert!(!clean("Answer: Answer: A dog.", "A cat.").too_deep);
        assert!(clean(&"Answer: ".repeat(30_000), "A cat.").too_deep);
        let colons = format!("Original: {}", ":".repeat(250_000));
        assert_eq!(clean(&colons, "A cat.").text, colons);
        let brackets = "[".repeat(250_000);
        assert_eq!(clean(&brackets, "A cat.").text, brackets);
    }
}
