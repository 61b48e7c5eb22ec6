//! Errors of the pipeline.

mod convert;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

#[cfg(feature = "model")]
use bpo_dpo::DpoError;
pub use bpo_pairs::chain;
use bpo_pairs::files::FileError;
use bpo_pairs::{ContrastChoice, SkipCounts, Skipped, Untrusted, UntrustedPath};

use crate::config::{Change, Missing, Preset};
use crate::device::{DeviceSpec, Devices};
use crate::ledger::{AnswerProblem, ChangedFile};
use crate::rounds::RoundsError;
use crate::stage::Stage;
use text::{counted, differences, hub_name, not_set, nothing_answered, overwritten, unknown};

/// An unknown key in a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The unknown key.
    pub key: String,
    /// The most similar known key.
    pub nearest: String,
    /// All keys that are known at this place.
    pub known: Vec<String>,
}

/// Errors of the pipeline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BpoError {
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {}", UntrustedPath(path))]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file or directory cannot be opened, written, replaced or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A settings file has unknown keys.
    #[error("{}: {}", UntrustedPath(path), unknown(keys, *has_more))]
    UnknownKeys {
        /// The settings file.
        path: PathBuf,
        /// The keys in the order of the file. There is at least one.
        keys: Vec<UnknownKey>,
        /// Whether the file has more unknown keys.
        has_more: bool,
    },
    /// A settings file is not TOML, or a value has the wrong type or form.
    #[error("{}: line {line}, column {column}: {}", UntrustedPath(path), Untrusted(message))]
    ConfigSyntax {
        /// The settings file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Column in characters, counted from 1.
        column: usize,
        /// The error message.
        message: String,
    },
    /// A JSON file of the run cannot be parsed or written.
    #[error("{}", UntrustedPath(path))]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// The settings cannot be written as TOML.
    #[error("the configuration cannot be written as TOML")]
    ConfigEncode {
        /// The cause.
        source: toml::ser::Error,
    },
    /// Settings or flags without a default are missing.
    #[error("missing: {}", not_set(missing))]
    NotSet {
        /// Everything that is missing.
        missing: Vec<Missing>,
    },
    /// An output of a command would overwrite one of its inputs.
    #[error(
        "{} ({input}) is an input, and {} ({output}) would overwrite{}: choose another path for one of them",
        UntrustedPath(read),
        UntrustedPath(given),
        overwritten(given, written)
    )]
    InputIsOutput {
        /// The setting or flag that names the input.
        input: String,
        /// The path of the input.
        read: PathBuf,
        /// The setting or flag that names the output.
        output: String,
        /// The path of the setting or flag.
        given: Box<Path>,
        /// The file or directory that would be written or removed: that path, or one below or
        /// beside it.
        written: PathBuf,
    },
    /// Two outputs of a command are the same file.
    #[error(
        "{first} and {second} are the same file, {}: choose another path for one of them",
        UntrustedPath(path)
    )]
    SameOutput {
        /// The setting or flag that names one output.
        first: String,
        /// The setting or flag that names the other output.
        second: String,
        /// The path.
        path: PathBuf,
    },
    /// The trained weights are not finite.
    #[cfg(feature = "model")]
    #[error("training finished after step {step}, but its result cannot be saved")]
    ResultNotFinite {
        /// The last step.
        step: usize,
        /// [`ModelError::NotFiniteWeights`](bpo_model::ModelError::NotFiniteWeights).
        source: bpo_model::ModelError,
    },
    /// An answer has no score of a judge, on which the pairs depend.
    #[error(
        "the {kind} answer of sample {} has no score: make the answers with `bpo judge`, which scores those of \
         `bpo weaken`",
        Untrusted(id)
    )]
    NotJudged {
        /// Id of the sample.
        id: String,
        /// Source of the answer.
        kind: bpo_pairs::CompletionKind,
    },
    /// A setting has an invalid value.
    #[error("`{key}` must be {expected}, not {}", Untrusted(found))]
    Setting {
        /// Key of the setting.
        key: Cow<'static, str>,
        /// Values that are allowed.
        expected: &'static str,
        /// Value that was found.
        found: String,
    },
    /// Another setting makes a setting useless or invalid.
    #[error("`{key}` cannot be combined with {}: {reason}", Untrusted(with))]
    Conflict {
        /// Key of the setting.
        key: Cow<'static, str>,
        /// The other setting.
        with: String,
        /// The reason why they cannot be combined.
        reason: &'static str,
    },
    /// A setting of a preset does not fit other settings.
    #[error(
        "the preset `{preset}` (--preset) sets `{key}`; set it in the settings file (--config), or leave out the preset"
    )]
    OfPreset {
        /// The preset.
        preset: Preset,
        /// Key of the setting.
        key: String,
        /// The error of the setting.
        source: Box<BpoError>,
    },
    /// Training needs evaluations, but there are no pairs to evaluate on.
    #[error(
        "`train.keep_best` and `train.patience` need pairs to evaluate on: set `train.eval_fraction` (--eval-fraction) or \
         `data.eval_pairs` (--eval-pairs)"
    )]
    NothingToEvaluate,
    /// The results of a stage were made with other settings or from other inputs.
    #[error("{} was made {}", UntrustedPath(path), differences(settings, inputs))]
    Changed {
        /// The file of the stage, or the directory of the run.
        path: PathBuf,
        /// The settings that differ.
        settings: Vec<Change>,
        /// The inputs that differ, with their fingerprints.
        inputs: Vec<Change>,
    },
    /// Answer files do not belong together or to the data.
    #[error(
        "the answers cannot be used together: {}; --allow-mismatch uses them in spite of this",
        problems.iter().map(AnswerProblem::to_string).collect::<Vec<_>>().join("; ")
    )]
    Answers {
        /// All problems of all files.
        problems: Vec<AnswerProblem>,
    },
    /// Several checks failed before the run started.
    #[error("the run cannot start: {}", problems.iter().map(|problem| bpo_pairs::chain(problem)).collect::<Vec<_>>().join("; "))]
    Preflight {
        /// The errors. There are at least two.
        problems: Vec<BpoError>,
    },
    /// A server cannot be reached, refuses the API key, or has no such model.
    #[cfg(feature = "server")]
    #[error("the server of `{section}` ({flag}) cannot be used")]
    ServerUnusable {
        /// The section of the settings.
        section: &'static str,
        /// The flag that names the server.
        flag: &'static str,
        /// The cause, which names the address.
        source: Box<bpo_server::ServerError>,
    },
    /// A file of a run is missing, but files that were made after it exist.
    #[error(
        "{} is missing or empty (stage {stage}), but later files of the run exist: delete {} to make it again, or give \
         another --out",
        UntrustedPath(path), later.iter().map(|path| UntrustedPath(path).to_string()).collect::<Vec<_>>().join(", ")
    )]
    Missing {
        /// The missing file.
        path: PathBuf,
        /// The stage that makes it.
        stage: Stage,
        /// Files and directories that were made after it.
        later: Vec<PathBuf>,
    },
    /// Files of finished stages were changed or removed, but later files of the run were made from
    /// them.
    #[error(
        "{}: restore {}, or delete {} to make these again, or give another --out",
        files.iter().map(ChangedFile::to_string).collect::<Vec<_>>().join("; "),
        if files.len() == 1 { "it" } else { "them" },
        delete.iter().map(|path| UntrustedPath(path).to_string()).collect::<Vec<_>>().join(", ")
    )]
    FilesChanged {
        /// The changed files, in the order of the stages.
        files: Vec<ChangedFile>,
        /// Existing files and directories that were made from them.
        delete: Vec<PathBuf>,
    },
    /// A file or directory holds results, but its manifest is missing.
    #[error(
        "{} exists, but its manifest {} is missing: give another --out, or restore the manifest",
        UntrustedPath(path),
        UntrustedPath(manifest)
    )]
    NoManifest {
        /// The file or directory.
        path: PathBuf,
        /// The missing manifest.
        manifest: PathBuf,
    },
    /// The output of a stage holds the results of another one.
    #[error("{} was made by `bpo {found}`, not by `bpo {stage}`: give another --out", UntrustedPath(path))]
    OtherStage {
        /// The file.
        path: PathBuf,
        /// The stage that should continue the file.
        stage: Stage,
        /// The stage that made it.
        found: Stage,
    },
    /// A directory for a run is not empty and holds no run.
    #[error("{} is not empty and holds no run: give another --out, or empty it", UntrustedPath(path))]
    NotARun {
        /// The directory.
        path: PathBuf,
    },
    /// A directory holds rounds, or none, contrary to what was asked for.
    #[error(transparent)]
    Rounds(#[from] RoundsError),
    /// A settings file that bpo did not write would be overwritten.
    #[error(
        "{} was not written by bpo and would be overwritten: move it, or give another --out",
        UntrustedPath(path)
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// No pair of the data can have a contrast.
    #[error(
        "{}: none of the {questions} different questions has two annotated answers, so no pair can have the images and \
         the answer of another sample (`pair.contrast = \"{}\"`, --contrast): use data in which questions are repeated \
         for other images, or leave the setting out and train with another loss than symmpo",
        UntrustedPath(path),
        choice.as_str()
    )]
    NoContrasts {
        /// The data.
        path: PathBuf,
        /// The setting.
        choice: ContrastChoice,
        /// Number of different questions about images.
        questions: usize,
    },
    /// The server or injector refused all requests of a stage, or no reply of a judge could be read.
    #[error(
        "{stage}: {} ({skipped}); the first failure: {}{}",
        match stage {
            Stage::Judge => "no reply of the judge could be used",
            _ => "no request was answered",
        },
        Untrusted(reason),
        nothing_answered(*stage, skipped)
    )]
    NothingAnswered {
        /// The stage.
        stage: Stage,
        /// Detail of the first refusal.
        reason: String,
        /// Number of skipped samples by reason.
        skipped: SkipCounts,
    },
    /// A model failed on a question, for a reason that is not in the question.
    #[error("question {:?}: the model failed", Untrusted(id))]
    Question {
        /// Id of the question.
        id: String,
        /// The error of the model.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A question was skipped although all questions must be answered.
    #[error("question {:?} was not answered: {}", Untrusted(id), Untrusted(reason))]
    Unanswered {
        /// Id of the question.
        id: String,
        /// The reason, which names the image if the image is the cause.
        reason: String,
    },
    /// Two questions have the same id, so their answers cannot be distinguished.
    #[error("{}: two questions have the id {:?}", UntrustedPath(path), Untrusted(id))]
    SameId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// An existing file of pairs differs from the pairs that would be written.
    #[error(
        "{} exists and differs from the pairs of the answers ({in_file} pairs in the file, {from_answers} from the answers): delete it, or \
         give another --out",
        UntrustedPath(path)
    )]
    Differs {
        /// The file.
        path: PathBuf,
        /// Number of pairs in the file.
        in_file: usize,
        /// Number of pairs that would be written.
        from_answers: usize,
    },
    /// No image of the data can be used.
    #[error(
        "no image of the data can be used ({skipped}); the first is {} ({}). Is `data.images` (--images) the \
         directory that image paths are relative to?",
        UntrustedPath(first),
        Untrusted(reason)
    )]
    NoImages {
        /// The first image.
        first: PathBuf,
        /// The reason why it cannot be used.
        reason: String,
        /// Number of skipped samples by reason.
        skipped: SkipCounts,
    },
    /// The directory of a checkpoint does not exist.
    #[error(
        "no directory {}: a model is a local Hugging Face directory{}",
        UntrustedPath(path),
        hub_name(path)
    )]
    NoCheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// A directory that should hold a model holds an adapter.
    #[error(
        "{} is an adapter, or has one in it (adapter_config.json), and adapters do not nest: merge it into its model first \
         (bpo merge)",
        UntrustedPath(path)
    )]
    AdapterAsModel {
        /// The directory.
        path: PathBuf,
    },
    /// The reference has another chat template or tokenizer than the model.
    #[error(
        "the reference {} has another {what} than the model: use a reference with the same chat template and \
         tokenizer",
        UntrustedPath(path)
    )]
    ReferenceTemplate {
        /// The directory of the reference.
        path: PathBuf,
        /// The part that differs.
        what: &'static str,
    },
    /// A directory that should hold an adapter holds none.
    #[error("{} is not a PEFT adapter: it has no adapter_config.json", UntrustedPath(path))]
    NoAdapter {
        /// The path.
        path: PathBuf,
    },
    /// A directory holds no adapter, but its subdirectory `adapter` does.
    #[error("{} has no adapter_config.json; did you mean {}?", UntrustedPath(path), UntrustedPath(inside))]
    AdapterInside {
        /// The directory that was given.
        path: PathBuf,
        /// The subdirectory.
        inside: PathBuf,
    },
    /// An adapter was trained on other weights than those of the model.
    #[error(
        "the adapter {} was trained on other weights than those of {}, according to {}; if they are the same weights in \
         another form, delete that file",
        UntrustedPath(path),
        UntrustedPath(model),
        UntrustedPath(record)
    )]
    AdapterOfAnother {
        /// The directory of the adapter.
        path: PathBuf,
        /// The directory of the model.
        model: PathBuf,
        /// The file that records the weights.
        record: PathBuf,
    },
    /// Another process uses the directory.
    #[error("{} is in use by another process", UntrustedPath(path))]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The text is not the name of a device.
    #[error(
        "unknown device {:?}: expected flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu, or several separated by commas",
        Untrusted(found)
    )]
    UnknownDevice {
        /// The text.
        found: String,
    },
    /// The text is not the name of a data type.
    #[error("unknown dtype {:?}: expected f32, bf16 or f16", Untrusted(found))]
    UnknownDtype {
        /// The text.
        found: String,
    },
    /// An operation on one device was given several.
    #[error("the devices are {devices}, but this command computes on one: name one")]
    SeveralDevices {
        /// The devices.
        devices: Devices,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread for a device")]
    Thread {
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The device needs a feature that the program was built without.
    #[error("device {device} needs a program built with `--features {feature}`")]
    DeviceNotBuilt {
        /// The device.
        device: DeviceSpec,
        /// The missing feature of this crate.
        feature: &'static str,
    },
    /// The device cannot be started.
    #[error("device {device} cannot be used: {}", Untrusted(reason))]
    DeviceUnavailable {
        /// The device.
        device: DeviceSpec,
        /// The message of its driver or backend.
        reason: String,
    },
    /// No samples or pairs are left to work on.
    #[error("{}: no {what} is left ({})", UntrustedPath(path), counted(skipped))]
    Nothing {
        /// The file that they come from.
        path: PathBuf,
        /// The kind of item.
        what: &'static str,
        /// Number of skipped items by reason, including those of earlier stages.
        skipped: SkipCounts,
    },
    /// No record of a file can be used.
    #[error("{}: no {what} can be used ({}); the first, {}: {}", UntrustedPath(path), counted(skipped), Untrusted(&first.id), Untrusted(&first.detail))]
    NothingUsable {
        /// The file.
        path: PathBuf,
        /// The kind of record.
        what: &'static str,
        /// Number of skipped records by reason.
        skipped: SkipCounts,
        /// The first skipped record.
        first: Box<Skipped>,
    },
    /// A pair to evaluate on cannot be used, and `train.validate_pairs` is off.
    #[error(
        "{}: pair {}: {}; with `train.validate_pairs` such pairs are skipped",
        UntrustedPath(path), Untrusted(&skipped.id), Untrusted(&skipped.detail)
    )]
    EvalPair {
        /// The file.
        path: PathBuf,
        /// The pair, with the reason.
        skipped: Box<Skipped>,
    },
    /// A setting or command needs a feature that the program was built without.
    #[error("{what} needs a program built with `--features {feature}`")]
    NotBuilt {
        /// The setting or command.
        what: &'static str,
        /// The missing feature of this crate.
        feature: &'static str,
    },
    /// A stage file has a record of a sample that is not in the data or in the shard.
    #[error(
        "{}: line {line}: a record of {found:?}, which is not among the samples of this stage or shard: give another \
         --out, or the data that the file was made from",
        UntrustedPath(path), found = Untrusted(found)
    )]
    OtherSamples {
        /// The stage file.
        path: PathBuf,
        /// Line of the record, counted from 1.
        line: usize,
        /// Id of the sample, with the index of the answer.
        found: String,
    },
    /// A model or server failed for a reason that is not in the sample, so the stage stopped.
    /// Running it again resumes it.
    #[error("sample {:?}: {stage} stopped; run it again to resume it", Untrusted(id))]
    StageStopped {
        /// The stage.
        stage: Stage,
        /// The first sample without a result.
        id: String,
        /// The error of the model.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A model returned another number of answers than it got requests.
    #[error("{stage}: {requests} requests, but {answers} answers")]
    AnswerCount {
        /// The stage.
        stage: &'static str,
        /// Number of requests.
        requests: usize,
        /// Number of answers.
        answers: usize,
    },
    /// A distortion needs another image, but there is none.
    #[error(
        "sample {:?}: {} needs another image, and no other sample has a usable one",
        Untrusted(id),
        Untrusted(distortion)
    )]
    NoOtherImage {
        /// Id of the sample.
        id: String,
        /// The distortion.
        distortion: String,
    },
    /// An answer belongs to no sample.
    #[error("answer for {:?}, but no sample has this id", Untrusted(id))]
    UnknownId {
        /// The id.
        id: String,
    },
    /// An image cannot be used.
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
    /// Data or stage files cannot be read or written.
    #[error(transparent)]
    Pairs(#[from] bpo_pairs::PairsError),
    /// Files could not be distorted.
    #[error(transparent)]
    DistortFiles(#[from] crate::distort_files::DistortFilesError),
    /// A checkpoint or adapter cannot be used.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Model(bpo_model::ModelError),
    /// The tokenizer, chat template or image processor of a checkpoint cannot be used.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Processor(#[from] bpo_model::ProcessorError),
    /// A model of a hub cannot be downloaded.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    /// A setting of the server is invalid.
    #[cfg(feature = "server")]
    #[error("[{section}]")]
    Server {
        /// The section of the settings.
        section: &'static str,
        /// The cause, which names the setting.
        source: Box<bpo_server::ServerError>,
    },
    /// A setting in a table of the settings file does not fit the model or the pairs.
    #[cfg(feature = "model")]
    #[error("[{table}]")]
    InTable {
        /// The table.
        table: &'static str,
        /// The error, which names the key.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Errors cannot be injected.
    #[error(transparent)]
    Inject(bpo_inject::InjectError),
    /// Answers cannot be scored.
    #[error(transparent)]
    Eval(#[from] bpo_eval::EvalError),
    /// The policy differs from its reference before the first step.
    #[cfg(feature = "model")]
    #[error(
        "training cannot start; `train.reference_differs` (--reference-differs) and `train.initial_tolerance` control this check"
    )]
    InitialMismatch {
        /// [`DpoError::InitialMismatch`].
        source: DpoError,
    },
    /// Training failed.
    #[cfg(feature = "model")]
    #[error(transparent)]
    Dpo(DpoError),
}
