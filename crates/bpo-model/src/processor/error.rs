//! Errors of the processor: of a checkpoint's files, of texts and of images.

use std::path::PathBuf;

use bpo_pairs::{Untrusted, UntrustedPath};

use crate::json::JsonError;

/// An error of the image processor, the chat template or the tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessorError {
    /// A file of the checkpoint cannot be read, or holds a value that cannot be used.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The checkpoint has no settings of an image processor.
    #[error(
        "{dir}: neither preprocessor_config.json nor an `image_processor` in processor_config.json; save one with \
         AutoImageProcessor.from_pretrained(...).save_pretrained(dir)", dir = UntrustedPath(dir)
    )]
    NoImageProcessor {
        /// The checkpoint's directory.
        dir: PathBuf,
    },
    /// The checkpoint has no tokenizer.json.
    #[error(
        "{path} does not exist; write it with transformers: \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)", path = UntrustedPath(path)
    )]
    NoTokenizer {
        /// The missing file.
        path: PathBuf,
    },
    /// tokenizer.json cannot be read, or its parts contradict each other.
    #[error(
        "{path}: the tokenizer cannot be used ({}); save it again with transformers: \
         AutoTokenizer.from_pretrained(dir).save_pretrained(dir)", Untrusted(&without_types(source)), path = UntrustedPath(path)
    )]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: tokenizers::Error,
    },
    /// The tokenizer fails on a text or a list of ids.
    #[error("the tokenizer failed: {}", Untrusted(&source.to_string()))]
    Tokenize {
        /// The cause.
        source: tokenizers::Error,
    },
    /// Neither the configuration files nor the tokenizer name a token.
    #[error("{dir}: no {token} token: {hint}", dir = UntrustedPath(dir), hint = Untrusted(hint))]
    NoToken {
        /// The checkpoint's directory.
        dir: PathBuf,
        /// The kind of token.
        token: &'static str,
        /// The files that were searched.
        hint: String,
    },
    /// The chat template does not compile, fails while it renders, or is above a limit.
    #[error("the chat template from {origin} failed: {}", Untrusted(&source.to_string()), origin = Untrusted(origin))]
    Template {
        /// The file of the template.
        origin: String,
        /// The place and the cause.
        source: minijinja::Error,
    },
    /// The chat template writes no user text, given as a list of parts or as a string.
    #[error("the chat template from {origin} leaves out the text of the user", origin = Untrusted(origin))]
    TemplateDropsText {
        /// The file of the template.
        origin: String,
    },
    /// There is a system message, and the chat template has no place for one.
    #[error("the chat template from {origin} has no place for a system message", origin = Untrusted(origin))]
    NoSystem {
        /// The file of the template.
        origin: String,
    },
    /// The rendering with the answer does not begin with the rendering that asks for it.
    #[error(
        "the chat template from {origin} does not put the answer right after its generation prompt: \
         {:?} does not begin with {:?}",
        Untrusted(with_answer),
        Untrusted(prompt), origin = Untrusted(origin)
    )]
    AnswerNotAppended {
        /// The file of the template.
        origin: String,
        /// The rendering with the generation prompt.
        prompt: String,
        /// The rendering with the answer.
        with_answer: String,
    },
    /// The chat template writes nothing in the place of an image.
    #[error(
        "the chat template from {origin} writes no image token for an image; a template that uses `image_token` needs that \
         key in tokenizer_config.json", origin = Untrusted(origin)
    )]
    NoImageInTemplate {
        /// The file of the template.
        origin: String,
    },
    /// The answer is empty.
    #[error("the answer is empty")]
    EmptyAnswer,
    /// The answer has an end token before its end.
    #[error("the answer has the end token {token:?} before its end")]
    EosInAnswer {
        /// The token's text.
        token: String,
    },
    /// A text contains the spelling of a special token, which the tokenizer would take for the
    /// token itself.
    #[error("the {place} contains the special token {token:?}")]
    SpecialToken {
        /// `prompt`, `answer`, `history` or `system message`.
        place: &'static str,
        /// The token's text.
        token: String,
    },
    /// The text has another number of image tokens than there are images.
    #[error("expected {expected} image tokens in the text, found {found}")]
    ImageTokens {
        /// Number of images.
        expected: usize,
        /// Number of image tokens in the text.
        found: usize,
    },
    /// The model takes no images.
    #[error("the model is a language model, which takes no images")]
    NoImages,
    /// A language model has no chat template.
    #[error(
        "{dir}: no chat template; give a model that follows instructions, whose files have one (tokenizer_config.json or \
         chat_template.jinja)", dir = UntrustedPath(dir)
    )]
    NoChatTemplate {
        /// The directory.
        dir: PathBuf,
    },
    /// The image has no pixels.
    #[error("the image has no pixels ({width}x{height})")]
    EmptyImage {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The image is so long that nothing is left of its other side when it is resized for tiles.
    #[error(
        "the image of {width}x{height} pixels is too long for the resolutions in `image_grid_pinpoints`: nothing is left \
         of its shorter side"
    )]
    NoResolution {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The image is too long for its other side.
    #[error(
        "the image of {width}x{height} pixels is too long: one side is more than {limit} times the other"
    )]
    ImageTooLong {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// Most that one side may be of the other.
        limit: u32,
    },
    /// The resized image would take too much memory.
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

/// Replaces an error message of the tokenizers crate that names Rust types.
fn without_types(source: &tokenizers::Error) -> String {
    let text = source.to_string();
    if text.contains("untagged enum") { "a part of it is of an unknown type".to_owned() } else { text }
}
