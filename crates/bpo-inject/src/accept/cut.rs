//! The table of what is cut from a draft.

use std::ops::ControlFlow;

use super::counts::Cut;
use super::{label, markers, note, wrapping};

/// Labels that begin another example or turn, in lower case: a model that goes on with the list or chat has ended its
/// answer.
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

/// Labels that begin a turn of the other side, in lower case: a text that begins so is no answer.
const OTHER_SIDE: &[&str] = &["user:", "human:", "instruction:", "q:"];

/// Lines that begin a turn where the server has dropped the marks around them, in lower case.
const ROLE_LINES: &[&str] = &["user", "human", "assistant"];

/// Labels that begin a turn within a line, as some chat templates write them.
const TURNS: &[&str] = &[" USER:", " ASSISTANT:", " HUMAN:"];

/// Most rounds of cutting. What is still wrapped after these is no answer, and nesting cannot take long.
const MAX_ROUNDS: usize = 16;

/// What is left of a text when something was cut.
pub(super) struct Rest {
    /// The text that is left.
    pub text: String,
    /// What was cut stood behind the answer, so the answer has ended wherever the draft stops.
    pub ended: bool,
}

impl Rest {
    /// A text that may go on.
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned(), ended: false }
    }
}

/// Takes a text and the right answer, and gives what is left where there is something to cut.
type Rule = fn(&str, &str) -> Option<Rest>;

/// The rules in the order in which they are tried. Each leaves alone what the right answer has, too.
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
    (Cut::Quotes, wrapping::without_quotes),
    (Cut::Quotes, wrapping::without_quote_lines),
];

/// A draft without what is not the answer.
pub(super) struct Cleaned {
    /// The answer itself.
    pub text: String,
    /// The answer has ended wherever the draft stops.
    pub complete: bool,
    /// What was cut, each kind once.
    pub cuts: Vec<Cut>,
    /// More is wrapped around the answer than can be cut.
    pub too_deep: bool,
}

/// Cuts what is not the answer, until no rule finds anything.
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

/// Applies the first rule that finds something.
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

/// The label in lower case that a line begins with, whatever heading marks and emphasis stand before it.
fn label_of<'a>(line: &str, labels: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 32;
    let bare = line.trim_start_matches(|c: char| c.is_whitespace() || "#*_".contains(c));
    let head = bare.chars().take(LONGEST).collect::<String>().to_lowercase();
    labels.iter().find(|label| head.starts_with(**label)).copied()
}

/// The role that is all of a line, whatever heading marks stand before it.
fn role_line(line: &str) -> Option<&'static str> {
    let bare = line.trim_matches(|c: char| c.is_whitespace() || "#*_".contains(c));
    ROLE_LINES.iter().find(|role| bare.eq_ignore_ascii_case(role)).copied()
}

/// Whether a text begins with a turn of the other side of a chat, which the right answer does not have.
pub(super) fn begins_other_side(text: &str, answer: &str) -> bool {
    label_of(text, OTHER_SIDE).is_some_and(|label| !answer.to_lowercase().contains(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapping_comes_off() {
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
    fn the_text_itself_stays() {
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
    fn nesting_without_end_is_noticed() {
        assert!(!clean("Answer: Answer: A dog.", "A cat.").too_deep);
        assert!(clean(&"Answer: ".repeat(30_000), "A cat.").too_deep);
        let colons = format!("Original: {}", ":".repeat(250_000));
        assert_eq!(clean(&colons, "A cat.").text, colons);
        let brackets = "[".repeat(250_000);
        assert_eq!(clean(&brackets, "A cat.").text, brackets);
    }
}
