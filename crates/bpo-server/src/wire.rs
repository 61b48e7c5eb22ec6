//! Requests and responses of the chat-completions protocol.

use bpo_pairs::{FinishReason, Generated};
use serde::{Deserialize, Serialize};

use crate::chat::{Chat, ChatMessage};

#[derive(Serialize)]
pub(crate) struct ChatRequest<'a> {
    model: &'a str,
    messages: &'a [ChatMessage],
    temperature: f64,
    top_p: f64,
    // An extension of llama.cpp and vLLM, which OpenAI refuses: sent only where it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    max_tokens: usize,
    seed: u32,
    stream: bool,
}

impl<'a> ChatRequest<'a> {
    pub fn new(model: &'a str, chat: &'a Chat) -> Self {
        let sampling = &chat.sampling;
        Self {
            model,
            messages: &chat.messages,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: (sampling.top_k > 0).then_some(sampling.top_k),
            max_tokens: sampling.max_new_tokens,
            seed: fold_seed(sampling.seed),
            stream: false,
        }
    }
}

/// Folds a seed into the 31 bits that every server accepts: llama.cpp reads 32 bits and takes
/// `u32::MAX` for "random", other servers read a signed number.
fn fold_seed(seed: u64) -> u32 {
    ((seed ^ (seed >> 32)) & 0x7fff_ffff) as u32
}

#[derive(Deserialize)]
pub(crate) struct ChatResponse {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Answer,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    // `null` if the model only calls tools. An empty text is never taken for an answer.
    content: Option<String>,
    // The reasoning, which vLLM, SGLang and llama.cpp separate from the answer.
    reasoning_content: Option<String>,
    reasoning: Option<serde_json::Value>,
}

/// The numbers of tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    pub prompt_tokens: Option<usize>,
    pub completion_tokens: Option<usize>,
}

impl Answer {
    /// Returns the answer. Reasoning without an answer is returned with an opening mark, so that it
    /// is not taken for one.
    fn into_text(self) -> String {
        let text = self.content.unwrap_or_default();
        let reasoning = self.reasoning_content.or_else(|| Some(self.reasoning?.as_str()?.to_owned()));
        match reasoning.filter(|reasoning| text.trim().is_empty() && !reasoning.trim().is_empty()) {
            Some(reasoning) => format!("<think>{reasoning}"),
            None => text,
        }
    }
}

impl ChatResponse {
    /// Returns the first choice, and the numbers of tokens.
    pub fn into_generated(self) -> Option<(Generated, Usage)> {
        let usage = self.usage.unwrap_or_default();
        let choice = self.choices.into_iter().next()?;
        let is_cut = choice.finish_reason.as_deref() == Some("length");
        // the rest that a content filter leaves is not an answer
        let is_filtered = choice.finish_reason.as_deref() == Some("content_filter");
        let generated = Generated {
            text: if is_filtered { String::new() } else { choice.message.into_text() },
            finish: if is_cut { FinishReason::Length } else { FinishReason::Stop },
            tokens: usage.completion_tokens,
        };
        Some((generated, usage))
    }
}

/// The response to `GET /models`. Other keys of a model are ignored.
#[derive(Deserialize)]
pub(crate) struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

impl ModelList {
    /// Returns the names of the models.
    pub fn into_names(self) -> Vec<String> {
        self.data.into_iter().map(|model| model.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use bpo_inject::TextRequest;
    use bpo_pairs::Sampling;

    use super::*;

    #[test]
    fn request_has_messages_and_sampling() {
        let sampling = Sampling::greedy(7).with_temperature(0.5).with_top_p(0.9).with_seed(1 << 32 | 2);
        let request = TextRequest { system: Some("s".into()), prompt: "p".into(), sampling };
        let json = serde_json::to_string(&ChatRequest::new("m", &Chat::from(&request))).unwrap();
        let expected =
            r#"{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"p"}],"#
                .to_owned()
                + r#""temperature":0.5,"top_p":0.9,"max_tokens":7,"seed":3,"stream":false}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn seeds_have_31_bits() {
        assert_eq!(fold_seed(42), 42);
        assert!(fold_seed(u64::MAX) <= i32::MAX as u32);
        assert_ne!(fold_seed(1 << 40), fold_seed(0));
    }

    #[test]
    fn answers_without_text_or_usage_are_read() {
        let parse = |json: &str| serde_json::from_str::<ChatResponse>(json).unwrap().into_generated();
        let (null, usage) =
            parse(r#"{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}"#).unwrap();
        assert_eq!(null, Generated { text: String::new(), finish: FinishReason::Length, tokens: None });
        assert_eq!(usage, Usage::default());
        assert_eq!(parse(r#"{"choices": []}"#), None);
        let filtered = r#"{"choices": [{"message": {"content": "A c"}, "finish_reason": "content_filter"}]}"#;
        assert_eq!(parse(filtered).unwrap().0.text, "");
    }

    #[test]
    fn reasoning_is_no_answer() {
        for (message, expected) in [
            (r#"{"content": "A cat.", "reasoning_content": "I see"}"#, "A cat."),
            (r#"{"content": null, "reasoning_content": "I see"}"#, "<think>I see"),
            (r#"{"content": "", "reasoning": "I see"}"#, "<think>I see"),
            (r#"{"content": "A cat.", "reasoning": {"x": 1}, "reasoning_content": null}"#, "A cat."),
        ] {
            let json = format!(r#"{{"choices": [{{"message": {message}}}]}}"#);
            let response: ChatResponse = serde_json::from_str(&json).unwrap();
            assert_eq!(response.into_generated().unwrap().0.text, expected, "{message}");
        }
    }
}
