//! Placement of the image token in a conversation.

use crate::placeholders::{check_answer, check_question};
use crate::sft::{IMAGE_TOKEN, Turn};
use crate::skipped::{SkipCause, SkipReason};

/// Returns the text of a prompt without its first image token and without surrounding white space.
pub fn strip_image_token(prompt: &str) -> String {
    prompt.replacen(IMAGE_TOKEN, "", 1).trim().to_owned()
}

/// Places exactly one image token at the start or end of the first question of a conversation.
///
/// A token in the middle of the text moves to the start, and a missing token is added there, as
/// LLaVA's `preprocess_multimodal` does.
///
/// # Errors
/// Returns [`SkipReason::ImageToken`] if the text has more than one image token.
pub fn place_image_token(prompt: &str) -> Result<String, SkipReason> {
    let trimmed = prompt.trim();
    match trimmed.matches(IMAGE_TOKEN).count() {
        1 if trimmed.starts_with(IMAGE_TOKEN) || trimmed.ends_with(IMAGE_TOKEN) => Ok(prompt.to_owned()),
        0 | 1 => Ok(format!("{IMAGE_TOKEN}\n{}", strip_image_token(trimmed))),
        _ => Err(SkipReason::ImageToken),
    }
}

/// Places the image token in the first question of a conversation; see [`place_image_token`]. The
/// first question is that of `history[0]`, or `prompt` if `history` is empty.
///
/// # Errors
/// Returns [`SkipReason::ImageToken`] if an answer of `history` or a later question has an image
/// token or the first question has several, and [`SkipReason::OtherPlaceholder`] if a text has an
/// image placeholder of another model, which would be read as plain text. For a placeholder, the
/// detail names the text: `history[0].prompt`, `prompt`.
pub fn place_in_conversation(history: &mut [Turn], prompt: &mut String) -> Result<(), SkipCause> {
    for (i, turn) in history.iter().enumerate() {
        check_question(&format!("history[{i}].prompt"), &turn.prompt)?;
        check_answer(&format!("history[{i}].answer"), &turn.answer)?;
    }
    check_question("prompt", prompt)?;
    place_in_first(history, prompt)
}

/// Does the same as [`place_in_conversation`], without the check for placeholders of other models.
pub(crate) fn place_in_first(history: &mut [Turn], prompt: &mut String) -> Result<(), SkipCause> {
    let in_answer = history.iter().any(|turn| turn.answer.contains(IMAGE_TOKEN));
    let mut questions = history.iter_mut().map(|turn| &mut turn.prompt).chain([prompt]);
    let first = questions.next().map(|first| place_image_token(first).map(|placed| *first = placed));
    let first = first.transpose().is_err();
    if first || in_answer || questions.any(|question| question.contains(IMAGE_TOKEN)) {
        return Err(misplaced());
    }
    Ok(())
}

/// Returns the error for a conversation with a repeated or misplaced image token.
pub(crate) fn misplaced() -> SkipCause {
    SkipCause::new(SkipReason::ImageToken, format_args!("expected {IMAGE_TOKEN} once, in the first question"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_kept_or_moved_to_the_start() {
        let cases = [
            ("<image>\nWhat?", "<image>\nWhat?"),
            ("What?\n<image>", "What?\n<image>"),
            ("What? <image>\n", "What? <image>\n"),
            ("What?", "<image>\nWhat?"),
            ("What is <image> about?", "<image>\nWhat is  about?"),
        ];
        for (prompt, expected) in cases {
            assert_eq!(place_image_token(prompt).as_deref(), Ok(expected), "{prompt:?}");
        }
        assert_eq!(place_image_token("<image><image>What?"), Err(SkipReason::ImageToken));
    }

    #[test]
    fn token_is_placed_in_the_first_question() {
        let turn = |prompt: &str, answer: &str| Turn { prompt: prompt.into(), answer: answer.into() };
        let mut history = [turn("What?", "A cat.")];
        let mut prompt = "Which color?".to_owned();
        assert_eq!(place_in_conversation(&mut history, &mut prompt), Ok(()));
        assert_eq!((history[0].prompt.as_str(), prompt.as_str()), ("<image>\nWhat?", "Which color?"));

        prompt = "<image> Which color?".to_owned();
        assert_eq!(place_in_conversation(&mut history, &mut prompt), Err(misplaced()));
        let mut answered = [turn("<image>What?", "<image>")];
        assert_eq!(place_in_conversation(&mut answered, &mut "Why?".to_owned()), Err(misplaced()));

        let mut other = [turn("What?", "A cat.")];
        let cause = place_in_conversation(&mut other, &mut "<ImageHere> Why?".to_owned()).unwrap_err();
        assert_eq!(cause.reason, SkipReason::OtherPlaceholder);
        assert!(
            cause.detail.contains("`prompt`: ") && cause.detail.contains("<ImageHere>"),
            "{}",
            cause.detail
        );
    }
}
