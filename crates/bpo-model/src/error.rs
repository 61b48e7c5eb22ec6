//! Errors of checkpoints, adapters and requests.

use std::path::PathBuf;

use bpo_pairs::files::FileError;
use bpo_pairs::{Untrusted, UntrustedPath};

use crate::json::JsonError;
use crate::processor::ProcessorError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of a checkpoint or adapter cannot be read or written.
    #[error("{path}: {}", Untrusted(&source.to_string()), path = UntrustedPath(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file is not a regular file or too large, or an output exists already.
    #[error(transparent)]
    File(FileError),
    /// A JSON file cannot be read, or holds a value that cannot be used.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A safetensors file is truncated or broken.
    #[error("{path} is truncated or broken: {reason}", path = UntrustedPath(path), reason = Untrusted(reason))]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The directory has no weights.
    #[error(
        "{dir}: no weights found; expected model.safetensors or model.safetensors.index.json", dir = UntrustedPath(dir)
    )]
    NoWeights {
        /// The checkpoint directory.
        dir: PathBuf,
    },
    /// A file of weights is missing.
    #[error(
        "{path} does not exist, and {index} names it: the checkpoint is incomplete. Get all of its files, for example \
         with `hf download`", path = UntrustedPath(path), index = UntrustedPath(index)
    )]
    NoShard {
        /// The missing file.
        path: PathBuf,
        /// The index that names it.
        index: PathBuf,
    },
    /// The weights are a PyTorch pickle. Reading a pickle can run arbitrary code.
    #[error(
        "{path} is a PyTorch pickle, which is not read because it can run code; convert it to safetensors with\n{convert}",
        path = UntrustedPath(path)
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Python code that converts it.
        convert: String,
    },
    /// The directory is not a checkpoint.
    #[error(
        "{dir}: no config.json in it. Give the directory of a checkpoint in the Hugging Face format, such as \
         llava-hf/llava-1.5-7b-hf", dir = UntrustedPath(dir)
    )]
    NoConfig {
        /// The directory.
        dir: PathBuf,
    },
    /// The checkpoint is of an unsupported model family.
    #[error(
        "{path}: {found}, which is not supported. Supported are checkpoints in the Hugging Face format {supported}",
        path = UntrustedPath(path), found = Untrusted(found)
    )]
    Family {
        /// The file.
        path: PathBuf,
        /// The key and its value.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// The checkpoint is in the format of LLaVA's original code.
    #[error(
        "{path}: {found} belongs to a checkpoint in the format of LLaVA's original code. Use the converted checkpoint of \
         the same name from huggingface.co/llava-hf (such as llava-hf/llava-1.5-7b-hf), or convert this one \
         (bpo convert-checkpoint)", path = UntrustedPath(path), found = Untrusted(found)
    )]
    OriginalLlava {
        /// The file.
        path: PathBuf,
        /// The key or file that shows it.
        found: String,
    },
    /// The weights are quantized.
    #[error(
        "{path}: {key} is set ({method}), and quantized weights are not supported: use the checkpoint that this one was \
         quantized from, or dequantize it with transformers (model.dequantize(), then model.save_pretrained(...))",
        path = UntrustedPath(path), method = Untrusted(method)
    )]
    Quantized {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The quantization method.
        method: String,
    },
    /// Weights are missing or do not fit the configuration. `problems` lists all of them; the
    /// message names the first ones.
    #[error("{dir}: the weights do not fit config.json\n{problems}", dir = UntrustedPath(dir))]
    Weights {
        /// The checkpoint or adapter directory.
        dir: PathBuf,
        /// All problems.
        problems: Box<WeightProblems>,
    },
    /// The configuration has an unsupported value.
    #[error("{path}: {key} is {found}; supported: {supported}", path = UntrustedPath(path), key = Untrusted(key), found = Untrusted(found))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// The supported values.
        supported: String,
    },
    /// A size in a file is above its limit: the file is broken, or made to take all memory.
    #[error("{path}: {key} is {found}, above the limit of {limit}", path = UntrustedPath(path), key = Untrusted(key))]
    OverLimit {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The value.
        found: u64,
        /// The largest value that is accepted.
        limit: u64,
    },
    /// An adapter belongs to another model, or is of an unsupported kind.
    #[error("{path}: {reason}", path = UntrustedPath(path), reason = Untrusted(reason))]
    Adapter {
        /// The adapter's file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The model has adapters, where a model without adapters is needed.
    #[error(
        "the model already has adapters or modules trained in full: merge them into the checkpoint first (bpo merge)"
    )]
    HasAdapters,
    /// A setting has a value that cannot be used.
    #[error("{key} must be {expected}, not {}", Untrusted(found))]
    Setting {
        /// The name of the setting.
        key: &'static str,
        /// The accepted values.
        expected: &'static str,
        /// The value.
        found: String,
    },
    /// `modules_to_save` has a module that cannot be trained in full beside adapters.
    #[error("modules_to_save has {:?}; with this model, it can have {known}", Untrusted(found))]
    ModulesToSave {
        /// The modules that it can have.
        known: String,
        /// The module.
        found: String,
    },
    /// A setting that selects modules by name is not a regular expression.
    #[error("{key}: {:?} is not a regular expression: {}", Untrusted(pattern), Untrusted(&source.to_string()))]
    TargetPattern {
        /// The setting.
        key: &'static str,
        /// The value of the setting.
        pattern: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `target_modules` selects no linear.
    #[error(
        "target_modules: {pattern:?} matches no linear that can be adapted (those in `modules_to_save` \
         cannot). The names of the linears, in the first layers, are {}",
        first_of(known)
    )]
    NoTarget {
        /// The regular expression.
        pattern: String,
        /// Names of linears of the model.
        known: Vec<String>,
    },
    /// `target_modules` selects a module that cannot be adapted.
    #[error(
        "target_modules: {pattern:?} matches {module:?}, which cannot be adapted: only linears can, of the language model's \
         layers, the vision tower's, the projector and the head (lm_head)"
    )]
    NotAdaptable {
        /// The regular expression.
        pattern: String,
        /// The module's name in transformers 5.
        module: String,
    },
    /// A prompt leaves too little room in the context.
    #[error(
        "the prompt has {prompt} tokens and {wanted} more are needed, but the model's context is {context} \
         (`max_position_embeddings` in config.json)"
    )]
    ContextTooShort {
        /// Tokens of the prompt, image tokens included.
        prompt: usize,
        /// Number of tokens that are needed for the answer.
        wanted: usize,
        /// The longest sequence of the model (`max_position_embeddings`).
        context: usize,
    },
    /// A sequence is too long to train on. Its end is not cut: an answer without its end would teach
    /// the model never to end.
    #[error(
        "the prompt has {prompt} tokens, {images} of them of images, and the answer {answer}: {} in all, but {}",
        prompt + answer, limit_of(*limit, *setting)
    )]
    SequenceTooLong {
        /// Tokens of the prompt, image tokens included.
        prompt: usize,
        /// Tokens of the images.
        images: usize,
        /// Tokens of the answer, with its end token.
        answer: usize,
        /// The longest sequence.
        limit: usize,
        /// The setting that it follows from; `None` for the model's context.
        setting: Option<&'static str>,
    },
    /// A sequence has another number of image tokens than its images have features.
    #[error("the sequence has {found} image tokens and its images give {expected}")]
    ImageTokens {
        /// Features of the images of the sequence.
        expected: usize,
        /// Image tokens in the sequence.
        found: usize,
    },
    /// A completion has an image token, or a prompt ends with one. Each image token must be
    /// followed by a token of the prompt.
    #[error(
        "a completion has an image token, or a prompt ends with one: a token of the prompt must follow each image token"
    )]
    ImageTokenBehind,
    /// The image processor gives images of another size than the vision tower takes.
    #[error(
        "the image processor gives images of {found:?} (channels, height, width), the vision tower takes {expected:?}"
    )]
    ImageSize {
        /// Channels, height and width in `config.json`.
        expected: [usize; 3],
        /// Channels, height and width of processed images.
        found: [usize; 3],
    },
    /// An image is split into another number of tiles than the model takes.
    #[error("an image has {found} tiles, the model takes {expected}")]
    ImageTiles {
        /// Tiles that the model takes.
        expected: usize,
        /// Tiles of the image.
        found: usize,
    },
    /// A loss that compares images has a text without an image.
    #[error("no image: the loss compares the image with a weakened one, and the text has none")]
    NothingToWeaken,
    /// An image has no grid of tokens, which models that take images of any size need.
    #[error(
        "an image has no grid of tokens, which this model needs: prepare it with the model's own processor"
    )]
    NoGrid,
    /// An image whose features are changed is to be scored. Only generation changes features.
    #[error("an image has noise on its features or hidden tokens, which apply to generation only")]
    ChangedFeatures,
    /// `config.json` and the tokenizer have different image tokens.
    #[error(
        "config.json has the image token {expected}, but the tokenizer's <image> is {}",
        found.map_or_else(|| "missing".to_owned(), |id| id.to_string())
    )]
    ImageToken {
        /// The id in `config.json` (`image_token_id` or `image_token_index`; 32000 by default).
        expected: u32,
        /// The id in the tokenizer, if it has one.
        found: Option<u32>,
    },
    /// A computation gave values that are not finite: weights or settings are broken.
    #[error(
        "{what} are not finite; weights or settings of the checkpoint are broken, or the type is too small"
    )]
    NotFinite {
        /// The values.
        what: String,
    },
    /// A file was not written because its weights are not finite.
    #[error(
        "{path} is not written, because it would hold tensors that are not finite: {}. Check the base model, the adapter and \
         the settings of training (learning rate)",
        first_of(names), path = UntrustedPath(path)
    )]
    NotFiniteWeights {
        /// The file.
        path: PathBuf,
        /// Names of the tensors.
        names: Vec<String>,
    },
    /// Two answers of a group have the same tokens.
    #[error("another answer has the same tokens as {:?}: {:?}", Untrusted(text), Untrusted(other))]
    SameTokens {
        /// The second answer.
        text: String,
        /// The first answer.
        other: String,
    },
    /// The tokenizer gives an id that the model has no embedding for.
    #[error("the tokenizer gives the id {id}, the embedding has {vocab} rows")]
    TokenOutside {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// A prompt has no tokens, so nothing predicts the first token of its completion.
    #[error("the prompt has no tokens")]
    EmptyPrompt,
    /// A batch has no completions.
    #[error("the batch has no completions")]
    NoCompletion,
    /// A group names an image that is not in the batch.
    #[error("a group names image {image}, but the batch has {images} images")]
    NoSuchImage {
        /// Index of the image, from 0.
        image: usize,
        /// Number of images of the batch.
        images: usize,
    },
    /// A distortion names a decoder layer that the model does not have.
    #[error(
        "the language model has {layers} decoder layers, so `layer` of `mask-attended` must be from -{layers} to {}, not {layer}",
        layers.saturating_sub(1)
    )]
    NoSuchLayer {
        /// The layer, from 0, or from the last one as -1.
        layer: i32,
        /// Number of decoder layers.
        layers: usize,
    },
    /// The settings of generation exclude every token.
    #[error("the settings in generation_config.json exclude every token that could come next")]
    NoTokenLeft,
    /// A completion has no tokens of its own.
    #[error("no token of the answer is left after the {prompt} tokens of the prompt")]
    EmptyAnswer {
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// An image cannot be loaded.
    #[error("image {}: {}", Untrusted(name), Untrusted(&source.to_string()))]
    Image {
        /// The name of the image in the data.
        name: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image cannot be distorted.
    #[error(transparent)]
    Distort(#[from] bpo_distort::DistortError),
    /// The processor failed.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
}

impl ModelError {
    /// Returns whether the error lies in a question: a prompt or an image that the model can never
    /// take. A failing template or device would fail for other questions too.
    pub fn is_of_request(&self) -> bool {
        use ProcessorError as P;
        match self {
            Self::ContextTooShort { .. }
            | Self::NoTokenLeft
            | Self::ImageTokens { .. }
            | Self::Image { .. }
            | Self::Distort(bpo_distort::DistortError::Recompress { .. }) => true,
            Self::Processor(error) => matches!(
                error,
                P::SpecialToken { .. }
                    | P::ImageTokens { .. }
                    | P::NoImages
                    | P::EmptyImage { .. }
                    | P::ImageTooLarge { .. }
                    | P::NoResolution { .. }
                    | P::ImageTooLong { .. }
                    | P::EmptyAnswer
                    | P::EosInAnswer { .. }
            ),
            _ => false,
        }
    }
}

impl From<FileError> for ModelError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source, .. } => Self::Io { path, source },
            error => Self::File(error),
        }
    }
}

/// Weights that are missing, misshapen or not part of the model, by their names in the files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WeightProblems {
    /// Names that the configuration requires and no file has.
    pub missing: Vec<String>,
    /// Name, expected shape and found shape.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Name and type of weights that are not f32, f16 or bf16.
    pub mistyped: Vec<(String, String)>,
    /// Names that more than one tensor has.
    pub repeated: Vec<String>,
    /// Names in the files that are not part of the model and would change its results.
    pub extra: Vec<String>,
    /// What the names in `extra` say about the model that they belong to.
    pub hints: Vec<String>,
}

impl WeightProblems {
    /// Whether there are any problems.
    pub fn is_fatal(&self) -> bool {
        *self != Self::default()
    }

    /// The names of weights, without those that occur more than once.
    pub(crate) fn names_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let misshapen = self.misshapen.iter_mut().map(|(name, ..)| name);
        let mistyped = self.mistyped.iter_mut().map(|(name, _)| name);
        self.missing.iter_mut().chain(misshapen).chain(mistyped).chain(&mut self.extra)
    }
}

/// Number of problems of one kind that a message lists; further ones are counted.
const LISTED: usize = 16;

/// What the longest sequence is, and where it is set.
fn limit_of(limit: usize, setting: Option<&str>) -> String {
    match setting {
        Some(setting) => format!("{setting} is {limit}"),
        None => format!("the model's context is {limit} (`max_position_embeddings` in config.json)"),
    }
}

/// Lists the first names and counts the others.
pub(crate) fn first_of(names: &[String]) -> String {
    let shown = names.iter().take(LISTED).map(|name| Untrusted(name).to_string()).collect::<Vec<_>>();
    let shown = shown.join(", ");
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
                writeln!(f, "  {kind}: {}", Untrusted(&line))?;
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
        list("duplicate", &mut self.repeated.iter().cloned())?;
        list("not part of the model", &mut self.extra.iter().cloned())?;
        for hint in &self.hints {
            writeln!(f, "  {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
