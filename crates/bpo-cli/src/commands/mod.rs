//! The commands.

mod convert;
#[cfg(feature = "model")]
mod convert_checkpoint;
mod distort;
mod eval;
#[cfg(feature = "model")]
mod generate;
mod inject;
mod inspect;
mod judge;
#[cfg(feature = "model")]
mod merge;
mod pair;
#[cfg(feature = "model")]
mod plan;
#[cfg(feature = "model")]
mod rounds;
#[cfg(feature = "model")]
mod run;
#[cfg(feature = "model")]
mod score;
mod stats;
#[cfg(feature = "model")]
mod train;
mod weaken;

use std::path::{Path, PathBuf};

#[cfg(feature = "model")]
use bpo::Checkpoint;
#[cfg(feature = "model")]
use bpo::burn::tensor::Device;
use bpo::pairs::Fingerprint;
#[cfg(feature = "server")]
use bpo::server::OpenAiConfig;
use bpo::stages::{StageAnswers, StageFile, StageOutcome};
use bpo::{
    AnnotatedData, BpoError, ImageRoot, Inputs, Media, Paths, Progress, RunConfig, Stage, StageLedger,
    check_answers, manifest_beside,
};
#[cfg(feature = "hub")]
use bpo::{Hub, HubModel, ModelUse};

use crate::args::Command;
use crate::failure::Failure;
#[cfg(feature = "hub")]
use crate::progress;
#[cfg(feature = "model")]
use crate::quickstart::quickstart;
use crate::skipped::{SkippedBefore, print_skipped};
#[cfg(feature = "hub")]
use crate::terminal::print_line;

/// Runs a command.
///
/// # Errors
/// Returns the reason why the command did not finish its work.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "model")]
        Command::Quickstart(args) => quickstart(&args),
        #[cfg(feature = "model")]
        Command::Run(args) => run::run(&args),
        #[cfg(feature = "model")]
        Command::Rounds(args) => rounds::rounds(&args),
        Command::Weaken(args) => weaken::weaken(&args),
        Command::Inject(args) => inject::inject(&args),
        Command::Judge(args) => judge::judge(&args),
        Command::Pair(args) => pair::pair(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Stats(args) => stats::stats(&args),
        Command::Convert(args) => convert::convert(&args),
        #[cfg(feature = "model")]
        Command::Train(args) => train::train(&args),
        #[cfg(feature = "model")]
        Command::Score(args) => score::score(&args),
        #[cfg(feature = "model")]
        Command::Generate(args) => generate::generate(&args),
        Command::Distort(args) => distort::distort(&args),
        #[cfg(feature = "model")]
        Command::Merge(args) => merge::merge(&args),
        #[cfg(feature = "model")]
        Command::ConvertCheckpoint(args) => convert_checkpoint::convert_checkpoint(&args),
        Command::Eval(command) => eval::eval(&command),
        // `Cli::read` has refused it
        #[cfg(not(feature = "model"))]
        Command::Other(_) => Ok(()),
    }
}

/// Opens the devices, and returns the first and the others. The panic message of a backend that fails
/// is not printed; the error has the reason.
#[cfg(feature = "model")]
pub fn open_devices(config: &RunConfig) -> Result<(Device, Vec<Device>), BpoError> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let devices = config.device.open();
    std::panic::set_hook(hook);
    devices
}

/// Opens the device of a command that computes on one.
#[cfg(feature = "model")]
pub fn open_device(config: &RunConfig) -> Result<Device, BpoError> {
    config.device.single()?;
    open_devices(config).map(|(device, _)| device)
}

/// A model in the settings that a command uses.
#[cfg(feature = "model")]
#[derive(Clone, Copy)]
enum UsedModel {
    /// `model.path`
    Model,
    /// `reference.path`
    Reference,
    /// `inject.model`
    Injector,
}

/// Downloads the models that a command uses, if they are names on the Hugging Face Hub, and replaces
/// the names by directories of the cache. `inputs` are files and directories that flags name.
///
/// # Errors
/// Returns an error if an input or the data does not exist, before anything is downloaded, or if a
/// model cannot be downloaded.
#[cfg(feature = "hub")]
fn fetch_models(mut config: RunConfig, used: &[UsedModel], inputs: &[&Path]) -> Result<RunConfig, BpoError> {
    let mut named: Vec<(PathBuf, UsedModel)> = used
        .iter()
        .filter_map(|used| Some((used.path(&mut config).clone()?, *used)))
        .filter(|(path, _)| HubModel::of_path(path).is_some())
        .collect();
    if named.is_empty() {
        return Ok(config);
    }
    let data = [&config.data.path, &config.data.images, &config.data.eval_pairs];
    for path in data.into_iter().flatten().map(PathBuf::as_path).chain(inputs.iter().copied()) {
        let there = path.metadata();
        there.map_err(|source| BpoError::Io { action: "open", path: path.to_owned(), source })?;
    }
    let (hub, mut progress) = (Hub::from_env()?, progress::new());
    for (path, used) in &mut named {
        if let Some(fetched) = hub.fetch_path(path, used.usage(), &mut *progress)? {
            print_line(&format!("model {fetched}: {}", fetched.dir.display()));
        }
        *used.path(&mut config) = Some(path.clone());
    }
    Ok(config)
}

#[cfg(feature = "hub")]
impl UsedModel {
    /// The setting.
    fn path(self, config: &mut RunConfig) -> &mut Option<PathBuf> {
        match self {
            Self::Model => &mut config.model.path,
            Self::Reference => &mut config.reference.path,
            Self::Injector => &mut config.inject.model,
        }
    }

    fn usage(self) -> ModelUse {
        match self {
            Self::Model | Self::Reference => ModelUse::Images,
            Self::Injector => ModelUse::Text,
        }
    }
}

/// A build without downloads takes directories only.
#[cfg(all(feature = "model", not(feature = "hub")))]
fn fetch_models(config: RunConfig, _: &[UsedModel], _: &[&Path]) -> Result<RunConfig, BpoError> {
    Ok(config)
}

/// Opens the image root of the settings.
fn open_images(config: &RunConfig) -> Result<ImageRoot, BpoError> {
    let images = ImageRoot::new(config.images_path()?)?;
    Ok(images.with_limits(config.data.limits))
}

/// Reads the API key of a server from the environment variable that its settings name. `key` is the
/// key of that setting. Errors show neither the API key nor a name that may be one.
#[cfg(feature = "server")]
fn api_key(server: Option<&OpenAiConfig>, key: &'static str) -> Result<Option<String>, BpoError> {
    let Some(name) = server.and_then(|server| server.api_key_env.as_deref()) else { return Ok(None) };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let shown = if name.chars().all(is_name) { format!("`{name}`") } else { "a name (not shown)".to_owned() };
    std::env::var(name).map(Some).map_err(|error| BpoError::Setting {
        key: key.into(),
        expected: "the name of an environment variable that holds the key",
        found: match error {
            std::env::VarError::NotPresent => format!("{shown}, which is not set"),
            std::env::VarError::NotUnicode(_) => format!("{shown}, whose value is not UTF-8"),
        },
    })
}

/// Returns the API key of the server that injects errors.
#[cfg(feature = "server")]
fn injector_key(config: &RunConfig) -> Result<Option<String>, BpoError> {
    api_key(config.inject.server.as_ref(), "inject.server.api_key_env")
}

/// A build without the client of a server needs no API key.
#[cfg(not(feature = "server"))]
fn injector_key(_: &RunConfig) -> Result<Option<String>, BpoError> {
    Ok(None)
}

/// Returns the API key of the server with a vision-language model.
#[cfg(feature = "server")]
fn vlm_key(config: &RunConfig) -> Result<Option<String>, BpoError> {
    api_key(config.weaken.server.as_ref(), "weaken.server.api_key_env")
}

/// Returns the API key of the server with the judge.
#[cfg(feature = "server")]
fn judge_key(config: &RunConfig) -> Result<Option<String>, BpoError> {
    api_key(config.judge.server.as_ref(), "judge.server.api_key_env")
}

/// Loads the checkpoint of the settings with its adapter.
#[cfg(feature = "model")]
fn load_checkpoint(config: &RunConfig) -> Result<(Checkpoint, Vec<Device>), BpoError> {
    let (device, further) = open_devices(config)?;
    let adapter = config.model.adapter.as_deref();
    let checkpoint =
        Checkpoint::load_with_adapter(config.model_path()?, adapter, config.model.dtype, &device)?;
    Ok((checkpoint, further))
}

/// The files that the command of a single stage writes.
fn outputs_of_stage<'a>(paths: &'a mut Paths, out: &Path) -> &'a mut Paths {
    paths.output("--out", out).output("--out", &manifest_beside(out))
}

/// Opens what makes the answers of a stage.
type Opened<'a, M> = Box<dyn FnOnce() -> Result<M, BpoError> + 'a>;

/// Continues the file of a stage by `work`, which gets what makes its answers, and prints what was skipped.
/// With `retry_skipped`, skipped answers whose reason can change are made again.
///
/// # Errors
/// Returns the errors of `work`, and [`BpoError::Nothing`] if all answers were skipped, unless the file is
/// of a shard.
fn continue_file<M>(
    stage: Stage,
    config: &RunConfig,
    inputs: &Inputs,
    (out, retry_skipped): (&Path, bool),
    open: impl Fn() -> Result<M, BpoError>,
    work: impl FnOnce(Opened<'_, M>, &mut StageFile) -> Result<StageOutcome, BpoError>,
) -> Result<(), Failure> {
    let (mut ledger, mut file) = StageLedger::open_file(stage, config, inputs, out)?;
    // the answers that are tried again are removed only if something can make them
    let retries = retry_skipped && file.count_retryable(stage) > 0;
    let ready = retries.then(&open).transpose()?;
    let before = SkippedBefore::of(&mut ledger, stage, &mut file, retry_skipped)?;
    let outcome = work(Box::new(|| ready.map_or_else(&open, Ok)), &mut file)?;
    ledger.finish(stage, &outcome.summary)?;
    before.print(&outcome, out);
    let shard = if stage == Stage::Inject { config.inject.shard } else { config.weaken.shard };
    // other shards may have answers
    if outcome.summary.done == 0 && outcome.summary.skipped.total() > 0 && shard.is_none() {
        let (path, skipped) = (out.to_owned(), outcome.summary.skipped);
        return Err(BpoError::Nothing { path, what: "answer", skipped }.into());
    }
    Ok(())
}

/// Reads the annotated data, and prints the skipped records.
fn read_data(config: &RunConfig, progress: &mut dyn Progress) -> Result<AnnotatedData, BpoError> {
    let data = AnnotatedData::read(config.data_path()?, &Media::of(config).read_options())?;
    print_skipped(&data.report(progress).skipped, None);
    Ok(data)
}

/// Checks and reads answer files; see [`check_answer_files`].
fn read_answers(
    files: &[PathBuf],
    data: &Fingerprint,
    reader: (Stage, &RunConfig),
    allow_mismatch: bool,
) -> Result<Vec<StageAnswers>, BpoError> {
    check_answer_files(files, data, reader, allow_mismatch)?;
    files.iter().map(|file| StageAnswers::read(file)).collect()
}

/// Checks answer files. With `allow_mismatch`, files that do not belong together or to the data cause
/// a warning in place of an error. `reader` is the stage that reads them, with its settings.
fn check_answer_files(
    files: &[PathBuf],
    data: &Fingerprint,
    reader: (Stage, &RunConfig),
    allow_mismatch: bool,
) -> Result<(), BpoError> {
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    match check_answers(&files, data, reader) {
        Err(BpoError::Answers { problems }) if allow_mismatch => {
            problems.iter().for_each(|problem| tracing::warn!("{problem}"));
            Ok(())
        }
        checked => checked,
    }
}
