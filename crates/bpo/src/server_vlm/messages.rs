//! The messages of a request: system text, earlier turns and question, with the images in place of
//! their tokens.

use bpo_pairs::IMAGE_TOKEN;
use bpo_server::{ChatMessage, ChatPart, ChatRole};

use crate::vision::VisionRequest;

/// Makes the messages of a request. `images` replace the image tokens of the questions in order.
/// Tokens without an image are removed, and images without a token come before the first question.
pub(super) fn of(request: &VisionRequest, images: Vec<ChatPart>) -> Vec<ChatMessage> {
    let questions = || request.history.iter().map(|turn| &turn.prompt).chain([&request.prompt]);
    let tokens: usize = questions().map(|question| question.matches(IMAGE_TOKEN).count()).sum();
    let mut images = images.into_iter();
    let first = images.len().saturating_sub(tokens);
    let mut without_token: Vec<ChatPart> = images.by_ref().take(first).collect();
    let mut user = |question: &str| {
        let mut content = std::mem::take(&mut without_token);
        content.extend(parts(question, &mut images));
        ChatMessage { role: ChatRole::User, content }
    };
    let mut messages = Vec::with_capacity(request.history.len() * 2 + 2);
    messages.extend(request.system.as_deref().map(|text| ChatMessage::text(ChatRole::System, text)));
    for turn in &request.history {
        messages.push(user(&turn.prompt));
        messages.push(ChatMessage::text(ChatRole::Assistant, &turn.answer));
    }
    messages.push(user(&request.prompt));
    messages
}

/// Splits a question at its image tokens. Line breaks next to a token are those of LLaVA's data
/// format and are removed, because a chat template adds its own.
fn parts(question: &str, images: &mut impl Iterator<Item = ChatPart>) -> Vec<ChatPart> {
    let texts: Vec<&str> = question.split(IMAGE_TOKEN).collect();
    let last = texts.len() - 1;
    let mut parts = Vec::new();
    for (place, mut text) in texts.into_iter().enumerate() {
        if place > 0 {
            parts.extend(images.next());
            text = text.trim_start_matches(['\r', '\n']);
        }
        if place < last {
            text = text.trim_end_matches(['\r', '\n']);
        }
        match parts.last_mut() {
            // the token between them has no image
            Some(ChatPart::Text(before)) => before.push_str(text),
            _ if text.trim().is_empty() => {}
            _ => parts.push(ChatPart::Text(text.to_owned())),
        }
    }
    if parts.is_empty() {
        parts.push(ChatPart::Text(String::new()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use bpo_pairs::{Sampling, Turn};

    use super::*;

    fn image(number: u8) -> ChatPart {
        ChatPart::Image { media_type: "image/png", bytes: vec![number] }
    }

    fn text(text: &str) -> ChatPart {
        ChatPart::Text(text.to_owned())
    }

    fn split(question: &str, images: u8) -> Vec<ChatPart> {
        parts(question, &mut (0..images).map(image))
    }

    #[test]
    fn images_replace_their_tokens() {
        assert_eq!(split("<image>\nWhat?", 1), [image(0), text("What?")]);
        assert_eq!(split("What?\n<image>", 1), [text("What?"), image(0)]);
        assert_eq!(split("<image>\n<image>\nWhat?", 2), [image(0), image(1), text("What?")]);
        let between = [text("Is "), image(0), text(" like "), image(1), text("?\n")];
        assert_eq!(split("Is <image> like <image>?\n", 2), between);
        assert_eq!(split("What?", 0), [text("What?")]);
        assert_eq!(split("<image>\nWhat?", 0), [text("What?")]);
        assert_eq!(split("Is <image> red?", 0), [text("Is  red?")]);
        assert_eq!(split("<image>", 0), [text("")]);
    }

    #[test]
    fn messages_have_the_conversation_in_order() {
        let request = VisionRequest {
            images: Vec::new(),
            weakening: None,
            system: Some("Be brief.".into()),
            history: vec![Turn::new("<image>\nWhat is it?", "A cat.")].into(),
            prompt: "And <image>?".into(),
            answer_prefix: String::new(),
            sampling: Sampling::greedy(5),
        };
        let messages = of(&request, vec![image(0), image(1)]);
        let user = |content: Vec<ChatPart>| ChatMessage { role: ChatRole::User, content };
        let expected = [
            ChatMessage::text(ChatRole::System, "Be brief."),
            user(vec![image(0), text("What is it?")]),
            ChatMessage::text(ChatRole::Assistant, "A cat."),
            user(vec![text("And "), image(1), text("?")]),
        ];
        assert_eq!(messages, expected);
        let more = of(&request, vec![image(0), image(1), image(2)]);
        assert_eq!(more[1], user(vec![image(0), image(1), text("What is it?")]));
    }
}
