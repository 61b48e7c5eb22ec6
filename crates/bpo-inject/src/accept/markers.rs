//! Reasoning and chat markers, which chat templates put around turns and servers may leave in
//! replies.

use super::cut::Rest;

/// Marks around the reasoning of a model before its answer, in lower case.
const REASONING: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<analysis>", "</analysis>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("\u{25c1}think\u{25b7}", "\u{25c1}/think\u{25b7}"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>", "<unused95>"),
];

/// Lines in lower case before reasoning without marks, whose end is unknown.
const HEADINGS: &[&str] = &[
    "chain of thought",
    "let me think",
    "let's think step by step",
    "my thinking",
    "thinking",
    "thinking process",
    "thought process",
    "thoughts",
    "step-by-step reasoning",
];

/// Channels of gpt-oss without the special tokens, which some servers remove.
const BARE_CHANNELS: (&str, &str) = ("analysis", "assistantfinal");

/// Markers of chat templates in lower case, in addition to `<|name|>`.
const MARKERS: &[&str] = &[
    "<bos>",
    "<s>",
    "</s>",
    "<eos>",
    "[eos]",
    "<end_of_turn>",
    "<start_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|turn>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "<</sys>>",
];

/// Names of the assistant after a marker.
const ROLES: &[&str] = &["assistant", "model", "final", "bot", "gpt"];

/// Names of the user and the system after a marker.
const OTHER_ROLES: &[&str] = &["user", "system", "human", "developer"];

/// Returns the text after reasoning. Reasoning without an end, or without text after it, is kept
/// and rejected.
pub(super) fn after_reasoning(text: &str, answer: &str) -> Option<Rest> {
    if has_reasoning(answer) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let end = REASONING
        .iter()
        .filter_map(|(_, close)| lower.rfind(close).map(|at| at + close.len()))
        .chain(bare_channels(&lower))
        .max()?;
    let rest = text[end..].trim();
    (!rest.is_empty()).then(|| Rest::of(rest))
}

/// Returns an answer without the reasoning before it, or `None` if the answer is inside reasoning
/// that does not end, or no text follows it.
pub fn without_reasoning(text: &str) -> Option<String> {
    match after_reasoning(text, "") {
        Some(rest) => Some(rest.text),
        None => (!has_reasoning(text)).then(|| text.to_owned()),
    }
}

fn bare_channels(lower: &str) -> Option<usize> {
    let (open, close) = BARE_CHANNELS;
    lower.starts_with(open).then(|| lower.rfind(close)).flatten().map(|at| at + close.len())
}

/// Returns whether a text has a mark of reasoning.
pub(super) fn has_reasoning(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    REASONING.iter().any(|(open, close)| lower.contains(open) || lower.contains(close))
}

/// Returns whether a text begins with a heading of reasoning, such as "Thinking Process:".
pub(super) fn begins_reasoning(text: &str) -> bool {
    let Some((first, _)) = text.trim().split_once('\n') else { return false };
    let first = first.to_lowercase();
    let first = first.trim_matches(|c: char| c.is_whitespace() || "*#_".contains(c));
    HEADINGS.contains(&first.trim_end_matches([':', '\u{ff1a}', ' ', '.']))
}

/// Removes markers and turns of the user or the system from the start of a text, and everything
/// after the next marker.
pub(super) fn without_markers(text: &str, answer: &str) -> Option<Rest> {
    if has_marker(answer) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let mut start = 0;
    // Whether a turn of the user or the system follows.
    let mut other_side = false;
    loop {
        start += lower[start..].len() - lower[start..].trim_start().len();
        if let Some(length) = marker_at(&lower[start..]) {
            other_side = side(&lower[start..start + length]).unwrap_or(other_side);
            start += length;
            let (length, role) = role_at(&lower[start..]);
            other_side = role.unwrap_or(other_side);
            start += length;
        } else if other_side {
            // A turn of the user or the system without an answer is kept and rejected.
            start += marker_in(&lower[start..])?;
        } else {
            break;
        }
    }
    let end = marker_in(&lower[start..]).map(|at| start + at);
    let rest = text[start..end.unwrap_or(text.len())].trim();
    (rest.len() < text.len()).then(|| Rest { ended: end.is_some(), ..Rest::of(rest) })
}

/// Returns whether a marker begins a turn of the user or the system (`[INST]`, `<|user|>`: true) or
/// of the assistant (`[/INST]`, `<|assistant|>`: false). `None` for other markers.
fn side(marker: &str) -> Option<bool> {
    match marker {
        "[inst]" | "<<sys>>" => Some(true),
        "[/inst]" => Some(false),
        _ => role_side(marker.trim_matches(|c: char| !c.is_alphanumeric() && c != '/')),
    }
}

fn role_side(role: &str) -> Option<bool> {
    if ROLES.contains(&role) { Some(false) } else { OTHER_ROLES.contains(&role).then_some(true) }
}

/// Returns whether a text has a marker of a chat template.
pub(super) fn has_marker(text: &str) -> bool {
    marker_in(&text.to_ascii_lowercase()).is_some()
}

fn marker_in(lower: &str) -> Option<usize> {
    lower.match_indices(['<', '[']).map(|(at, _)| at).find(|&at| marker_at(&lower[at..]).is_some())
}

/// Returns the length of the marker at the start of a text: one of [`MARKERS`], or `<|name|>`, also
/// with full-width bars.
fn marker_at(lower: &str) -> Option<usize> {
    const LONGEST_NAME: usize = 32;
    if let Some(marker) = MARKERS.iter().find(|marker| lower.starts_with(**marker)) {
        return Some(marker.len());
    }
    [("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>")].iter().find_map(|(open, close)| {
        let rest = lower.strip_prefix(open)?;
        let nearby = rest.char_indices().nth(LONGEST_NAME).map_or(rest, |(at, _)| &rest[..at]);
        let (name, _) = nearby.split_once(close)?;
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-/\u{2581}".contains(c));
        is_name.then(|| open.len() + name.len() + close.len())
    })
}

/// Returns the length of the role at the start of a text, and whether it is the user or the system.
fn role_at(lower: &str) -> (usize, Option<bool>) {
    let role = ROLES.iter().chain(OTHER_ROLES).find(|role| {
        lower.strip_prefix(**role).is_some_and(|rest| rest.is_empty() || rest.starts_with(['\n', '<', ':']))
    });
    role.map_or((0, None), |role| {
        (role.len() + usize::from(lower[role.len()..].starts_with(':')), role_side(role))
    })
}
