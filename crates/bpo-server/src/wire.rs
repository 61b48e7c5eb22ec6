//! Requests and responses of the chat-completions protocol.

use bpo_inject::TextRequest;
use bpo_pairs::{FinishReason, Generated};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(crate) struct ChatRequest<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    temperature: f64,
    top_p: f64,
    // An extension of llama.cpp and vLLM, which OpenAI refuses: sent only where it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<usize>,
    max_tokens: usize,
    seed: u32,
    stream: bool,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> ChatRequest<'a> {
    pub fn new(model: &'a str, request: &'a TextRequest) -> Self {
        let system = request.system.as_deref().map(|content| Message { role: "system", content });
        let user = Message { role: "user", content: &request.prompt };
        let sampling = &request.sampling;
        Self {
            model,
            messages: system.into_iter().chain([user]).collect(),
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
    // `null` if the model only calls tools. The acceptance rules reject the empty text.
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: Option<usize>,
}

impl ChatResponse {
    /// Returns the first choice.
    pub fn into_generated(self) -> Option<Generated> {
        let choice = self.choices.into_iter().next()?;
        let is_cut = choice.finish_reason.as_deref() == Some("length");
        Some(Generated {
            text: choice.message.content.unwrap_or_default(),
            finish: if is_cut { FinishReason::Length } else { FinishReason::Stop },
            tokens: self.usage.and_then(|usage| usage.completion_tokens),
        })
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
    use super::*;
    use bpo_pairs::Sampling;

    #[test]
    fn request_has_messages_and_sampling() {
        let sampling = Sampling::greedy(7).with_temperature(0.5).with_top_p(0.9).with_seed(1 << 32 | 2);
        let request = TextRequest { system: Some("s".into()), prompt: "p".into(), sampling };
        let json = serde_json::to_string(&ChatRequest::new("m", &request)).unwrap();
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
        let null =
            parse(r#"{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}"#).unwrap();
        assert_eq!(null, Generated { text: String::new(), finish: FinishReason::Length, tokens: None });
        assert_eq!(parse(r#"{"choices": []}"#), None);
    }
}
