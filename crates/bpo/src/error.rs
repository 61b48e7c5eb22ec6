//! Errors of the pipeline.

mod text;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

#[cfg(feature = "model")]
use bpo_dpo::DpoError;
pub use bpo_pairs::chain;
use bpo_pairs::files::FileError;
use bpo_pairs::{SkipCounts, Skipped, Untrusted, UntrustedPath};

use crate::config::{Change, Missing};
use crate::device::DeviceSpec;
use crate::stage::Stage;
use text::{counted, differences, overwritten};

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpoError {
    /// A file or directory could not be read or written.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file or directory cannot be opened, written, replaced or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A configuration file has a key that nothing reads.
    #[error(
        "{}: line {line}, column {column}: unknown key `{key}`: did you mean `{nearest}`? (known here: {})",
        UntrustedPath(path), known.join(", ")
    )]
    UnknownKey {
        /// The configuration file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: String,
        /// All keys known at this place.
        known: Vec<String>,
    },
    /// A configuration file is not TOML, or a value has the wrong form.
    #[error("{}: line {line}, column {column}: {message}", UntrustedPath(path))]
    ConfigSyntax {
        /// The configuration file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A JSON file of the run is not what it should be.
    #[error("{}", UntrustedPath(path))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The configuration cannot be written down.
    #[error("the configuration cannot be written as TOML")]
    ConfigEncode {
        /// Why.
        source: toml::ser::Error,
    },
    /// Settings without a default are not given. All of them are named.
    #[error("not given: {}. A key goes into the settings' file (--config)", missing.iter().map(Missing::to_string).collect::<Vec<_>>().join(", "))]
    NotSet {
        /// All that is missing.
        missing: Vec<Missing>,
    },
    /// An input of a command is in one of its outputs, or an output in one of its inputs.
    #[error(
        "{} ({input}) is an input, and {} ({output}) would overwrite{}: choose another path for one of them",
        UntrustedPath(read),
        UntrustedPath(given),
        overwritten(given, written)
    )]
    InputIsOutput {
        /// The setting or flag that names the input.
        input: String,
        /// The input.
        read: PathBuf,
        /// The setting or flag that names the output.
        output: String,
        /// The path that the setting or flag gives.
        given: Box<Path>,
        /// The file or directory, below that path or beside it, that would be written or removed.
        written: PathBuf,
    },
    /// What was trained is not finite.
    #[cfg(feature = "model")]
    #[error("training is done after step {step}, and what it gave cannot be saved")]
    ResultNotFinite {
        /// The last step.
        step: usize,
        /// [`ModelError::NotFiniteWeights`](bpo_model::ModelError::NotFiniteWeights).
        source: bpo_model::ModelError,
    },
    /// A setting has a value that cannot work.
    #[error("`{key}` must be {expected}, not {found}")]
    Setting {
        /// Its key.
        key: Cow<'static, str>,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A setting that another one leaves nothing to do.
    #[error("`{key}` does not go with {with}: {reason}")]
    Conflict {
        /// Its key.
        key: Cow<'static, str>,
        /// The other one, with its value.
        with: String,
        /// Why not.
        reason: &'static str,
    },
    /// A setting asks for the best evaluation, and there is nothing to evaluate on.
    #[error(
        "`train.keep_best` and `train.patience` need pairs to evaluate on: set `train.eval_fraction` (--eval-fraction) or \
         `data.eval_pairs` (--eval-pairs)"
    )]
    NothingToEvaluate,
    /// The results of a stage were made with other settings or from other inputs than those given now.
    #[error("{} was made {}", UntrustedPath(path), differences(settings, inputs))]
    Changed {
        /// The file of the stage, or the directory of the run.
        path: PathBuf,
        /// Each setting that differs.
        settings: Vec<Change>,
        /// Each input that differs, with its fingerprints.
        inputs: Vec<Change>,
    },
    /// Several things are wrong with a run that has not started.
    #[error("the run cannot start: {}", problems.iter().map(|problem| bpo_pairs::chain(problem)).collect::<Vec<_>>().join("; "))]
    Preflight {
        /// All of them; there are at least two.
        problems: Vec<BpoError>,
    },
    /// The server of the settings does not answer at all.
    #[cfg(feature = "server")]
    #[error("the server of `inject.server` (--server) cannot be reached")]
    ServerUnreachable {
        /// The address, and why.
        source: bpo_server::ServerError,
    },
    /// Something of a run is gone, and what was made after it is not.
    #[error(
        "{} is missing or empty ({stage}), though later files of the run are there. To make it again delete {}; or give \
         another --out",
        UntrustedPath(path), later.iter().map(|path| UntrustedPath(path).to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// What is missing.
        path: PathBuf,
        /// The stage that makes it.
        stage: Stage,
        /// Files and directories that were made after it.
        later: Vec<PathBuf>,
    },
    /// A file or directory holds results, and no manifest says how they were made.
    #[error(
        "{} is there and {} is not, which says how it was made: give another --out, or restore that file",
        UntrustedPath(path),
        UntrustedPath(manifest)
    )]
    NoManifest {
        /// The file or directory.
        path: PathBuf,
        /// The manifest that is missing.
        manifest: PathBuf,
    },
    /// A directory for a run holds files, and none of a run.
    #[error("{} is not empty, and no run is in it: give another --out, or empty it", UntrustedPath(path))]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// A file of settings would be written over one that somebody else wrote.
    #[error(
        "{} was not written by bpo, and would be written over: move it, or give another --out",
        UntrustedPath(path)
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// No request of a stage was answered, for reasons that lie in the requests.
    #[error(
        "{stage}: nothing was answered ({skipped}), so nothing is kept; the first: {}",
        Untrusted(reason)
    )]
    NothingAnswered {
        /// The stage.
        stage: Stage,
        /// Why the first was not.
        reason: String,
        /// All, by reason.
        skipped: SkipCounts,
    },
    /// A model failed in a way that is not the question's fault.
    #[error("question {id:?}: the model failed")]
    Question {
        /// Id of the question.
        id: String,
        /// What the model says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A question was skipped where all must be answered.
    #[error("question {id:?} is not answered: {}", Untrusted(reason))]
    Unanswered {
        /// Id of the question.
        id: String,
        /// Why not, which names its image where that is the reason.
        reason: String,
    },
    /// Two questions have the same id, so their answers cannot be distinguished.
    #[error("{}: the id {id:?} is of two questions", UntrustedPath(path))]
    SameId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// A file of pairs is there and not what it would be now.
    #[error(
        "{} exists and differs from what the answers give ({there} pairs there, {now} now): delete it, or give another \
         --out",
        UntrustedPath(path)
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// Pairs in it.
        there: usize,
        /// Pairs that the answers give.
        now: usize,
    },
    /// Not one image of the data can be used.
    #[error(
        "no image of the data can be used ({skipped}); the first is {} ({}). Is `data.images` (--images) the \
         directory that image paths are relative to?",
        UntrustedPath(first),
        Untrusted(reason)
    )]
    NoImages {
        /// The first that was tried.
        first: PathBuf,
        /// Why it cannot be used.
        reason: String,
        /// All, by reason.
        skipped: SkipCounts,
    },
    /// No directory is where the checkpoint should be.
    #[error("no directory {}: a model is a local Hugging Face directory", UntrustedPath(path))]
    NoCheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// What should be a model is an adapter.
    #[error(
        "{} is an adapter, or has one in it (adapter_config.json), and adapters do not nest: merge it into its model first \
         (bpo merge)",
        UntrustedPath(path)
    )]
    AdapterAsModel {
        /// The directory.
        path: PathBuf,
    },
    /// The reference would be asked in another form than its own.
    #[error(
        "the reference {} has another {what} than the model, whose texts it would be asked: take a reference of the same \
         chat template and tokenizer",
        UntrustedPath(path)
    )]
    ReferenceTemplate {
        /// Its directory.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// No adapter is where one should be.
    #[error("{} is no PEFT adapter: there is no adapter_config.json in it", UntrustedPath(path))]
    NoAdapter {
        /// The path.
        path: PathBuf,
    },
    /// An adapter is further down than it was said to be.
    #[error("{} has no adapter_config.json; did you mean {}?", UntrustedPath(path), UntrustedPath(inside))]
    AdapterInside {
        /// The directory that was given.
        path: PathBuf,
        /// The directory in it that has an adapter.
        inside: PathBuf,
    },
    /// An adapter was trained on other weights than it shall be used with.
    #[error(
        "the adapter {} was trained on other weights than those of {}, by {}; where they are the same in another form, remove \
         that file",
        UntrustedPath(path),
        UntrustedPath(model),
        UntrustedPath(record)
    )]
    AdapterOfAnother {
        /// The adapter's directory.
        path: PathBuf,
        /// That of the checkpoint.
        model: PathBuf,
        /// The file that says so.
        record: PathBuf,
    },
    /// Another process works in the same directory.
    #[error("{} is in use by another process", UntrustedPath(path))]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A text that names no device.
    #[error("unknown device {found:?}: expected flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu")]
    UnknownDevice {
        /// The text.
        found: String,
    },
    /// A text that names no type of numbers.
    #[error("unknown dtype {found:?}: expected f32, bf16 or f16")]
    UnknownDtype {
        /// The text.
        found: String,
    },
    /// The program was built without what the device needs.
    #[error("device {device} needs a program built with `--features {feature}`")]
    DeviceNotBuilt {
        /// The device.
        device: DeviceSpec,
        /// The missing feature of this crate.
        feature: &'static str,
    },
    /// The device does not start.
    #[error("device {device} cannot be used: {reason}")]
    DeviceUnavailable {
        /// The device.
        device: DeviceSpec,
        /// What its driver or backend says.
        reason: String,
    },
    /// There is nothing to work on.
    #[error("{}: no {what} is left ({})", UntrustedPath(path), counted(skipped))]
    Nothing {
        /// Where they came from.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What could not be used, in this stage and those before it, by reason.
        skipped: SkipCounts,
    },
    /// Not a single record of a file can be used.
    #[error("{}: no {what} can be used ({}); the first, {}: {}", UntrustedPath(path), counted(skipped), Untrusted(&first.id), Untrusted(&first.detail))]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// All of them, by reason.
        skipped: SkipCounts,
        /// The first of them.
        first: Box<Skipped>,
    },
    /// The program was built without what a setting or command needs.
    #[error("{what} needs a program built with `--features {feature}`")]
    NotBuilt {
        /// The setting or command.
        what: &'static str,
        /// The missing feature of this crate.
        feature: &'static str,
    },
    /// A stage file has a record that is none of this stage with these samples.
    #[error(
        "{}: line {line}: a record of {found:?}, which is not among the samples of this stage or shard: give another \
         --out, or the data that the file was made from",
        UntrustedPath(path)
    )]
    OtherSamples {
        /// The stage file.
        path: PathBuf,
        /// Line of the record, from 1.
        line: usize,
        /// Id of its sample, with the number of the answer.
        found: String,
    },
    /// A model or server failed in a way that is not the sample's fault: the stage stops and can be
    /// run again.
    #[error("sample {id:?}: {stage} stopped, run it again to go on from here")]
    StageStopped {
        /// The stage.
        stage: Stage,
        /// The first sample without a result.
        id: String,
        /// The error of the model.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model gave another number of answers than there were requests.
    #[error("{stage}: {requests} requests, but {answers} answers")]
    AnswerCount {
        /// What was being done.
        stage: &'static str,
        /// Requests made.
        requests: usize,
        /// Answers given.
        answers: usize,
    },
    /// A distortion needs another image, and there is none.
    #[error("sample {id:?}: {distortion} needs another image, and no other sample has one that can be used")]
    NoOtherImage {
        /// Id of the sample.
        id: String,
        /// The distortion.
        distortion: String,
    },
    /// An answer belongs to no sample.
    #[error("answer for {id:?}, but no sample has this id")]
    UnknownId {
        /// The id.
        id: String,
    },
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
    /// Data or stage files.
    #[error(transparent)]
    Pairs(#[from] bpo_pairs::PairsError),
    /// Files could not be distorted.
    #[error(transparent)]
    DistortFiles(#[from] crate::distort_files::DistortFilesError),
    /// A checkpoint or adapter.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Model(bpo_model::ModelError),
    /// The tokenizer, chat template or image processor of a checkpoint.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Processor(#[from] bpo_model::ProcessorError),
    /// The settings of the server cannot work.
    #[cfg(feature = "server")]
    #[error("[inject.server]")]
    Server {
        /// Which, and why.
        source: bpo_server::ServerError,
    },
    /// A setting of a table of the settings file cannot be used with this model or these pairs.
    #[cfg(feature = "model")]
    #[error("[{table}]")]
    InTable {
        /// The table.
        table: &'static str,
        /// The error, which names the key.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Error injection.
    #[error(transparent)]
    Inject(bpo_inject::InjectError),
    /// Answers that cannot be scored.
    #[error(transparent)]
    Eval(#[from] bpo_eval::EvalError),
    /// The policy differs from its reference before the first step.
    #[cfg(feature = "model")]
    #[error(
        "training cannot begin; `train.reference_differs` (--reference-differs) and `train.initial_tolerance` decide this check"
    )]
    InitialMismatch {
        /// [`DpoError::InitialMismatch`].
        source: DpoError,
    },
    /// Training.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Dpo(DpoError),
}

#[cfg(feature = "model")]
impl From<DpoError> for BpoError {
    /// Gives settings the names that they have in a run's.
    fn from(error: DpoError) -> Self {
        match error {
            DpoError::Setting { key, expected, found } => {
                Self::Setting { key: format!("train.{key}").into(), expected, found }
            }
            DpoError::Conflict { key, with, reason } => {
                Self::Conflict { key: format!("train.{key}").into(), with, reason }
            }
            DpoError::NothingToEvaluate => Self::NothingToEvaluate,
            source @ DpoError::InitialMismatch { .. } => Self::InitialMismatch { source },
            error @ (DpoError::UnknownKind { .. } | DpoError::EmptyGroup { .. }) => {
                Self::InTable { table: "train", source: error.into() }
            }
            error => Self::Dpo(error),
        }
    }
}

#[cfg(feature = "model")]
impl From<bpo_model::ModelError> for BpoError {
    /// Names the table of a setting.
    fn from(error: bpo_model::ModelError) -> Self {
        match error {
            error @ bpo_model::ModelError::TargetPattern { .. } => {
                Self::InTable { table: "lora", source: error.into() }
            }
            error @ bpo_model::ModelError::Setting { key: "gradient_checkpointing", .. } => {
                Self::in_table("model", error)
            }
            error => Self::in_table("lora", error),
        }
    }
}

impl From<bpo_inject::InjectError> for BpoError {
    /// Gives settings the names that they have in a run's.
    fn from(error: bpo_inject::InjectError) -> Self {
        match error {
            bpo_inject::InjectError::Setting { key, expected, found } => {
                Self::Setting { key: format!("inject.llm.{key}").into(), expected, found }
            }
            error => Self::Inject(error),
        }
    }
}

impl BpoError {
    /// Gives a setting of the model's crate the name that it has in a run's.
    #[cfg(feature = "model")]
    pub(crate) fn in_table(table: &str, error: bpo_model::ModelError) -> Self {
        match error {
            bpo_model::ModelError::Setting { key, expected, found } => {
                Self::Setting { key: format!("{table}.{key}").into(), expected, found }
            }
            error => Self::Model(error),
        }
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

impl BpoError {
    /// One error of all `problems`: the only one, or [`BpoError::Preflight`].
    ///
    /// # Errors
    /// If there is a problem.
    pub(crate) fn all(mut problems: Vec<Self>) -> Result<(), Self> {
        match problems.len() {
            0 => Ok(()),
            1 => Err(problems.remove(0)),
            _ => Err(Self::Preflight { problems }),
        }
    }

    /// There is nothing to work on in a file of which `items` could not be used.
    pub fn nothing(path: &Path, what: &'static str, items: &[Skipped]) -> Self {
        let (path, skipped) = (path.to_owned(), items.iter().collect());
        match items.first() {
            None => Self::Nothing { path, what, skipped },
            Some(first) => Self::NothingUsable { path, what, skipped, first: Box::new(first.clone()) },
        }
    }
}
