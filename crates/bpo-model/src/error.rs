//! What can go wrong with a checkpoint, an adapter or a request.

use std::path::PathBuf;

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
    /// A JSON file does not say what it should.
    #[error("{path}: {source}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
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
        "{dir}: no weights found; expected model.safetensors or model.safetensors.index.json (convert PyTorch .bin \
         files with transformers' save_pretrained)", dir = dir.display()
    )]
    NoWeights {
        /// The checkpoint directory.
        dir: PathBuf,
    },
    /// Weights are missing or do not fit the configuration. All of them are listed.
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
    /// What tells which modules are adapted is no regular expression.
    #[error("target_modules: {pattern:?} is no regular expression: {source}")]
    TargetPattern {
        /// The text.
        pattern: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No linear of the model is to be adapted.
    #[error(
        "target_modules: {pattern:?} matches no linear that could be adapted (one that is trained whole, as the projector by \
         `train_projector`, cannot); their whole names are, of the first layers, {}",
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
        "target_modules: {pattern:?} matches {module}, which cannot be adapted: only linears of the language model's layers, \
         the vision tower's and the projector can"
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
        some(names), path = path.display()
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

/// All the weights that are missing, of another shape, or not asked for.
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
    /// Names in the files that nothing asked for.
    pub extra: Vec<String>,
}

impl WeightProblems {
    /// Whether loading has to stop. Extra weights alone do no harm.
    pub fn is_fatal(&self) -> bool {
        !(self.missing.is_empty()
            && self.misshapen.is_empty()
            && self.mistyped.is_empty()
            && self.repeated.is_empty())
    }
}

impl std::fmt::Display for WeightProblems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for name in &self.missing {
            writeln!(f, "  missing: {name}")?;
        }
        for (name, expected, found) in &self.misshapen {
            writeln!(f, "  shape: {name} is {found:?}, expected {expected:?}")?;
        }
        for (name, dtype) in &self.mistyped {
            writeln!(f, "  type: {name} is {dtype}, expected F32, F16 or BF16")?;
        }
        for name in &self.repeated {
            writeln!(f, "  twice: {name}")?;
        }
        for name in &self.extra {
            writeln!(f, "  not asked for: {name}")?;
        }
        Ok(())
    }
}

/// The first of some names: where one tensor is broken, thousands may be.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

pub(crate) fn read_to_string(path: &std::path::Path) -> Result<String, ModelError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// As [`read_json`] for files that write `null` where they mean the default.
pub(crate) fn read_settings<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T, ModelError> {
    let mut settings: serde_json::Map<String, serde_json::Value> = read_json(path)?;
    settings.retain(|_, value| !value.is_null());
    serde_json::from_value(settings.into()).map_err(|source| ModelError::Json { path: path.into(), source })
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T, ModelError> {
    serde_json::from_str(&read_to_string(path)?)
        .map_err(|source| ModelError::Json { path: path.into(), source })
}
