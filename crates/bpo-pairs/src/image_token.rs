//! The place of the image token in a conversation.

use crate::set_aside::Reason;
use crate::sft::{IMAGE_TOKEN, Turn};

/// The text of a prompt without its image token.
pub fn strip_image_token(prompt: &str) -> String {
    prompt.replacen(IMAGE_TOKEN, "", 1).trim().to_owned()
}

/// Gives the first question of a conversation exactly one image token, at its start or end.
///
/// A token between words moves to the start, and a missing one is put there, as LLaVA's `preprocess_multimodal` does.
///
/// # Errors
/// [`Reason::ImageToken`] if there is more than one.
pub fn place_image_token(prompt: &str) -> Result<String, Reason> {
    let trimmed = prompt.trim();
    match trimmed.matches(IMAGE_TOKEN).count() {
        1 if trimmed.starts_with(IMAGE_TOKEN) || trimmed.ends_with(IMAGE_TOKEN) => Ok(prompt.to_owned()),
        0 | 1 => Ok(format!("{IMAGE_TOKEN}\n{}", strip_image_token(trimmed))),
        _ => Err(Reason::ImageToken),
    }
}

/// Gives the first of `history` and `prompt` its image token; see [`place_image_token`].
///
/// # Errors
/// [`Reason::ImageToken`] if any later text has one.
pub fn place_in_conversation(history: &mut [Turn], prompt: &mut String) -> Result<(), Reason> {
    let in_answer = history.iter().any(|turn| turn.answer.contains(IMAGE_TOKEN));
    let mut questions = history.iter_mut().map(|turn| &mut turn.prompt).chain([prompt]);
    if let Some(first) = questions.next() {
        *first = place_image_token(first)?;
    }
    if in_answer || questions.any(|question| question.contains(IMAGE_TOKEN)) {
        return Err(Reason::ImageToken);
    }
    Ok(())
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
        assert_eq!(place_image_token("<image><image>What?"), Err(Reason::ImageToken));
    }

    #[test]
    fn token_belongs_to_the_first_question() {
        let turn = |prompt: &str, answer: &str| Turn { prompt: prompt.into(), answer: answer.into() };
        let mut history = [turn("What?", "A cat.")];
        let mut prompt = "Which color?".to_owned();
        assert_eq!(place_in_conversation(&mut history, &mut prompt), Ok(()));
        assert_eq!((history[0].prompt.as_str(), prompt.as_str()), ("<image>\nWhat?", "Which color?"));

        prompt = "<image> Which color?".to_owned();
        assert_eq!(place_in_conversation(&mut history, &mut prompt), Err(Reason::ImageToken));
        let mut answered = [turn("<image>What?", "<image>")];
        assert_eq!(place_in_conversation(&mut answered, &mut "Why?".to_owned()), Err(Reason::ImageToken));
    }
}
