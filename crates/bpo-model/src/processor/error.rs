//! What can go wrong between a checkpoint's processor files, a text or an image, and the model's input.

use std::path::PathBuf;

/// Errors of the image processor, the chat template and the tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// A file of the checkpoint cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not JSON, or cut off.
    #[error("{path} is not JSON: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A value in a JSON file is not of the expected form, or cannot be used.
    #[error("{path}: {}expected {expected}, found {found}", at(key), path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key within the file; empty for the file as a whole.
        key: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The checkpoint says nothing about how images are prepared.
    #[error(
        "{dir}: neither preprocessor_config.json nor an `image_processor` in processor_config.json; save one with \
         AutoImageProcessor.from_pretrained(...).save_pretrained(dir)", dir = dir.display()
    )]
    NoImageProcessor {
        /// The checkpoint's directory.
        dir: PathBuf,
    },
    /// The checkpoint has no tokenizer.json.
    #[error(
        "{path}: no such file; make one with transformers: \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)", path = path.display()
    )]
    NoTokenizer {
        /// The missing file.
        path: PathBuf,
    },
    /// tokenizer.json is there but is not a tokenizer.
    #[error(
        "{path}: not a tokenizer that can be read ({}); save it again with transformers: \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)", without_types(source), path = path.display()
    )]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokenizers::Error,
    },
    /// The tokenizer refuses a text or a list of ids.
    #[error("the tokenizer failed: {source}")]
    Tokenize {
        /// Why.
        source: tokenizers::Error,
    },
    /// Neither the configs nor the tokenizer say which token this is.
    #[error("{dir}: no {token} token: {hint}", dir = dir.display())]
    NoToken {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// Which token.
        token: &'static str,
        /// What was looked at.
        hint: String,
    },
    /// The chat template does not compile, or fails while it renders.
    #[error("the chat template from {origin} failed: {source}")]
    Template {
        /// The file the template came from.
        origin: String,
        /// Where and why.
        source: minijinja::Error,
    },
    /// The chat template prints no user text, given neither as a list of parts nor as a string.
    #[error("the chat template from {origin} does not show what the user writes")]
    TemplateDropsText {
        /// The file the template came from.
        origin: String,
    },
    /// A system message for a template that has no place for one.
    #[error("the chat template from {origin} has no place for a system message")]
    NoSystem {
        /// The file the template came from.
        origin: String,
    },
    /// The conversation with the answer does not begin like the conversation that asks for it.
    #[error(
        "the chat template from {origin} does not put the answer right after its generation prompt: \
         {with_answer:?} does not begin with {prompt:?}"
    )]
    AnswerNotAppended {
        /// The file the template came from.
        origin: String,
        /// The rendering with the generation prompt.
        prompt: String,
        /// The rendering with the answer.
        with_answer: String,
    },
    /// The chat template writes nothing where the image should be.
    #[error(
        "the chat template from {origin} writes no image token for an image; a template that uses `image_token` needs that \
         key in tokenizer_config.json"
    )]
    NoImageInTemplate {
        /// The file the template came from.
        origin: String,
    },
    /// An answer without text.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// An end-of-sequence token inside an answer.
    #[error("the answer holds the end token {token:?} before its end")]
    EosInAnswer {
        /// The token's text.
        token: String,
    },
    /// A special token spelled out in what somebody wrote: the tokenizer would take it for the token itself.
    #[error("the {place} spells the special token {token:?}")]
    SpecialToken {
        /// The prompt, the answer, or an earlier turn.
        place: &'static str,
        /// The token's text.
        token: String,
    },
    /// The text has not one image token where an image is given, or has one where none is.
    #[error("expected {expected} image token(s) in the text, found {found}")]
    ImageTokens {
        /// One with an image, none without.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The prompt alone fills the length that is allowed.
    #[error("the prompt is {tokens} tokens long, the limit is {limit}")]
    PromptTooLong {
        /// The length of the prompt, image tokens included.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// The prompt fits, but nothing of the answer does.
    #[error("no token of the answer is left after a prompt of {tokens} tokens and a limit of {limit}")]
    AnswerCutToNothing {
        /// The length of the prompt, image tokens included.
        tokens: usize,
        /// The limit.
        limit: usize,
    },
    /// An image without pixels.
    #[error("the image is {width}x{height} pixels")]
    EmptyImage {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The image would be enlarged past what memory should be spent on.
    #[error("the image would be resized to {width}x{height} pixels, the limit is {limit} pixels")]
    ImageTooLarge {
        /// Columns after resizing.
        width: usize,
        /// Rows after resizing.
        height: usize,
        /// Most pixels allowed.
        limit: usize,
    },
}

fn at(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// The tokenizers crate says in Rust's words that it knows no such model or normalizer.
fn without_types(source: &tokenizers::Error) -> String {
    let text = source.to_string();
    match text.contains("untagged enum") {
        true => "a part of it is of no known type".to_owned(),
        false => text,
    }
}
