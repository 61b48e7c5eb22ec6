//! The place of the image token in a conversation.

use crate::placeholders::{check_answer, check_question};
use crate::sft::{IMAGE_TOKEN, Turn};
use crate::skipped::{Flaw, SkipReason};

/// The text of a prompt without its image token.
pub fn strip_image_token(prompt: &str) -> String {
    prompt.replacen(IMAGE_TOKEN, "", 1).trim().to_owned()
}

/// Gives the first question of a conversation exactly one image token, at its start or end.
///
/// A token between words moves to the start, and a missing one is put there, as LLaVA's `preprocess_multimodal` does.
///
/// # Errors
/// [`SkipReason::ImageToken`] if there is more than one.
pub fn place_image_token(prompt: &str) -> Result<String, SkipReason> {
    let trimmed = prompt.trim();
    match trimmed.matches(IMAGE_TOKEN).count() {
        1 if trimmed.starts_with(IMAGE_TOKEN) || trimmed.ends_with(IMAGE_TOKEN) => Ok(prompt.to_owned()),
        0 | 1 => Ok(format!("{IMAGE_TOKEN}\n{}", strip_image_token(trimmed))),
        _ => Err(SkipReason::ImageToken),
    }
}

/// Gives the first of `history` and `prompt` its image token; see [`place_image_token`].
///
/// # Errors
/// [`SkipReason::ImageToken`] if any later text has one; [`SkipReason::OtherPlaceholder`] if a text has what stands for an image in data
/// for another model, which would be read as text. The detail names the text by its place: `history[0].prompt`, `prompt`.
pub fn place_in_conversation(history: &mut [Turn], prompt: &mut String) -> Result<(), Flaw> {
    for (i, turn) in history.iter().enumerate() {
        check_question(&format!("history[{i}].prompt"), &turn.prompt)?;
        check_answer(&format!("history[{i}].answer"), &turn.answer)?;
    }
    check_question("prompt", prompt)?;
    place_in_first(history, prompt)
}

/// The same without a look for other placeholders.
pub(crate) fn place_in_first(history: &mut [Turn], prompt: &mut String) -> Result<(), Flaw> {
    let in_answer = history.iter().any(|turn| turn.answer.contains(IMAGE_TOKEN));
    let mut questions = history.iter_mut().map(|turn| &mut turn.prompt).chain([prompt]);
    let first = questions.next().map(|first| place_image_token(first).map(|placed| *first = placed));
    let first = first.transpose().is_err();
    if first || in_answer || questions.any(|question| question.contains(IMAGE_TOKEN)) {
        return Err(misplaced());
    }
    Ok(())
}

/// The flaw of a conversation with image tokens where none may be.
pub(crate) fn misplaced() -> Flaw {
    Flaw::new(SkipReason::ImageToken, format_args!("expected {IMAGE_TOKEN} once, in the first question"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_keeps_its_place_or_moves_to_the_start() {
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
    fn token_belongs_to_the_first_question() {
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
        let flaw = place_in_conversation(&mut other, &mut "<ImageHere> Why?".to_owned()).unwrap_err();
        assert_eq!(flaw.reason, SkipReason::OtherPlaceholder);
        assert!(flaw.detail.contains("`prompt`: ") && flaw.detail.contains("<ImageHere>"), "{}", flaw.detail);
    }
}
