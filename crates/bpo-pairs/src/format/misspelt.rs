//! Finds misspelt keys of records.
//!
//! Data of other programs have further keys, which readers ignore. An optional key with a typing error
//! would be ignored, too: the pair would lose its image or its contrast without an error. So a record
//! is skipped if it has a key that no format has and that differs by one letter from a key that the
//! record lacks. Names of at least [`LONG`] letters may differ by two.

use super::Format;
use super::fields::{Fields, describe, quoted};
use crate::skipped::{SkipCause, SkipReason};

/// Length of a name from which on two letters may differ.
const LONG: usize = 12;

/// Names of one value. A record needs one of them at most.
type Names = &'static [&'static str];

/// Optional keys of all records.
const SHARED: [Names; 4] =
    [&["image", "images"], &["video", "videos"], &["system", "system_prompt"], &["history"]];
/// Optional keys of all pairs.
const OF_PAIRS: [Names; 7] = [
    &["kind"],
    &["chosen_kind"],
    &["provenance"],
    &["margin", "score_margin"],
    &["beta"],
    &["contrast_images"],
    &["contrast_answer"],
];
/// The answers of a pair.
const ANSWERS: [Names; 2] = [&["chosen"], &["rejected"]];
const PROMPT: [Names; 1] = [&["prompt"]];
const QUESTION: [Names; 1] = [&["question"]];
const COMPLETIONS: [Names; 1] = [&["completions"]];
const CONVERSATIONS: [Names; 1] = [&["conversations", "messages"]];
const REJECTED_RESPONSE: [Names; 1] = [&["rejected_response", "rejected_messages"]];
const REJECTED_CONVERSATIONS: [Names; 1] = [&["rejected_conversations"]];

/// All of these.
const ALL: [&[Names]; 9] = [
    &SHARED,
    &PROMPT,
    &ANSWERS,
    &QUESTION,
    &COMPLETIONS,
    &CONVERSATIONS,
    &REJECTED_RESPONSE,
    &REJECTED_CONVERSATIONS,
    &OF_PAIRS,
];

/// Further keys that a reader of some format takes.
const OTHERS: [&str; 22] = [
    "id",
    "idx",
    "question_id",
    "text",
    "query",
    "response",
    "answer",
    "instruction",
    "input",
    "output",
    "conversation",
    "rejected_images",
    "image_path",
    "ds_name",
    "origin_dataset",
    "origin_split",
    "label",
    "category",
    "prompt_id",
    "audio",
    "audios",
    "type",
];

/// Checks that a record of a format has no misspelt key.
///
/// # Errors
/// Returns [`SkipReason::Malformed`] with the key, its value and the key that it resembles.
pub(super) fn check(fields: &Fields, format: Format) -> Result<(), SkipCause> {
    let of_format: &[&[Names]] = match format {
        Format::Llava => &[],
        Format::Bpo => &[&PROMPT, &COMPLETIONS],
        Format::Pairs | Format::Trl | Format::TrlPlain => &[&PROMPT, &ANSWERS, &OF_PAIRS],
        Format::LlamaFactory => &[&ANSWERS, &OF_PAIRS],
        Format::RlaifV => &[&QUESTION, &ANSWERS, &OF_PAIRS],
        Format::MsSwift => &[&REJECTED_RESPONSE, &OF_PAIRS],
        Format::Povid => &[&REJECTED_CONVERSATIONS, &OF_PAIRS],
        Format::RlhfV => &[&OF_PAIRS],
    };
    refuse(fields, of_format)
}

/// Checks that a record of questions has no misspelt key.
///
/// # Errors
/// Returns the errors of [`check`].
pub(super) fn check_question(fields: &Fields) -> Result<(), SkipCause> {
    refuse(fields, &[])
}

fn refuse(fields: &Fields, others: &[&[Names]]) -> Result<(), SkipCause> {
    let wanted = SHARED.iter().chain(others.iter().copied().flatten());
    match find(fields, wanted) {
        None => Ok(()),
        Some((key, meant)) => Err(SkipCause::new(
            SkipReason::Malformed,
            format_args!(
                "{} is not a known key, found {}: did you mean {meant:?}? Rename it, or remove it if it means something else",
                quoted(key),
                describe(fields.get(key))
            ),
        )),
    }
}

/// Returns the first key that resembles a key of any format, and the latter.
pub(super) fn any(fields: &Fields) -> Option<(&str, &'static str)> {
    find(fields, ALL.iter().copied().flatten())
}

/// Returns the first key of no format that resembles one of `wanted`, and the latter.
fn find<'a, 'b>(
    fields: &'a Fields,
    wanted: impl Iterator<Item = &'b Names> + Clone,
) -> Option<(&'a str, &'static str)> {
    fields.keys().filter(|key| !is_known(key)).find_map(|key| {
        let lacks = |names: &&Names| !names.iter().any(|name| fields.has(name));
        let mut names = wanted.clone().filter(lacks).flat_map(|names| names.iter());
        names.find(|name| resembles(key, name)).map(|name| (key, *name))
    })
}

/// Returns whether a reader of some format takes a key.
fn is_known(key: &str) -> bool {
    OTHERS.contains(&key) || ALL.iter().copied().flatten().any(|names| names.contains(&key))
}

/// Returns whether a key is a name but for the case of letters, a hyphen or a typing error after the
/// first letter.
fn resembles(key: &str, name: &str) -> bool {
    let most = if name.len() < LONG { 1 } else { 2 };
    // most keys differ in their length or first letter
    if key.len().abs_diff(name.len()) > most || !name.starts_with(|first: char| starts(key, first)) {
        return false;
    }
    let key = key.to_lowercase().replace(['-', ' '], "_");
    strsim::osa_distance(&key, name) <= most
}

fn starts(key: &str, first: char) -> bool {
    key.chars().next().is_some_and(|letter| letter.eq_ignore_ascii_case(&first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<(String, &'static str)> {
        let fields: Fields = serde_json::from_str::<serde_json::Map<_, _>>(json)
            .unwrap()
            .into_iter()
            .map(|(key, value): (String, serde_json::Value)| (key, value.into()))
            .collect();
        any(&fields).map(|(key, meant)| (key.to_owned(), meant))
    }

    #[test]
    fn typing_errors_are_found() {
        for (key, meant) in [
            ("imgae", "image"),
            ("Image", "image"),
            ("image0", "image"),
            ("rejectd", "rejected"),
            ("choosen", "chosen"),
            ("contrast_image", "contrast_images"),
            ("contrast-answers", "contrast_answer"),
            ("contrastAnswer", "contrast_answer"),
            ("histroy", "history"),
            ("margins", "margin"),
            ("chosen_kid", "chosen_kind"),
            ("rejected_respons", "rejected_response"),
        ] {
            assert_eq!(found(&format!("{{{key:?}: 1}}")), Some((key.to_owned(), meant)), "{key}");
        }
    }

    #[test]
    fn keys_of_other_programs_are_no_typing_errors() {
        // TRL, UltraFeedback, RLHF-V, RLAIF-V, LLaVA, ms-swift, LLaMA-Factory
        for key in [
            "prompt_id",
            "score_chosen",
            "score_rejected",
            "chosen_rating",
            "rejected_rating",
            "chosen_model",
            "chosen_id",
            "rejected_id",
            "chosen_score",
            "image_id",
            "image_name",
            "image_url",
            "image_path",
            "meta",
            "metadata",
            "source",
            "model",
            "tools",
            "width",
            "height",
            "idx",
            "ds_name",
            "origin_dataset",
            "origin_split",
            "question_type",
            "question_id",
            "channel",
            "objects",
            "tag",
            "task",
            "bbox",
            "lang",
            "language",
            "id",
            "text",
            "best",
            "kto_tag",
            "label",
        ] {
            assert_eq!(found(&format!("{{{key:?}: 1}}")), None, "{key}");
        }
        // the record has the key itself, or another name of it
        for json in [
            r#"{"image": "a", "imgae": "b"}"#,
            r#"{"images": ["a"], "image0": "b"}"#,
            r#"{"margin": 1, "margins": 2}"#,
        ] {
            assert_eq!(found(json), None, "{json}");
        }
    }
}
