//! What can go wrong with a checkpoint, an adapter or a request.

use std::path::PathBuf;

use bpo_pairs::files::FileError;

use crate::processor::ProcessorError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of a checkpoint or adapter cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no regular one or too large, or an output is in use.
    #[error(transparent)]
    File(FileError),
    /// A file is not JSON.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A JSON file has a value of another type than is expected, or lacks one.
    #[error("{path}: {problem}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key with its place in the file, what is expected and what was found.
        problem: String,
    },
    /// A safetensors file is cut off or broken.
    #[error("{path}: not a whole safetensors file: {reason}", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The directory has no weights.
    #[error(
        "{dir}: no weights found; expected model.safetensors or model.safetensors.index.json", dir = dir.display()
    )]
    NoWeights {
        /// The checkpoint directory.
        dir: PathBuf,
    },
    /// The weights are pickled, as PyTorch saves them: such files can run any code when they are read.
    #[error(
        "{path} is a PyTorch pickle, which is not read because it can run code; convert it to safetensors with\n{convert}",
        path = path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Lines of Python that convert it.
        convert: String,
    },
    /// A directory is no checkpoint.
    #[error(
        "{dir}: no config.json in it. Give the directory of a checkpoint in the Hugging Face format, such as \
         llava-hf/llava-1.5-7b-hf", dir = dir.display()
    )]
    NoConfig {
        /// The directory.
        dir: PathBuf,
    },
    /// The checkpoint is of a family of models that is not supported.
    #[error(
        "{path}: {found}, which is not supported. Supported are LLaVA-1.5 checkpoints in the Hugging Face format: \
         model_type llava, with a clip_vision_model as vision tower and a llama as language model, as in \
         llava-hf/llava-1.5-7b-hf", path = path.display()
    )]
    Family {
        /// The file.
        path: PathBuf,
        /// The key that says so, and its value.
        found: String,
    },
    /// The checkpoint is one of LLaVA's original code.
    #[error(
        "{path}: {found} belongs to a checkpoint in the format of LLaVA's original code. Use the converted checkpoint of \
         the same name from huggingface.co/llava-hf (such as llava-hf/llava-1.5-7b-hf), or convert this one with \
         transformers 4 (python -m transformers.models.llava.convert_llava_weights_to_hf)", path = path.display()
    )]
    OriginalLlava {
        /// The file.
        path: PathBuf,
        /// What tells it: a key, or a file.
        found: String,
    },
    /// The weights are quantized.
    #[error(
        "{path}: {key} is set ({method}), and quantized weights are not supported: use the checkpoint that this one was \
         quantized from, or dequantize it with transformers (model.dequantize(), then model.save_pretrained(...))",
        path = path.display()
    )]
    Quantized {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The method of quantization.
        method: String,
    },
    /// Weights are missing or do not fit the configuration. All of them are in `problems`; the message names the first ones.
    #[error("{dir}: the weights do not fit config.json\n{problems}", dir = dir.display())]
    Weights {
        /// The checkpoint or adapter directory.
        dir: PathBuf,
        /// All that is wrong.
        problems: Box<WeightProblems>,
    },
    /// The configuration asks for something that is not supported.
    #[error("{path}: {key} is {found}; supported: {supported}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What would be understood.
        supported: String,
    },
    /// An adapter was trained for another model or in a way that is not supported.
    #[error("{path}: {reason}", path = path.display())]
    Adapter {
        /// The adapter's file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The model has adapters where it must have none.
    #[error(
        "the model has adapters (or a trained projector) already, and they do not nest: merge them into the checkpoint \
         first (bpo merge)"
    )]
    HasAdapters,
    /// A setting has a value that cannot work.
    #[error("{key} must be {expected}, not {found}")]
    Setting {
        /// Its name.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A setting that selects modules by their names is no regular expression.
    #[error("{key}: {pattern:?} is no regular expression: {source}")]
    TargetPattern {
        /// The setting.
        key: &'static str,
        /// The text.
        pattern: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No linear of the model is to be adapted.
    #[error(
        "target_modules: {pattern:?} matches no linear that could be adapted (those that `modules_to_save` \
         trains in full cannot); their whole names are, of the first layers, {}",
        known.join(", ")
    )]
    NoTarget {
        /// The regular expression.
        pattern: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// A module is to be adapted that has no adapters here.
    #[error(
        "target_modules: {pattern:?} matches {module}, which cannot be adapted: only linears can, of the language model's \
         layers, the vision tower's, the projector and the head (lm_head)"
    )]
    NotAdaptable {
        /// The regular expression.
        pattern: String,
        /// The module's name.
        module: &'static str,
    },
    /// A prompt does not leave room for what is asked.
    #[error(
        "the prompt has {prompt} tokens and {wanted} more are needed; a sequence may have {context} (`max_length`, or all that \
         the model can take)"
    )]
    ContextTooShort {
        /// Tokens of the prompt, image tokens included.
        prompt: usize,
        /// Tokens of the answer.
        wanted: usize,
        /// The longest sequence the model knows (`max_position_embeddings`) or the caller allows.
        context: usize,
    },
    /// The image tokens of a sequence and the features of its image differ in number.
    #[error("the sequence has {found} image tokens and the image gives {expected}")]
    ImageTokens {
        /// Features per image.
        expected: usize,
        /// Image tokens in the sequence.
        found: usize,
    },
    /// An image token where only tokens are that have a next one to predict.
    #[error(
        "an image token stands in a completion, or ends a prompt: it must have a token of the prompt behind it"
    )]
    ImageTokenBehind,
    /// The image processor makes images of another size than the vision tower takes.
    #[error(
        "the image processor gives {found:?} values, the vision tower takes {expected:?} (channels, height, width)"
    )]
    ImageSize {
        /// Channels, height, width by `config.json`.
        expected: [usize; 3],
        /// As `preprocessor_config.json` makes them.
        found: [usize; 3],
    },
    /// Configuration and tokenizer stand different ids for an image.
    #[error("config.json has the image token {expected}, the tokenizer's <image> is {found}")]
    ImageToken {
        /// By `config.json` (`image_token_id` or `image_token_index`; 32000 where it has neither).
        expected: u32,
        /// By the tokenizer.
        found: u32,
    },
    /// A computation gave something that is not a number: weights or settings are broken.
    #[error(
        "{what} are not finite; weights or settings of the checkpoint are broken, or the type is too small"
    )]
    NotFinite {
        /// What was computed.
        what: String,
    },
    /// Weights that would be saved hold something that is not finite.
    #[error(
        "{path} is not written, because it would hold tensors that are not finite: {}. Check the base model, the adapter and \
         the settings of training (learning rate)",
        first_of(names), path = path.display()
    )]
    NotFiniteWeights {
        /// The file.
        path: PathBuf,
        /// Names of the tensors.
        names: Vec<String>,
    },
    /// Two answers of a group are the same to the model.
    #[error("another answer has the same tokens as {text:?}: {other:?}")]
    SameTokens {
        /// The second of the two.
        text: String,
        /// The first.
        other: String,
    },
    /// The tokenizer and the model belong to different vocabularies.
    #[error("the tokenizer gives the id {id}, the embedding has {vocab} rows")]
    TokenOutside {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A completion without anything before it: nothing predicts its first token.
    #[error("the prompt has no token")]
    EmptyPrompt,
    /// A batch without completions.
    #[error("the batch has no completion")]
    NoCompletion,
    /// A group's image that the batch does not have.
    #[error("image {image} of a batch of {images}")]
    NoSuchImage {
        /// The group's, counted from 0.
        image: usize,
        /// Those of the batch.
        images: usize,
    },
    /// The answer has no token of its own.
    #[error("the answer is cut to nothing: no token is left after the prompt's {prompt} tokens")]
    EmptyAnswer {
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// An image cannot be had.
    #[error("image {name}: {source}")]
    Image {
        /// Its name in the data.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Distorting an image failed.
    #[error(transparent)]
    Distort(#[from] bpo_distort::DistortError),
    /// The text or image processor failed.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source, .. } => Self::Io { path, source },
            error => Self::File(error),
        }
    }
}

/// All the weights that are missing, of another shape, or not part of the model.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WeightProblems {
    /// Names that the configuration needs and no file has.
    pub missing: Vec<String>,
    /// Name, expected shape, found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Name and type of weights that are not f32, f16 or bf16.
    pub mistyped: Vec<(String, String)>,
    /// Names that two tensors of the files claim.
    pub repeated: Vec<String>,
    /// Names in the files that are not part of the model, and whose absence would change what it computes.
    pub extra: Vec<String>,
}

impl WeightProblems {
    /// Whether there is any.
    pub fn is_fatal(&self) -> bool {
        *self != Self::default()
    }
}

/// Problems of one kind that a message lists before it only counts them.
const LISTED: usize = 16;

/// The first of many names, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl std::fmt::Display for WeightProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut list = |kind: &str, lines: &mut dyn ExactSizeIterator<Item = String>| {
            let more = lines.len().saturating_sub(LISTED);
            for line in lines.take(LISTED) {
                writeln!(f, "  {kind}: {line}")?;
            }
            if more > 0 { writeln!(f, "  {kind}: {more} more") } else { Ok(()) }
        };
        list("missing", &mut self.missing.iter().cloned())?;
        let shape = |(name, expected, found): &(String, Vec<usize>, Vec<usize>)| {
            format!("{name} is {found:?}, expected {expected:?}")
        };
        list("shape", &mut self.misshapen.iter().map(shape))?;
        let dtype =
            |(name, dtype): &(String, String)| format!("{name} is {dtype}, expected F32, F16 or BF16");
        list("type", &mut self.mistyped.iter().map(dtype))?;
        list("twice", &mut self.repeated.iter().cloned())?;
        list("not part of the model", &mut self.extra.iter().cloned())?;
        for family in crate::weights::families(&self.extra) {
            writeln!(f, "  {family}")?;
        }
        Ok(())
    }
}
