//! The trainings that are compared.

use std::path::{Path, PathBuf};

use bpo::burn::tensor::Device;
use bpo::distort::{Distortion, MaskAttended};
use bpo::dpo::loss::{Loss, WeightedLoss};
use bpo::model::merge_checkpoint;
use bpo::pairs::files::remove_owned_dir;
use bpo::pairs::{CompletionKind, ContrastChoice, PairRule, PreferencePair};
use bpo::stages::{ExistingPairs, StageAnswers, pair};
use bpo::{
    AnnotatedData, BpoError, ChosenAnswer, ImageRoot, Inputs, LocalBackend, Media, PipelineBackend,
    RunConfig, RunDir, RunStatus, Stage, StageLedger, round_dir, run_rounds,
};
use serde::Serialize;

use super::recipe::SFT_WEIGHT;
use super::world_injector::WorldInjector;
use super::world_judge::{self, WithWorldJudge, WorldJudge};
use crate::progress;
use crate::terminal::print_line;

/// Number of the rounds, and of the epochs that they are compared with.
const ROUNDS: usize = 3;

/// Number of own answers about an image that the judge compares.
const OWN_SAMPLES: usize = 4;

/// Weight of CHiP's token term: that of its authors.
const TOK_BETA: f64 = 0.1;

/// Standard deviation of the noise on adapters: the smaller one of HaNoRec's authors.
const NOISE: f64 = 0.05;

/// Share of the image tokens that [`Variant::Attended`] masks (ours).
const MASKED: f32 = 0.5;

/// Part of the change of [`Variant::Interpolated`], chosen on validation pictures.
const SHARE: f64 = 0.7;

/// Adds the SFT term of [`Variant::Bpo`] to a loss.
fn with_sft(loss: Loss) -> Loss {
    let mut terms = match loss {
        Loss::Sum { terms } => terms,
        loss => vec![WeightedLoss::new(1.0, loss)],
    };
    terms.push(WeightedLoss::new(SFT_WEIGHT, Loss::Sft));
    Loss::Sum { terms }
}

/// A training from the same annotated images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Control: supervised fine-tuning on the chosen answers, without rejected ones.
    Sft,
    /// Preference over answers about weakened images only.
    Weakened,
    /// Preference over answers with injected errors only.
    Injected,
    /// Both kinds of rejected answers, with the authors' loss.
    AuthorsLoss,
    /// Both kinds of rejected answers, with an additional SFT term on the chosen answers.
    Bpo,
    /// BPO with mDPO's preference between images and its anchor.
    Mdpo,
    /// BPO with CHiP's loss.
    Chip,
    /// BPO with SymMPO's loss, whose other images are those with the most similar annotated answer.
    Symmpo,
    /// BPO with answers for which the image tokens with the most attention are masked, in place of those
    /// about noised images: HDPO's visual distraction.
    Attended,
    /// BPO with the responsiveness of batches and the noise on adapters of HaNoRec.
    Hanorec,
    /// BPO from the result of supervised fine-tuning, which is also its reference.
    SftFirst,
    /// BPO with twice the steps: the control of [`SftFirst`](Self::SftFirst).
    TwoEpochs,
    /// BPO with the steps of three rounds: the control of [`Rounds`](Self::Rounds).
    ThreeEpochs,
    /// A [part](SHARE) of the change of [`ThreeEpochs`](Self::ThreeEpochs): weights between those of the
    /// base model and the trained ones. Nothing is trained for it.
    Interpolated,
    /// Three rounds of BPO, each with the steps of [`Bpo`](Self::Bpo).
    Rounds,
    /// The model's own answers as the chosen ones, with the steps of [`Bpo`](Self::Bpo), in which its fewer
    /// pairs occur more than once.
    Own,
    /// The same with three times the steps: the control of [`OwnRounds`](Self::OwnRounds).
    OwnLonger,
    /// Three rounds with the model's own answers as the chosen ones.
    OwnRounds,
    /// The model's own answers as the chosen ones where they name no absent object.
    Revised,
    /// Own answers that a judge who knows the picture prefers to other ones, with the steps of
    /// [`Bpo`](Self::Bpo).
    Judged,
    /// Three rounds with such a judge.
    JudgedRounds,
    /// The same as [`Judged`](Self::Judged), with a judge who also counts what is left out.
    JudgedWhole,
    /// Three rounds with that judge.
    JudgedWholeRounds,
}

impl Variant {
    /// All trainings, in the order of the ablation. A training comes after those that it starts from.
    pub const ALL: [Self; 23] = [
        Self::Sft,
        Self::Weakened,
        Self::Injected,
        Self::AuthorsLoss,
        Self::Bpo,
        Self::Mdpo,
        Self::Chip,
        Self::Symmpo,
        Self::Attended,
        Self::Hanorec,
        Self::SftFirst,
        Self::TwoEpochs,
        Self::ThreeEpochs,
        Self::Interpolated,
        Self::Rounds,
        Self::Own,
        Self::OwnLonger,
        Self::OwnRounds,
        Self::Revised,
        Self::Judged,
        Self::JudgedRounds,
        Self::JudgedWhole,
        Self::JudgedWholeRounds,
    ];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Weakened => "weakened",
            Self::Injected => "injected",
            Self::AuthorsLoss => "authors_loss",
            Self::Bpo => "bpo",
            Self::Mdpo => "mdpo",
            Self::Chip => "chip",
            Self::Symmpo => "symmpo",
            Self::Attended => "attended",
            Self::Hanorec => "hanorec",
            Self::SftFirst => "sft_first",
            Self::TwoEpochs => "two_epochs",
            Self::ThreeEpochs => "three_epochs",
            Self::Interpolated => "interpolated",
            Self::Rounds => "rounds",
            Self::Own => "own",
            Self::OwnLonger => "own_longer",
            Self::OwnRounds => "own_rounds",
            Self::Revised => "revised",
            Self::Judged => "judged",
            Self::JudgedRounds => "judged_rounds",
            Self::JudgedWhole => "judged_whole",
            Self::JudgedWholeRounds => "judged_whole_rounds",
        }
    }

    /// The title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sft => "SFT control",
            Self::Weakened => "weakened only",
            Self::Injected => "injected only",
            Self::AuthorsLoss => "BPO, authors' loss",
            Self::Bpo => "BPO",
            Self::Mdpo => "BPO, mDPO's loss",
            Self::Chip => "BPO, CHiP's loss",
            Self::Symmpo => "BPO, SymMPO's loss",
            Self::Attended => "BPO, attended tokens masked",
            Self::Hanorec => "BPO, HaNoRec's terms",
            Self::SftFirst => "SFT, then BPO",
            Self::TwoEpochs => "BPO, two epochs",
            Self::ThreeEpochs => "BPO, three epochs",
            Self::Interpolated => "BPO, three epochs, interpolated",
            Self::Rounds => "BPO, three rounds",
            Self::Own => "own",
            Self::OwnLonger => "own, 3 x steps",
            Self::OwnRounds => "own, three rounds",
            Self::Revised => "revised",
            Self::Judged => "judged by errors",
            Self::JudgedRounds => "judged by errors, three rounds",
            Self::JudgedWhole => "judged by errors and omissions",
            Self::JudgedWholeRounds => "judged by errors and omissions, three rounds",
        }
    }

    /// The judge of a training that scores answers.
    fn judge(self) -> Option<WorldJudge> {
        match self {
            Self::Judged | Self::JudgedRounds => Some(WorldJudge { wants_all: false }),
            Self::JudgedWhole | Self::JudgedWholeRounds => Some(WorldJudge { wants_all: true }),
            _ => None,
        }
    }

    /// The pairs of a training that takes some of those of [`Bpo`](Self::Bpo).
    fn pairs(self, all: &[PreferencePair]) -> Vec<PreferencePair> {
        let of = |kind: CompletionKind| all.iter().filter(|pair| pair.kind == kind).cloned().collect();
        match self {
            Self::Weakened => of(CompletionKind::ImageWeakened),
            Self::Injected => of(CompletionKind::ErrorInjected),
            _ => all.to_vec(),
        }
    }
}

/// A trained model.
#[derive(Debug)]
pub struct Trained {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// The adapter of the checkpoint, if it has one.
    pub adapter: Option<PathBuf>,
    /// The metrics of the training.
    pub metrics: PathBuf,
}

impl Trained {
    /// The model of a run directory.
    pub fn of_run(base: &Path, run: &Path) -> Self {
        let (adapter, metrics) = (Some(run.join("adapter")), run.join("metrics.jsonl"));
        Self { checkpoint: base.to_owned(), adapter, metrics }
    }
}

/// What the trainings share.
#[derive(Clone, Copy)]
pub struct Trainings<'a> {
    /// Directory in which each training has its own.
    pub out: &'a Path,
    /// The settings of [`Variant::Bpo`].
    pub config: &'a RunConfig,
    /// The run directory of [`Variant::Bpo`].
    pub run: &'a RunDir,
    /// The pairs of [`Variant::Bpo`].
    pub pairs: &'a [PreferencePair],
    /// Number of steps of one epoch of [`Variant::Bpo`].
    pub steps: usize,
    /// The objects in the training images.
    pub truth: &'a Path,
    /// The device.
    pub device: &'a Device,
}

impl Trainings<'_> {
    /// Trains in a separate directory, or resumes training in it.
    ///
    /// # Errors
    /// Returns an error if training fails, or the directory has other settings.
    pub fn train(&self, variant: Variant) -> Result<Trained, BpoError> {
        let base = self.config.model_path()?;
        match variant {
            Variant::Interpolated => self.interpolate(base),
            other => Ok(Trained::of_run(base, &self.train_in_dir(other)?)),
        }
    }

    /// Writes the checkpoint of [`Variant::Interpolated`].
    fn interpolate(&self, base: &Path) -> Result<Trained, BpoError> {
        let whole = Trained::of_run(base, &self.out.join(Variant::ThreeEpochs.name()));
        let checkpoint = self.out.join(Variant::Interpolated.name());
        remove_owned_dir(&checkpoint)?;
        let adapter = whole.adapter.unwrap_or_default();
        merge_checkpoint(base, &adapter, SHARE, &checkpoint, self.device)?;
        Ok(Trained { checkpoint, adapter: None, metrics: whole.metrics })
    }

    /// Trains in a separate directory. Returns the run directory with the adapter.
    fn train_in_dir(&self, variant: Variant) -> Result<PathBuf, BpoError> {
        let dir = self.out.join(variant.name());
        let mut config = self.config.clone();
        let steps = match variant {
            Variant::TwoEpochs => 2 * self.steps,
            Variant::ThreeEpochs | Variant::OwnLonger => ROUNDS * self.steps,
            _ => self.steps,
        };
        config.train = config.train.with_max_steps(Some(steps));
        match variant {
            Variant::Sft => config.train = config.train.with_loss(Loss::Sft),
            Variant::AuthorsLoss => config.train = config.train.with_loss(Loss::default()),
            Variant::Symmpo => {
                config.train = config.train.with_loss(with_sft(Loss::symmpo()));
                config.pair.contrast = ContrastChoice::Similar;
            }
            Variant::Mdpo | Variant::Chip => {
                let loss =
                    if variant == Variant::Chip { Loss::Chip { tok_beta: TOK_BETA } } else { Loss::mdpo() };
                config.train = config.train.with_loss(with_sft(loss));
                config.conditional.distortion = config.weaken.distortion.clone();
            }
            Variant::Attended => {
                config.weaken.distortion =
                    Distortion::from(MaskAttended { share: MASKED.into(), layer: (-1).into() }).into();
            }
            Variant::Hanorec => {
                config.train = config.train.with_responsiveness(true);
                config.lora.lora_noise = NOISE;
            }
            Variant::SftFirst => {
                config.model.adapter = Some(self.out.join(Variant::Sft.name()).join("adapter"))
            }
            Variant::Own | Variant::OwnLonger | Variant::OwnRounds => config.chosen = ChosenAnswer::Own,
            Variant::Revised => {
                config.chosen = ChosenAnswer::Revised;
                config.truth.path = Some(self.truth.to_owned());
            }
            _ if variant.judge().is_some() => self.judged(&mut config)?,
            _ => {}
        }
        match variant {
            Variant::Rounds | Variant::OwnRounds | Variant::JudgedRounds | Variant::JudgedWholeRounds => {
                config.rounds = Some(ROUNDS);
                self.rounds(variant, &config, &dir)
            }
            Variant::Attended
            | Variant::Own
            | Variant::OwnLonger
            | Variant::Revised
            | Variant::Judged
            | Variant::JudgedWhole => self.whole_run(variant, &config, dir),
            _ => self.train_on_pairs(variant, config, dir),
        }
    }

    /// Sets own answers with the scores of a judge, of which the best and the worst of an image make a pair.
    fn judged(&self, config: &mut RunConfig) -> Result<(), BpoError> {
        config.chosen = ChosenAnswer::Judged;
        (config.weaken.samples, config.weaken.own_samples) = (0, OWN_SAMPLES);
        (config.weaken.temperature, config.weaken.top_p) = (1.0, 1.0);
        config.pair.rule = PairRule::BestWorst;
        config.judge.prompts = Some(world_judge::write_prompt(self.out)?);
        Ok(())
    }

    /// Trains on pairs of [`Variant::Bpo`].
    fn train_on_pairs(&self, variant: Variant, config: RunConfig, dir: PathBuf) -> Result<PathBuf, BpoError> {
        let config = config.with_absolute_paths()?;
        let run = RunDir::open(&dir)?;
        let images = ImageRoot::new(config.images_path()?)?;
        let pairs = if config.pair.contrast.is_none() {
            variant.pairs(self.pairs)
        } else {
            self.with_contrasts(variant, &config)?
        };
        let names = pairs.iter().flat_map(PreferencePair::all_images);
        let inputs = Inputs::read(&[Stage::Train], &config, None)?.with_images(images.fingerprint(names));
        let mut ledger = StageLedger::open_training(&config, &inputs, &run)?;
        if !ledger.is_finished(Stage::Train) {
            print_line(&format!("{}:", variant.title()));
            let mut backend = LocalBackend::new(config.clone(), self.device.clone(), None);
            let (status, outcome) = backend.train(pairs, &images, &run, &mut *progress::new())?;
            if status == RunStatus::Finished {
                ledger.finish_training(&config, &run, &outcome.summary)?;
            }
        }
        Ok(dir)
    }

    /// Makes pairs of the answers of [`Variant::Bpo`] with the contrasts of other settings.
    fn with_contrasts(&self, variant: Variant, config: &RunConfig) -> Result<Vec<PreferencePair>, BpoError> {
        let data = AnnotatedData::read(config.data_path()?, &Media::of(config).read_options())?;
        let answers = [self.run.weakened(), self.run.injected()];
        let answers = answers.iter().map(|file| StageAnswers::read(file)).collect::<Result<_, _>>()?;
        let file = self.out.join(format!("{}-pairs.jsonl", variant.name()));
        let keep = ExistingPairs::Keep;
        Ok(pair(config, &data.samples, answers, &file, keep, &mut *progress::new())?.0)
    }

    /// Makes pairs of its own and trains on them.
    fn whole_run(&self, variant: Variant, config: &RunConfig, dir: PathBuf) -> Result<PathBuf, BpoError> {
        self.announce(variant, config, &dir)?;
        bpo::run(config, &dir, &mut self.backend(variant, config), &mut *progress::new())?;
        Ok(dir)
    }

    /// Does several rounds. Returns the directory of the last one.
    fn rounds(&self, variant: Variant, config: &RunConfig, dir: &Path) -> Result<PathBuf, BpoError> {
        self.announce(variant, config, &round_dir(dir, ROUNDS - 1))?;
        run_rounds(config, dir, |_, config| Ok(self.backend(variant, config)), &mut *progress::new())?;
        Ok(round_dir(dir, ROUNDS - 1))
    }

    /// Prints the title of a training unless its run directory is finished.
    fn announce(&self, variant: Variant, config: &RunConfig, run: &Path) -> Result<(), BpoError> {
        if !StageLedger::unfinished(run, config)?.is_empty() {
            print_line(&format!("{}:", variant.title()));
        }
        Ok(())
    }

    fn backend(&self, variant: Variant, config: &RunConfig) -> WithWorldJudge {
        let backend = LocalBackend::new(config.clone(), self.device.clone(), None)
            .with_injector(|_| Box::new(WorldInjector));
        WithWorldJudge { backend, judge: variant.judge().unwrap_or_default() }
    }
}
