//! Preference pairs: `pairs.jsonl`.

use std::collections::HashSet;
use std::path::Path;

use bpo_pairs::{
    CompletionKind, ImageGroups, Keyed, PairSet, PairsError, PreferencePair, Record, RecordKey,
    SelectedPairs, SftSample, SkipCounts, Skipped, source_of, stage_seed,
};

use super::answer_check::AnswerCheck;
use super::answer_index::AnswerIndex;
use super::assemble::{by_sample, without_answers, without_any_answer};
use super::choice::Choice;
use super::contrasts::Contrasts;
use super::pair_output::Output;
use super::{StageAnswers, StageOutcome, StageRecord};
use crate::config::{ChosenAnswer, RunConfig};
use crate::error::BpoError;
use crate::media::Media;
use crate::progress::Progress;
use crate::sample_file::SampleFile;
use crate::stage::Stage;

/// What to do with an existing file whose pairs differ from those of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExistingPairs {
    /// Use the pairs in the file, with a warning, so that users can remove pairs between two runs.
    Keep,
    /// Return [`BpoError::Differs`].
    Refuse,
}

/// The files that the pair stage writes.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PairFiles<'a> {
    /// The pairs, or those for training if `pair.eval_percent` is set.
    pub pairs: &'a Path,
    /// The pairs for evaluation, if `pair.eval_percent` is set.
    pub eval: Option<&'a Path>,
}

impl<'a> PairFiles<'a> {
    /// Creates the names of the files.
    pub fn new(pairs: &'a Path, eval: Option<&'a Path>) -> Self {
        Self { pairs, eval }
    }
}

/// Checks the tokens of a pair.
pub trait TokenCheck {
    /// Returns the reason to skip a pair: its prompt with its images and one answer has too many
    /// tokens, or the model cannot take it. Returns `None` for other pairs.
    fn check(&mut self, pair: &PreferencePair) -> Option<Skipped>;
}

/// Makes pairs of the chosen answers, by default the annotated ones, and the answers of stage files.
///
/// `answers` are one or more files of each stage, with lines in any order. Pairs are in the order
/// of the samples, then of the stages, then of the variants. Samples [without any weakened
/// answer](super::without_answers) have no pair, and `config.pair` selects among the others. An
/// existing file is never overwritten unless it is empty; `existing` decides what happens if it
/// differs.
///
/// # Errors
/// Returns an error if a file cannot be read or written, if an answer belongs to no sample or
/// occurs twice, [`BpoError::Differs`], or [`BpoError::Conflict`] if `pair.eval_percent` or
/// `pair.max_tokens` is set, for which there is [`pair_files`].
pub fn pair(
    config: &RunConfig,
    samples: &[SftSample],
    answers: Vec<StageAnswers>,
    file: &Path,
    existing: ExistingPairs,
    progress: &mut dyn Progress,
) -> Result<(Vec<PreferencePair>, StageOutcome), BpoError> {
    let mut pairs = Vec::new();
    let files = PairFiles::new(file, None);
    let input = Input::Memory { samples, answers };
    let outcome = write(config, input, files, existing, None, Some(&mut pairs), progress)?;
    Ok((pairs, outcome))
}

/// Makes pairs like [`pair()`] without holding data, answers or pairs in memory, and returns the
/// counts.
///
/// With `pair.eval_percent` the pairs of that share of the images are in the second file, and no
/// image is in both. `tokens` counts tokens for `pair.max_tokens`.
///
/// # Errors
/// Returns the errors of [`pair()`], or [`BpoError::Conflict`] if only one of `pair.eval_percent` and
/// the second file is given, or only one of `pair.max_tokens` and `tokens`.
pub fn pair_files(
    config: &RunConfig,
    data: &SampleFile,
    answers: AnswerIndex,
    files: PairFiles<'_>,
    existing: ExistingPairs,
    tokens: Option<&mut dyn TokenCheck>,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    write(config, Input::Files { data, answers }, files, existing, tokens, None, progress)
}

/// The samples and their answers.
enum Input<'a> {
    Memory { samples: &'a [SftSample], answers: Vec<StageAnswers> },
    Files { data: &'a SampleFile, answers: AnswerIndex },
}

impl Input<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Memory { samples, .. } => samples.len(),
            Self::Files { data, .. } => data.count,
        }
    }

    /// Calls `each` with every sample.
    fn for_each_sample(
        &self,
        config: &RunConfig,
        each: &mut dyn FnMut(&SftSample) -> Result<(), BpoError>,
    ) -> Result<(), BpoError> {
        match self {
            Self::Memory { samples, .. } => samples.iter().try_for_each(each),
            Self::Files { data, .. } => data.for_each(&Media::of(config).read_options(), each),
        }
    }

    /// Returns the ids of the samples without any pair, because their answers were skipped, as a function.
    fn dropped(&self, config: &RunConfig) -> Box<dyn Fn(&str) -> bool + '_> {
        // any answer of the model can be the chosen one
        let by_own = config.chosen == ChosenAnswer::Judged;
        match self {
            Self::Memory { answers, .. } => {
                let dropped = if by_own { without_any_answer(answers) } else { without_answers(answers) };
                Box::new(move |id| dropped.contains(id))
            }
            Self::Files { answers, .. } => Box::new(move |id| answers.is_dropped(id, by_own)),
        }
    }

    /// Calls `each` with the record of every sample that may have pairs, or the skipped sample if it has
    /// no chosen answer, and with the number of samples before it.
    fn for_each_record(
        self,
        config: &RunConfig,
        check: &AnswerCheck<'_>,
        choice: &Choice<'_>,
        each: &mut dyn FnMut(usize, Result<Record, Skipped>) -> Result<(), BpoError>,
    ) -> Result<(), BpoError> {
        match self {
            Self::Memory { samples, answers } => {
                let dropped = match config.chosen {
                    // any answer of the model can be the chosen one
                    ChosenAnswer::Judged => without_any_answer(&answers),
                    _ => without_answers(&answers),
                };
                log_dropped(dropped.len());
                let answered = unique(answers, &dropped)?;
                let keeps = |sample: &_, answer: &_| check.keeps(sample, answer);
                let answered = by_sample(samples, answered.into_iter().map(Ok), keeps)?;
                for (place, (sample, answers)) in answered.enumerate() {
                    if dropped.contains(&sample.id) {
                        continue;
                    }
                    let record = choice.record_of(sample, answers)?;
                    if !check.is_left_out(&record) {
                        each(place, record)?;
                    }
                }
                Ok(())
            }
            Self::Files { data, mut answers } => {
                let by_own = config.chosen == ChosenAnswer::Judged;
                log_dropped(answers.count_dropped(by_own));
                let mut place = 0;
                data.for_each(&Media::of(config).read_options(), &mut |sample| {
                    if let Some(mut answers) = answers.take(&sample.id, by_own)? {
                        answers.retain(|answer| check.keeps(sample, answer));
                        let record = choice.record_of(sample, answers)?;
                        if !check.is_left_out(&record) {
                            each(place, record)?;
                        }
                    }
                    place += 1;
                    Ok(())
                })?;
                answers.finish()
            }
        }
    }
}

/// Returns whether the chosen answer of a pair is one of the model.
fn is_own(pair: &PreferencePair) -> bool {
    pair.chosen_kind.as_ref().is_some_and(CompletionKind::is_bootstrapped)
}

fn log_dropped(samples: usize) {
    if samples > 0 {
        tracing::info!(samples, "samples whose answers were all skipped have no pair");
    }
}

fn write(
    config: &RunConfig,
    input: Input<'_>,
    files: PairFiles<'_>,
    existing: ExistingPairs,
    tokens: Option<&mut dyn TokenCheck>,
    mut all: Option<&mut Vec<PreferencePair>>,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let conflict = |key: &'static str, with: &str, reason| {
        Err(BpoError::Conflict { key: key.into(), with: with.to_owned(), reason })
    };
    if config.pair.eval_percent.is_some() != files.eval.is_some() {
        return conflict(
            "pair.eval_percent",
            "one file",
            "the split needs two files, and they need the split",
        );
    }
    if config.pair.max_tokens.is_some() != tokens.is_some() {
        return conflict("pair.max_tokens", "no model", "tokens are counted with a model's processor");
    }
    let count = input.count();
    progress.started(Stage::Pair, 0, count);
    let split = config.pair.eval_percent.map(|percent| Split::new(config, &input, percent)).transpose()?;
    let contrasts = {
        let dropped = input.dropped(config);
        let is_eval =
            |sample: &SftSample| split.as_ref().is_some_and(|split| split.has(&sample.id, &sample.images));
        Contrasts::new(config, seed(config), |each| input.for_each_sample(config, each), &dropped, &is_eval)?
    };
    let mut maker = Maker::new(config, tokens, contrasts);
    let check = AnswerCheck::new(config);
    let choice = Choice::new(config, |each| input.for_each_sample(config, each))?;
    let kept = Output::with(files.pairs, |train| {
        let make = |mut eval: Option<&mut Output<'_>>| {
            input.for_each_record(config, &check, &choice, &mut |place, record| {
                if place.is_multiple_of(REPORTED) {
                    progress.advanced(Stage::Pair, place);
                }
                let record = match record {
                    Ok(record) => record,
                    Err(skipped) => {
                        maker.outcome.add(vec![skipped]);
                        return Ok(());
                    }
                };
                let is_eval = split.as_ref().is_some_and(|split| split.has(&record.id, &record.images));
                for pair in maker.pairs_of(&record, is_eval) {
                    match eval.as_deref_mut().filter(|_| is_eval) {
                        Some(eval) => eval.add(&pair)?,
                        None => {
                            train.add(&pair)?;
                            all.iter_mut().for_each(|all| all.push(pair.clone()));
                        }
                    }
                }
                Ok(())
            })?;
            // both are checked before one of them is there
            if let Some(eval) = eval {
                eval.finish(existing)?;
            }
            train.finish(existing)
        };
        match files.eval {
            Some(path) => Output::with(path, |eval| make(Some(eval))),
            None => make(None),
        }
    })?;
    choice.finish();
    maker.left_out.merge(&check.finish());
    let mut outcome = maker.finish();
    if let Some(PairSet { pairs, skipped: refused }) = kept {
        if files.eval.is_none() {
            outcome.summary.done = pairs.len();
            outcome.summary.own_chosen = pairs.iter().filter(|pair| is_own(pair)).count();
        }
        outcome.add(refused);
        if let Some(all) = all {
            *all = pairs;
        }
    }
    progress.advanced(Stage::Pair, count);
    progress.finished(Stage::Pair, &outcome.summary);
    Ok(outcome)
}

/// The split of the samples into those for training and for evaluation.
struct Split {
    groups: ImageGroups,
    percent: f64,
    seed: u64,
}

impl Split {
    fn new(config: &RunConfig, input: &Input<'_>, percent: f64) -> Result<Self, BpoError> {
        let mut groups = ImageGroups::default();
        input.for_each_sample(config, &mut |sample| {
            groups.add(&sample.id, &sample.images);
            Ok(())
        })?;
        Ok(Self { groups, percent, seed: seed(config) })
    }

    /// Returns whether the pairs of a sample are for evaluation.
    fn has(&self, id: &str, images: &[String]) -> bool {
        self.groups.is_within(self.percent, self.seed, id, images)
    }
}

fn seed(config: &RunConfig) -> u64 {
    stage_seed(config.seed.0, "pair")
}

/// Number of samples between two reports of progress.
const REPORTED: usize = 1000;

/// Makes pairs and counts them.
struct Maker<'a, 'b> {
    config: &'a RunConfig,
    seed: u64,
    tokens: Option<&'b mut dyn TokenCheck>,
    contrasts: Option<Contrasts>,
    outcome: StageOutcome,
    left_out: SkipCounts,
    /// Sources of the subset that no sample has had so far.
    sources: HashSet<String>,
}

impl<'a, 'b> Maker<'a, 'b> {
    fn new(
        config: &'a RunConfig,
        tokens: Option<&'b mut dyn TokenCheck>,
        contrasts: Option<Contrasts>,
    ) -> Self {
        Self {
            config,
            seed: seed(config),
            tokens,
            contrasts,
            outcome: StageOutcome::default(),
            left_out: SkipCounts::default(),
            sources: config.pair.subset.sources().map(str::to_owned).collect(),
        }
    }

    /// Returns the pairs of a record, which are for evaluation if `is_eval` is true.
    fn pairs_of(&mut self, record: &Record, is_eval: bool) -> Vec<PreferencePair> {
        if !self.sources.is_empty() {
            self.sources.remove(source_of(&record.images));
        }
        let SelectedPairs { mut pairs, skipped, left_out, .. } =
            self.config.pair.pairs_of(record, &self.config.filter, self.seed);
        self.outcome.add(skipped);
        self.left_out.merge(&left_out);
        if let Some(contrasts) = &mut self.contrasts {
            pairs.iter_mut().for_each(|pair| contrasts.add_to(pair, is_eval));
        }
        if let Some(tokens) = &mut self.tokens {
            pairs.retain(|pair| {
                let refused = tokens.check(pair);
                let fits = refused.is_none();
                self.outcome.add(refused.into_iter().collect());
                fits
            });
        }
        self.outcome.summary.done += pairs.len();
        self.outcome.summary.own_chosen += pairs.iter().filter(|pair| is_own(pair)).count();
        pairs
    }

    /// Returns the counts, and warns of sources that no sample has.
    fn finish(self) -> StageOutcome {
        let Self { mut outcome, left_out, sources, contrasts, .. } = self;
        contrasts.iter().for_each(Contrasts::report);
        for source in &sources {
            tracing::warn!(source, "no sample has this source of `pair.subset`");
        }
        outcome.summary.skipped.merge(&left_out);
        if left_out.total() > 0 {
            tracing::info!(left_out = %left_out, "pairs left out by the selection");
        }
        outcome
    }
}

/// Returns the records of all files, without those of `dropped` samples.
///
/// # Errors
/// Returns [`PairsError::DuplicateId`] for a record that occurs twice.
fn unique(answers: Vec<StageAnswers>, dropped: &HashSet<String>) -> Result<Vec<StageRecord>, BpoError> {
    let mut records: Vec<StageRecord> = Vec::new();
    let mut seen = HashSet::new();
    for (path, lines) in answers.into_iter().map(StageAnswers::into_parts) {
        for (line, record) in lines {
            if !seen.insert((RecordKey::of(&record), record.kind().clone())) {
                // for example, the same file given twice
                let id = record.id().to_owned();
                return Err(PairsError::DuplicateId { path, line, id }.into());
            }
            if !dropped.contains(record.id()) {
                records.push(record);
            }
        }
    }
    Ok(records)
}
