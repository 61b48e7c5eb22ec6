//! Takes off what a model puts around its answer.

/// Labels that models write before an answer, in lower case.
const LABELS: &[&str] = &[
    "answer",
    "assistant",
    "changed description",
    "description",
    "modified answer",
    "modified description",
    "modified response",
    "new answer",
    "new description",
    "new response",
    "output",
    "response",
    "the answer is",
];
/// Labels that begin another example: a model that goes on with the list has ended its answer.
const NEXT_EXAMPLE: &[&str] =
    &["question:", "description:", "response:", "modified response:", "modified description:"];
const PREAMBLES: &[&str] = &["certainly", "here", "of course", "okay", "sure"];
const QUOTES: &[(char, char)] = &[('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}'), ('`', '`')];

/// A draft without its wrapping.
pub(crate) struct Cleaned {
    /// The answer itself.
    pub text: String,
    /// Another example follows the answer, so the answer has ended wherever the draft stops.
    pub complete: bool,
}

/// Takes off a preamble line, labels, surrounding quotes and any further examples.
pub(crate) fn clean(text: &str) -> Cleaned {
    let mut text = without_thinking(text.trim());
    loop {
        let shorter = without_quotes(without_label(without_preamble(text))).trim();
        if shorter.len() == text.len() {
            break;
        }
        text = shorter;
    }
    let answer = before_next_example(text);
    Cleaned { text: without_quotes(answer).trim().to_owned(), complete: answer.len() < text.len() }
}

/// What reasoning models think aloud before their answer. Thinking without an end is no answer.
fn without_thinking(text: &str) -> &str {
    match text.strip_prefix("<think>") {
        Some(thinking) => thinking.split_once("</think>").map_or("", |(_, answer)| answer.trim_start()),
        None => text,
    }
}

/// "Sure! Here is the modified response:" on a line of its own.
fn without_preamble(text: &str) -> &str {
    match text.split_once('\n') {
        Some((first, rest)) if first.trim_end().ends_with(':') && starts_with_any(first, PREAMBLES) => {
            rest.trim_start()
        }
        _ => text,
    }
}

/// "Answer: ...", "**Modified response:** ...".
fn without_label(text: &str) -> &str {
    let bare = text.trim_start_matches(['*', '#', ' ']);
    let Some((label, rest)) = bare.split_once(':') else { return text };
    let label = label.trim_end_matches(['*', ' ']).to_lowercase();
    if LABELS.contains(&label.as_str()) { rest.trim_start_matches(['*', ' ']) } else { text }
}

/// One pair of quotes around the whole text.
fn without_quotes(text: &str) -> &str {
    for &(open, close) in QUOTES {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return inner;
        }
    }
    text
}

fn before_next_example(text: &str) -> &str {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if start > 0 && starts_with_any(line.trim_start(), NEXT_EXAMPLE) {
            return text[..start].trim_end();
        }
        start += line.len();
    }
    text
}

fn starts_with_any(text: &str, starts: &[&str]) -> bool {
    let text = text.to_lowercase();
    starts.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::clean;

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
            assert_eq!(clean(raw).text, cleaned, "{raw:?}");
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
            assert_eq!(clean(text).text, text);
        }
    }
}
