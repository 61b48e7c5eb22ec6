//! Placement of image tokens in a conversation.

use crate::placeholders::{check_answer, check_question};
use crate::sft::{IMAGE_TOKEN, Turn};
use crate::skipped::{SkipCause, SkipReason};

/// Returns the text of a prompt without its image tokens and without surrounding white space.
pub fn strip_image_tokens(prompt: &str) -> String {
    prompt.replace(IMAGE_TOKEN, "").trim().to_owned()
}

/// Places the tokens of `images` images in a conversation, so that it has one for each image.
///
/// - One image: its token stands at the start or end of the first question. A token in the middle of
///   that question moves to the start, and a missing token is added there, as LLaVA's
///   `preprocess_multimodal` does.
/// - Several images: as many tokens stand anywhere in the questions, in the order of the images. If
///   there is none, all are added at the start of the first question, each on its own line.
/// - No image: there is no token.
///
/// The first question is that of `history[0]`, or `prompt` if `history` is empty.
///
/// # Errors
/// Returns [`SkipReason::ImageToken`] if the questions have another number of tokens, an answer of
/// `history` has one, or the only token is in a later question. Returns
/// [`SkipReason::OtherPlaceholder`] if a text has an image placeholder of another model, which would
/// be read as plain text. For a placeholder, the detail names the text: `history[0].prompt`,
/// `prompt`.
pub fn place_in_conversation(
    history: &mut [Turn],
    prompt: &mut String,
    images: usize,
) -> Result<(), SkipCause> {
    for (i, turn) in history.iter().enumerate() {
        check_question(format_args!("history[{i}].prompt"), &turn.prompt)?;
        check_answer(format_args!("history[{i}].answer"), &turn.answer)?;
    }
    check_question("prompt", prompt)?;
    place_images(history, prompt, images)
}

/// Does the same as [`place_in_conversation`], without the check for placeholders of other models.
pub(crate) fn place_images(
    history: &mut [Turn],
    prompt: &mut String,
    images: usize,
) -> Result<(), SkipCause> {
    if history.iter().any(|turn| turn.answer.contains(IMAGE_TOKEN)) {
        return Err(in_answer());
    }
    let found: usize = questions(history, prompt).map(count).sum();
    let mut questions = history.iter_mut().map(|turn| &mut turn.prompt).chain([prompt]);
    let Some(first) = questions.next() else { return Ok(()) };
    match (images, found) {
        (1, 0 | 1) if count(first) == found => *first = placed_once(first),
        (1, 1) => return Err(wrong_count("in the first question", 1, 1)),
        (_, 0) => *first = format!("{}{first}", format!("{IMAGE_TOKEN}\n").repeat(images)),
        _ if found == images => {}
        _ => return Err(wrong_count("in the questions", images, found)),
    }
    Ok(())
}

fn questions<'a>(history: &'a [Turn], prompt: &'a str) -> impl Iterator<Item = &'a str> {
    history.iter().map(|turn| turn.prompt.as_str()).chain([prompt])
}

fn count(question: &str) -> usize {
    question.matches(IMAGE_TOKEN).count()
}

/// Returns a question with at most one token with the token at its start or end.
fn placed_once(question: &str) -> String {
    let trimmed = question.trim();
    if trimmed.starts_with(IMAGE_TOKEN) || trimmed.ends_with(IMAGE_TOKEN) {
        return question.to_owned();
    }
    format!("{IMAGE_TOKEN}\n{}", strip_image_tokens(trimmed))
}

/// Returns the error for an image token in an answer.
pub(crate) fn in_answer() -> SkipCause {
    SkipCause::new(SkipReason::ImageToken, format_args!("expected no {IMAGE_TOKEN} in an answer"))
}

fn wrong_count(place: &str, images: usize, found: usize) -> SkipCause {
    let expected = match images {
        0 => format!("no {IMAGE_TOKEN} without an image"),
        1 => format!("{IMAGE_TOKEN} once, in the first question"),
        _ => format!("{IMAGE_TOKEN} {images} times {place}, once for each image"),
    };
    SkipCause::new(SkipReason::ImageToken, format_args!("expected {expected}, found it {found} times"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turn(prompt: &str) -> Turn {
        Turn::new(prompt, "An answer.")
    }

    /// Places tokens and returns all questions.
    fn place(questions: &[&str], images: usize) -> Result<Vec<String>, SkipCause> {
        let (last, earlier) = questions.split_last().unwrap();
        let mut history: Vec<_> = earlier.iter().map(|prompt| turn(prompt)).collect();
        let mut prompt = (*last).to_owned();
        place_in_conversation(&mut history, &mut prompt, images)?;
        Ok(history.into_iter().map(|turn| turn.prompt).chain([prompt]).collect())
    }

    #[test]
    fn one_token_is_kept_or_moved_to_the_start() {
        let cases = [
            ("<image>\nWhat?", "<image>\nWhat?"),
            ("What?\n<image>", "What?\n<image>"),
            ("What? <image>\n", "What? <image>\n"),
            ("What?", "<image>\nWhat?"),
            ("What is <image> about?", "<image>\nWhat is  about?"),
        ];
        for (prompt, expected) in cases {
            assert_eq!(place(&[prompt], 1).unwrap(), [expected], "{prompt:?}");
            assert_eq!(place(&[prompt, "Why?"], 1).unwrap(), [expected, "Why?"], "{prompt:?}");
        }
    }

    #[test]
    fn several_tokens_stay_or_go_in_front() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["<image> or <image>?"], &["<image> or <image>?"]),
            (&["<image>\nWhat?", "And <image>?"], &["<image>\nWhat?", "And <image>?"]),
            (&["What?", "<image><image>?"], &["What?", "<image><image>?"]),
            (&["What?", "Why?"], &["<image>\n<image>\nWhat?", "Why?"]),
        ];
        for (questions, expected) in cases {
            assert_eq!(place(questions, 2).unwrap(), expected, "{questions:?}");
        }
        assert_eq!(place(&["What?", "Why?"], 0).unwrap(), ["What?", "Why?"]);
    }

    #[test]
    fn wrong_numbers_and_places_are_errors() {
        let cases: [(&[&str], usize, &str); 6] = [
            (&["<image><image>What?"], 1, "found it 2 times"),
            (&["What?", "<image> Why?"], 1, "in the first question"),
            (&["<image>What?", "<image> Why?"], 1, "found it 2 times"),
            (&["<image>What?"], 0, "no <image> without an image"),
            (&["<image>What?"], 2, "2 times in the questions"),
            (&["<image><image>", "<image>"], 2, "found it 3 times"),
        ];
        for (questions, images, expected) in cases {
            let cause = place(questions, images).unwrap_err();
            assert_eq!(cause.reason, SkipReason::ImageToken);
            assert!(cause.detail.contains(expected), "{questions:?}: {}", cause.detail);
        }
        let mut answered = [Turn::new("<image>What?", "<image>")];
        assert_eq!(place_in_conversation(&mut answered, &mut "Why?".to_owned(), 1), Err(in_answer()));
    }

    #[test]
    fn placeholders_of_other_models_are_named() {
        let cause = place(&["What?", "<ImageHere> Why?"], 1).unwrap_err();
        assert_eq!(cause.reason, SkipReason::OtherPlaceholder);
        assert!(
            cause.detail.contains("`prompt`: ") && cause.detail.contains("<ImageHere>"),
            "{}",
            cause.detail
        );
    }

    proptest! {
        /// Placing is idempotent, and gives a token to each image.
        #[test]
        fn every_image_has_a_token(
            questions in prop::collection::vec("(<image>|a| |\n){0,4}", 1..4), images in 0_usize..4,
        ) {
            let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
            if let Ok(placed) = place(&questions, images) {
                let placed: Vec<&str> = placed.iter().map(String::as_str).collect();
                prop_assert_eq!(placed.iter().map(|question| count(question)).sum::<usize>(), images);
                prop_assert_eq!(place(&placed, images).unwrap(), placed);
            }
        }
    }
}
