//! Conversations with images.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use bpo_inject::TextRequest;
use bpo_pairs::Sampling;
use serde::{Serialize, Serializer};

/// A conversation that a model answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    /// The messages, oldest first. The last one is the user's.
    pub messages: Vec<ChatMessage>,
    /// Sampling parameters.
    pub sampling: Sampling,
}

impl From<&TextRequest> for Chat {
    fn from(request: &TextRequest) -> Self {
        let system = request.system.as_deref().map(|text| ChatMessage::text(ChatRole::System, text));
        let user = ChatMessage::text(ChatRole::User, &request.prompt);
        Self { messages: system.into_iter().chain([user]).collect(), sampling: request.sampling.clone() }
    }
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatRole {
    /// Instructions before the conversation.
    System,
    /// The user, who asks.
    User,
    /// The model, which answers.
    Assistant,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatMessage {
    /// The author.
    pub role: ChatRole,
    /// Texts and images in their order.
    #[serde(serialize_with = "serialize_content")]
    pub content: Vec<ChatPart>,
}

impl ChatMessage {
    /// Creates a message without an image.
    pub fn text(role: ChatRole, text: impl Into<String>) -> Self {
        Self { role, content: vec![ChatPart::Text(text.into())] }
    }
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatPart {
    /// A text.
    Text(String),
    /// An image, which is sent as a `data:` URL.
    Image {
        /// Type of the file, such as `image/png`.
        media_type: &'static str,
        /// Content of the file.
        bytes: Vec<u8>,
    },
}

/// Serializes a message with a single text as a string, which every server accepts.
fn serialize_content<S: Serializer>(content: &[ChatPart], serializer: S) -> Result<S::Ok, S::Error> {
    match content {
        [ChatPart::Text(text)] => serializer.serialize_str(text),
        parts => serializer.collect_seq(parts),
    }
}

impl Serialize for ChatPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Part<'a> {
            Text { text: &'a str },
            ImageUrl { image_url: ImageUrl<'a> },
        }
        #[derive(Serialize)]
        struct ImageUrl<'a> {
            url: DataUrl<'a>,
        }
        match self {
            Self::Text(text) => Part::Text { text }.serialize(serializer),
            Self::Image { media_type, bytes } => {
                Part::ImageUrl { image_url: ImageUrl { url: DataUrl { media_type, bytes } } }
                    .serialize(serializer)
            }
        }
    }
}

/// The content of a file as a URL.
struct DataUrl<'a> {
    media_type: &'a str,
    bytes: &'a [u8],
}

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = Base64Display::new(self.bytes, &STANDARD);
        serializer.collect_str(&format_args!("data:{};base64,{encoded}", self.media_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_texts_or_lists_of_parts() {
        let image = ChatPart::Image { media_type: "image/png", bytes: vec![1, 2, 255] };
        let content = vec![image, ChatPart::Text("What?".into())];
        let messages = [
            ChatMessage::text(ChatRole::System, "s"),
            ChatMessage { role: ChatRole::User, content },
            ChatMessage::text(ChatRole::Assistant, "a"),
        ];
        let expected = r#"[{"role":"system","content":"s"},{"role":"user","content":["#.to_owned()
            + r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AQL/"}},"#
            + r#"{"type":"text","text":"What?"}]},{"role":"assistant","content":"a"}]"#;
        assert_eq!(serde_json::to_string(&messages).unwrap(), expected);
    }
}
