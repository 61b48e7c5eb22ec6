//! Removal of text that encloses a whole answer: quotation marks, emphasis, code fences, JSON and
//! tags.

use serde_json::Value;

use super::cut::Rest;
use super::label::{is_preamble, names_new_text};
use super::note::begins_note;

const FENCE: &str = "```";

const QUOTES: &[(&str, &str)] = &[
    ("\"\"\"", "\"\"\""),
    ("**", "**"),
    ("__", "__"),
    ("\"", "\""),
    ("'", "'"),
    ("`", "`"),
    ("*", "*"),
    ("\u{201c}", "\u{201d}"),
    ("\u{2018}", "\u{2019}"),
    ("\u{201e}", "\u{201c}"),
    ("\u{201e}", "\u{201d}"),
    ("\u{ab}", "\u{bb}"),
    ("\u{300c}", "\u{300d}"),
];

/// Names of tags and JSON keys that contain an answer, in lower case and without `_`, `-` and
/// spaces, in addition to those of [`names_new_text`].
const HOLDERS: &[&str] =
    &["answer", "assistant", "caption", "content", "description", "output", "response", "result", "text"];

/// Removes one pair of quotation marks or emphasis, unless the right answer has it too.
pub(super) fn without_quotes(text: &str, answer: &str) -> Option<Rest> {
    QUOTES.iter().find_map(|(open, close)| {
        let inner = enclosed(text, open, close)?;
        enclosed(answer.trim(), open, close).is_none().then(|| Rest::of(inner))
    })
}

fn enclosed<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let inner = text.strip_prefix(open)?.strip_suffix(close)?;
    (!inner.contains(open) && !inner.contains(close)).then_some(inner)
}

/// Removes `>` from the start of all lines, unless the right answer begins with it.
pub(super) fn without_quote_lines(text: &str, answer: &str) -> Option<Rest> {
    if answer.trim_start().starts_with('>') {
        return None;
    }
    let lines: Option<Vec<&str>> =
        text.lines().map(|line| line.strip_prefix('>').map(str::trim_start)).collect();
    lines.map(|lines| Rest::of(&lines.join("\n")))
}

/// Returns the text in the first code fence if only an announcement precedes it, and only a note
/// follows it.
pub(super) fn without_fence(text: &str, answer: &str) -> Option<Rest> {
    if answer.contains(FENCE) {
        return None;
    }
    let (before, rest) = text.split_once(FENCE)?;
    let (inner, after) = rest.split_once(FENCE).unwrap_or((rest, ""));
    let (before, after) = (before.trim(), after.trim());
    let announced = before.is_empty() || before.ends_with(':') || is_preamble(before);
    let only_notes = after.is_empty() || begins_note(after, answer);
    if !announced || !only_notes {
        return None;
    }
    Some(Rest { ended: rest.contains(FENCE), ..Rest::of(without_language(inner)) })
}

/// Removes the name of a language after the opening fence.
fn without_language(inner: &str) -> &str {
    match inner.split_once('\n') {
        Some((first, rest))
            if first.trim().chars().all(|c| c.is_ascii_alphanumeric() || "+-_".contains(c)) =>
        {
            rest
        }
        _ => inner,
    }
}

/// Returns whether a text has a code fence.
pub(super) fn has_fence(text: &str) -> bool {
    text.contains(FENCE)
}

/// Returns the only text in a JSON object or array, or the only one whose key names an answer,
/// unless the right answer is JSON.
pub(super) fn without_json(text: &str, answer: &str) -> Option<Rest> {
    if is_json(answer) {
        return None;
    }
    match json(text)? {
        Value::Array(items) => match items.as_slice() {
            [Value::String(inner)] => Some(Rest::of(inner)),
            _ => None,
        },
        Value::Object(fields) => {
            let texts = || fields.iter().filter_map(|(key, value)| Some((key, value.as_str()?)));
            let named: Vec<&str> = texts().filter(|(key, _)| is_holder(key)).map(|(_, text)| text).collect();
            match (named.as_slice(), fields.len(), texts().next()) {
                ([inner], ..) => Some(Rest::of(inner)),
                ([], 1, Some((_, inner))) => Some(Rest::of(inner)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Returns whether a text is a JSON object or array.
pub(super) fn is_json(text: &str) -> bool {
    json(text).is_some()
}

fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Returns the text in a tag that names an answer, such as `<answer>`.
pub(super) fn without_tag(text: &str, answer: &str) -> Option<Rest> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    if !is_holder(name) || answer.trim_start().starts_with('<') {
        return None;
    }
    let close = format!("</{name}>");
    match rest.split_once(&close) {
        None => Some(Rest::of(rest)),
        Some((inner, after)) if after.trim().is_empty() || begins_note(after.trim(), answer) => {
            Some(Rest { ended: true, ..Rest::of(inner) })
        }
        Some(_) => None,
    }
}

const BOX: &str = "\\boxed{";

/// Returns the text in `\boxed{...}`, also between dollar signs or with `\text{...}`.
pub(super) fn without_box(text: &str, answer: &str) -> Option<Rest> {
    if has_box(answer) {
        return None;
    }
    let inner = text.trim_end_matches('.').trim_matches('$').strip_prefix(BOX)?.strip_suffix('}')?;
    let inner = inner.strip_prefix("\\text{").and_then(|inner| inner.strip_suffix('}')).unwrap_or(inner);
    (!inner.contains(['{', '}'])).then(|| Rest::of(inner))
}

/// Returns whether a text has `\boxed{`.
pub(super) fn has_box(text: &str) -> bool {
    text.contains(BOX)
}

fn is_holder(name: &str) -> bool {
    let name = name.to_lowercase();
    let bare: String = name.chars().filter(|c| c.is_alphanumeric()).collect();
    HOLDERS.contains(&bare.as_str()) || names_new_text(&name.replace(['_', '-'], " "))
}
