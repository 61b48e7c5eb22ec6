//! Detects the placeholders of other models for images, videos and sounds.

use std::fmt;

use memchr::memchr2;

use crate::format::fields::quoted;
use crate::sft::IMAGE_TOKEN;
use crate::skipped::{SkipCause, SkipReason};

/// Names of placeholders: lower case, without brackets, slashes and digits. `image` matches any
/// spelling except [`IMAGE_TOKEN`].
const NAMES: [&str; 33] = [
    // LLaVA and its family
    "im_start",
    "im_end",
    "im_patch",
    "vid_start",
    "vid_end",
    "vid_patch",
    "image-placeholder",
    "image_placeholder",
    // MiniGPT-4, InternLM-XComposer
    "imagehere",
    "img",
    // Qwen-VL
    "|vision_start|",
    "|vision_end|",
    "|image_pad|",
    "|video_pad|",
    "|audio_pad|",
    // Phi-3, Llama 3.2, mPLUG-Owl
    "image",
    "|image|",
    "|image_|",
    "|video|",
    "|audio|",
    // InternVL, Pixtral, Gemma 3, Idefics, GLM, Kimi
    "img_context",
    "img_end",
    "img_break",
    "start_of_image",
    "end_of_image",
    "image_soft_token",
    "fake_token_around_image",
    "|begin_of_image|",
    "|end_of_image|",
    "|media_placeholder|",
    // video and sound
    "video",
    "audio",
    "speech",
];

/// Placeholders that are also HTML tags, which an answer may mention.
const TAGS: [&str; 4] = ["image", "img", "video", "audio"];

/// Maximum length of a placeholder in bytes, including brackets.
const LONGEST: usize = 40;

/// Checks that a question or a system text has no placeholder of another model, which would be read
/// as plain text. `key` names the text in the message.
pub(crate) fn check_question(key: impl fmt::Display, text: &str) -> Result<(), SkipCause> {
    refuse(key, text, |_| true)
}

/// Checks an answer in the same way, but allows HTML tags.
pub(crate) fn check_answer(key: impl fmt::Display, text: &str) -> Result<(), SkipCause> {
    refuse(key, text, |name| !TAGS.contains(&name))
}

/// Checks both answers of a pair.
pub(crate) fn check_answers(chosen: &str, rejected: &str) -> Result<(), SkipCause> {
    check_answer("chosen", chosen).and_then(|()| check_answer("rejected", rejected))
}

fn refuse(key: impl fmt::Display, text: &str, counts: impl Fn(&str) -> bool) -> Result<(), SkipCause> {
    // most texts have no bracket, and `match_indices` compares one character at a time
    let has_bracket = memchr2(b'<', b'[', text.as_bytes()).is_some();
    match has_bracket.then(|| placeholders(text).find(|(_, name)| counts(name))).flatten() {
        None => Ok(()),
        Some((found, _)) => Err(SkipCause::new(
            SkipReason::OtherPlaceholder,
            format_args!("`{key}`: expected {IMAGE_TOKEN} or no placeholder, found {}", quoted(found)),
        )),
    }
}

/// Returns each placeholder in a text, as written and by its normalized name.
fn placeholders(text: &str) -> impl Iterator<Item = (&str, String)> {
    let opened = text.match_indices(['<', '[']).map(|(start, bracket)| (&text[start..], bracket));
    opened.filter_map(|(rest, bracket)| {
        let end = rest.find(if bracket == "<" { '>' } else { ']' }).filter(|end| *end < LONGEST)?;
        let found = &rest[..=end];
        if found == IMAGE_TOKEN {
            return None;
        }
        let inside = &rest[1..end];
        let name: String = inside
            .chars()
            .filter(|character| *character != '/' && !character.is_ascii_digit())
            .map(|character| character.to_ascii_lowercase())
            .collect();
        // square brackets are common in prose, so only Pixtral's placeholders in capitals count
        let form = bracket == "<" || inside.starts_with("IMG");
        let name = name.trim().trim_end_matches('_').to_owned();
        (form && NAMES.contains(&name.as_str())).then_some((found, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_other_models_are_found() {
        for found in [
            "<ImageHere>",
            "<Img>",
            "</img>",
            "<|image_pad|>",
            "<|vision_start|>",
            "<|image_1|>",
            "<im_start>",
            "<video>",
            "<audio>",
            "<Image>",
            "<image1>",
            "<image 2>",
            "<image_3>",
            "<IMG_CONTEXT>",
            "[IMG]",
            "<start_of_image>",
        ] {
            let text = format!("a < b, [1] and {found}\nWhat?");
            let cause = check_question("prompt", &text).unwrap_err();
            assert_eq!(cause.reason, SkipReason::OtherPlaceholder);
            assert!(
                cause
                    .detail
                    .ends_with(&format!("`prompt`: expected <image> or no placeholder, found {found:?}"))
            );
        }
    }

    #[test]
    fn other_text_is_no_placeholder() {
        for text in [
            "<image>\nWhat?",
            "Is 1 < 2 > 0?",
            "What does <div class=\"img\"> do?",
            "[img] [1] <b>bold</b> <images> <|im_start|>",
            "<",
            "[",
        ] {
            assert_eq!(check_question("prompt", text), Ok(()), "{text}");
        }
        assert_eq!(check_answer("answer", "Use <video> or <img>."), Ok(()));
        assert!(check_answer("answer", "<ImageHere> A cat.").is_err());
    }
}
