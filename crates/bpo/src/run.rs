//! All stages from annotated data to a trained model or adapter, in one directory.

use std::collections::BTreeMap;
use std::path::Path;

use crate::images::ImageRoot;
use crate::vision::VisionLanguageModel;
use bpo_inject::ErrorInjector;
#[cfg(feature = "model")]
use bpo_pairs::ContrastChoice;
use bpo_pairs::format::{ReadOptions, llava};
use bpo_pairs::{Fingerprint, PreferencePair, SftSample, SkipCounts, Skipped};

use crate::config::{Required, RunConfig};
use crate::error::BpoError;
use crate::ledger::{Inputs, StageLedger};
use crate::media::Media;
use crate::paths::Paths;
use crate::preflight;
use crate::progress::Progress;
use crate::run_dir::RunDir;
use crate::sample_file::warn_of_no_image;
use crate::stage::Stage;
use crate::stages::{self, ExistingPairs, StageAnswers, StageFile, StageOutcome};
use crate::summary::{StageSummary, write_skipped};

/// Model, judge, error injector and trainer of [`run()`]. Each is requested only if its stage has work
/// left.
pub trait PipelineBackend {
    /// The model that answers about weakened images, and about images as they are, and the judge.
    type Model: VisionLanguageModel;
    /// The injector of errors into annotated answers.
    type Injector: ErrorInjector;

    /// Checks the settings before the first stage starts and before anything is written. `samples`
    /// are all samples of the data, and `left` the stages that have work left. The default
    /// implementation checks nothing.
    ///
    /// # Errors
    /// Returns an error if a stage in `left` cannot work with the settings.
    fn check(&mut self, config: &RunConfig, samples: &[SftSample], left: &[Stage]) -> Result<(), BpoError> {
        let _ = (config, samples, left);
        Ok(())
    }

    /// Returns the model that answers about weakened images, and about images as they are if its
    /// [own answers](crate::config::ChosenAnswer::has_own) are used.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded.
    fn model(&mut self) -> Result<Self::Model, BpoError>;

    /// Returns the judge of answers, for [`RunConfig::judges`].
    ///
    /// # Errors
    /// Returns an error if the judge cannot be loaded or reached.
    fn judge(&mut self) -> Result<Self::Model, BpoError>;

    /// Returns the injector of errors into annotated answers. `samples` are all samples of the
    /// data.
    ///
    /// # Errors
    /// Returns an error if the injector cannot be created.
    fn injector(&mut self, samples: &[SftSample]) -> Result<Self::Injector, BpoError>;

    /// Trains on `pairs`. Writes [`RunDir::metrics`] and, after the last step, [`RunDir::result`].
    ///
    /// # Errors
    /// Returns an error if training or writing fails.
    fn train(
        &mut self,
        pairs: Vec<PreferencePair>,
        images: &ImageRoot,
        dir: &RunDir,
        progress: &mut dyn Progress,
    ) -> Result<(RunStatus, StageOutcome), BpoError>;
}

/// Whether a run is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// All stages are done, and the result is written.
    Finished,
    /// The run was stopped. The same call resumes it.
    Stopped,
}

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunReport {
    /// Whether the training result is written.
    pub status: RunStatus,
    /// Whether the run was already finished, so that nothing was done.
    pub was_finished: bool,
    /// The counts of each stage, including earlier processes.
    pub stages: BTreeMap<Stage, StageSummary>,
}

/// Runs all stages in the directory `out`, or resumes the run in it.
///
/// A sample is dropped if the weaken stage has skipped all its answers, for example because its
/// image is damaged or its prompt is longer than the context. The inject stage makes no request for
/// it, and it has no pair.
///
/// # Errors
/// Returns [`BpoError::NotSet`], [`BpoError::InputIsOutput`], [`BpoError::Preflight`],
/// [`BpoError::Locked`], [`BpoError::Changed`] if settings or inputs differ from those of the run
/// in `out`, [`BpoError::Missing`] if the file of a stage is missing although later files exist,
/// [`BpoError::Nothing`] if no pair is left, or the errors of the stages. Completed work is kept.
pub fn run(
    config: &RunConfig,
    out: &Path,
    backend: &mut impl PipelineBackend,
    progress: &mut dyn Progress,
) -> Result<RunReport, BpoError> {
    run_after(None, config, out, backend, progress)
}

/// Does a run as [`run()`] does. Answers with injected errors are taken from the run directory
/// `before`, as far as it has them.
pub(crate) fn run_after(
    before: Option<&Path>,
    config: &RunConfig,
    out: &Path,
    backend: &mut impl PipelineBackend,
    progress: &mut dyn Progress,
) -> Result<RunReport, BpoError> {
    let config = config.clone().with_absolute_paths()?;
    config.validate()?;
    config.require(&[Required::Model, Required::Data, Required::Images], &[])?;
    check_whole(&config)?;
    if config.rounds.is_some() {
        let (with, reason) = ("a single run".to_owned(), "`run_rounds` does several");
        return Err(BpoError::Conflict { key: "rounds".into(), with, reason });
    }
    Paths::default().inputs_of(&config).outputs_of_run(&config, out).check()?;
    let mut left = StageLedger::unfinished(out, &config)?;
    if before.is_some() {
        // its answers are there, so a server that is down must not end the run before any work
        left.retain(|stage| *stage != Stage::Inject);
    }
    let Checked { images, data, inputs } = Checked::new(&config, &left, backend)?;
    let dir = RunDir::open(out)?;
    let mut ledger = StageLedger::open_run(&config, &inputs, &dir)?;
    if ledger.is_finished(Stage::Train) {
        if dir.has_result(&config) {
            let stages = ledger.summaries();
            return Ok(RunReport { status: RunStatus::Finished, was_finished: true, stages });
        }
        let path = dir.result(&config);
        tracing::warn!(path = %path.display(), "the result is missing or damaged, and is written again");
        ledger.restart(Stage::Train)?;
    }

    let mut skipped = BTreeMap::new();
    let mut keep = |ledger: &mut StageLedger, stage: Stage, outcome: StageOutcome| {
        skipped.insert(stage, outcome.skipped);
        ledger.finish(stage, &outcome.summary)
    };
    keep(&mut ledger, Stage::Data, data.report(progress))?;
    let samples = data.samples;

    let mut weakened = StageFile::open(&dir.weakened())?;
    let model = || backend.model();
    let outcome = stages::weaken(&config, &samples, &images, model, &mut weakened, progress)?;
    keep(&mut ledger, Stage::Weaken, outcome)?;
    let dropped = stages::without_answers([weakened.answers()]);

    let mut answers = vec![weakened.into_answers()];
    if config.has_stage(Stage::Judge) {
        let mut judged = StageFile::open(&dir.judged())?;
        let (seen, judge) = (config.judge.images.then_some(&images), || backend.judge());
        let outcome = stages::judge(&config, &samples, &answers, seen, judge, &mut judged, progress)?;
        keep(&mut ledger, Stage::Judge, outcome)?;
        answers = vec![judged.into_answers()];
    }
    if config.has_stage(Stage::Inject) {
        let mut injected = StageFile::open(&dir.injected())?;
        if let Some(before) = before.filter(|_| !ledger.is_finished(Stage::Inject)) {
            let before = StageAnswers::read(&before.join("injected.jsonl"))?;
            stages::copy_answers(&samples, &dropped, before, &mut injected)?;
        }
        let injector = || backend.injector(&samples);
        let outcome = stages::inject(&config, &samples, &dropped, injector, &mut injected, progress)?;
        keep(&mut ledger, Stage::Inject, outcome)?;
        answers.push(injected.into_answers());
    }
    let (pairs, paired) =
        stages::pair(&config, &samples, answers, &dir.pairs(), ExistingPairs::Keep, progress)?;
    keep(&mut ledger, Stage::Pair, paired)?;
    if pairs.is_empty() {
        write_skipped(&dir.skipped(), &skipped)?;
        let mut counts = SkipCounts::default();
        ledger.summaries().values().for_each(|stage| counts.merge(&stage.skipped));
        return Err(BpoError::Nothing { path: dir.pairs(), what: "pair", skipped: counts });
    }

    // training takes long and needs only the pairs
    drop(samples);
    let (status, trained) = backend.train(pairs, &images, &dir, progress)?;
    if status == RunStatus::Finished {
        skipped.insert(Stage::Train, trained.skipped);
    }
    write_skipped(&dir.skipped(), &skipped)?;
    if status == RunStatus::Finished {
        // last, because it marks the run as finished
        ledger.finish_training(&config, &dir, &trained.summary)?;
    }
    Ok(RunReport { status, was_finished: false, stages: ledger.summaries() })
}

/// The inputs of a run, after all checks that need no stage.
struct Checked {
    images: ImageRoot,
    data: AnnotatedData,
    inputs: Inputs,
}

impl Checked {
    /// Reads the inputs and, if the run is not finished, checks everything that its stages will
    /// use.
    ///
    /// # Errors
    /// Returns all problems at once, as [`BpoError::Preflight`] if there are several.
    fn new(config: &RunConfig, left: &[Stage], backend: &mut impl PipelineBackend) -> Result<Self, BpoError> {
        let images = ImageRoot::new(config.images_path()?).map_err(BpoError::from);
        let data = AnnotatedData::read(config.data_path()?, &Media::of(config).read_options());
        let mut problems = Vec::new();
        let stages = [Stage::Weaken, Stage::Judge, Stage::Inject, Stage::Pair, Stage::Train];
        let print = data.as_ref().ok().map(|data| &data.fingerprint);
        let inputs = Inputs::collect(&stages, config, print, &mut problems);
        if left.contains(&Stage::Train) {
            preflight::check(config, &mut problems);
            let samples = data.as_ref().map_or(&[][..], |data| &data.samples);
            if data.is_ok() {
                problems.extend(stages::check_truth(config, samples).err());
                problems.extend(stages::check_contrasts(config, samples).err());
            }
            problems.extend(backend.check(config, samples, left).err());
        }
        match (images, data) {
            (Ok(images), Ok(data)) => {
                BpoError::all(problems)?;
                let names = data.samples.iter().flat_map(|sample| sample.images.iter().map(String::as_str));
                let inputs = inputs.with_images(images.fingerprint(names));
                Ok(Self { images: images.with_limits(config.data.limits), data, inputs })
            }
            (Err(first), data) => Err(BpoError::combine(first, data.err().into_iter().chain(problems))),
            (Ok(_), Err(first)) => Err(BpoError::combine(first, problems)),
        }
    }
}

/// Annotated data, with the fingerprint of the file that it was read from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AnnotatedData {
    /// Samples in the order of the file. There is at least one.
    pub samples: Vec<SftSample>,
    /// Conversations and turns that cannot be used, in the order of the file.
    pub skipped: Vec<Skipped>,
    /// Fingerprint of the file.
    pub fingerprint: Fingerprint,
}

impl AnnotatedData {
    /// Reads a file in one pass, so it can be a pipe. `options` find the frames of videos and name
    /// images in rows, as those of [`Media`] do. A warning says if no sample has an image.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no usable sample.
    pub fn read(path: &Path, options: &ReadOptions<'_>) -> Result<Self, BpoError> {
        let (llava::SftData { samples, skipped }, fingerprint) = llava::read_with_fingerprint(path, options)?;
        if samples.is_empty() {
            return Err(BpoError::nothing(path, "sample", &skipped));
        }
        if samples.iter().all(|sample| sample.images.is_empty()) {
            warn_of_no_image(path);
        }
        Ok(Self { samples, skipped, fingerprint })
    }

    /// Reports the data as a finished stage.
    pub fn report(&self, progress: &mut dyn Progress) -> StageOutcome {
        let count = self.samples.len();
        let outcome = StageOutcome::new(count, self.skipped.clone());
        progress.started(Stage::Data, count, count);
        progress.finished(Stage::Data, &outcome.summary);
        outcome
    }
}

/// Checks that pairs get contrasts if and only if the loss needs them.
///
/// # Errors
/// Returns [`BpoError::Conflict`] otherwise.
#[cfg(feature = "model")]
fn check_contrast(config: &RunConfig) -> Result<(), BpoError> {
    let needs = config.train.objective().properties().contrast;
    let with = format!("the loss {} (--loss)", config.train.loss);
    match (needs, config.pair.contrast) {
        (true, ContrastChoice::None) => Err(BpoError::Conflict {
            key: "pair.contrast".into(),
            with,
            reason: "the loss compares images with other ones, which pairs have with \"similar\" or \"random\" \
                     (--contrast)",
        }),
        (false, choice) if !choice.is_none() => Err(BpoError::Conflict {
            key: "pair.contrast".into(),
            with,
            reason: "the loss does not use the other images of pairs; `symmpo` does",
        }),
        _ => Ok(()),
    }
}

/// Checks that no stage is split into shards, that the pairs need no second file and no count of
/// tokens, and that they get what the loss needs.
///
/// # Errors
/// Returns [`BpoError::Conflict`] for the first setting that a run does not take.
fn check_whole(config: &RunConfig) -> Result<(), BpoError> {
    for (key, is_set, reason) in [
        (
            "pair.eval_percent",
            config.pair.eval_percent.is_some(),
            "make the files with `bpo pair`, or hold pairs out with `train.eval_fraction`",
        ),
        (
            "pair.max_tokens",
            config.pair.max_tokens.is_some(),
            "`model.max_length` limits the tokens of a pair in training",
        ),
    ] {
        if is_set {
            return Err(BpoError::Conflict { key: key.into(), with: "`bpo run`".to_owned(), reason });
        }
    }
    #[cfg(feature = "model")]
    check_contrast(config).map_err(|error| config.naming_preset(error))?;
    for (key, shard) in [("weaken.shard", config.weaken.shard), ("inject.shard", config.inject.shard)] {
        if shard.is_some() {
            let (with, reason) =
                ("`bpo run`".to_owned(), "run `bpo weaken` and `bpo inject` by shards, then `bpo pair`");
            return Err(BpoError::Conflict { key: key.into(), with, reason });
        }
    }
    Ok(())
}
