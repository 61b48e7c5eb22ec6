//! Grades of the answers to a benchmark, which the judge stage makes.

use std::collections::HashMap;

use bpo_pairs::{CompletionKind, Keyed, SftSample};

use super::super::record::Bootstrapped;
use super::super::{StageAnswers, StageFile, StageOutcome, StageRecord};
use super::job::{Grading, Job};
use super::run;
use crate::config::{JudgeMethod, JudgeSection, RunConfig};
use crate::error::BpoError;
use crate::judge::{GradedAnswer, Rubric};
use crate::progress::Progress;
use crate::vision::VisionLanguageModel;

/// Asks a judge `runs` times about each answer to a benchmark, and appends the answers with their grades to
/// `file`, as [`judge`](super::judge) does with the answers of the weaken stage: an answer that the judge
/// cannot grade, or whose grade cannot be read, is recorded as skipped, and an answer that has changed is
/// graded again. The index of a run is the variant of its record.
///
/// Of `[judge]`, only `server`, `temperature`, `top_p`, `max_new_tokens` and `batch_size` have an effect.
/// The ids of the answers must differ.
///
/// # Errors
/// Returns [`BpoError::Conflict`] for another setting of `[judge]` than its default,
/// [`BpoError::Setting`] if the file has more runs, and the errors of [`judge`](super::judge).
pub fn grade<M: VisionLanguageModel>(
    config: &RunConfig,
    rubric: &Rubric,
    answers: &[GradedAnswer],
    runs: usize,
    model: impl FnOnce() -> Result<M, BpoError>,
    file: &mut StageFile,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    check(&config.judge)?;
    if runs > 1 && config.judge.temperature == 0.0 {
        tracing::warn!(
            runs,
            "`judge.temperature` is 0, as in the published script: the runs differ only if the server's replies at this \
             temperature do"
        );
    }
    let there = file.answers().records().map(|record| record.variant() + 1).max().unwrap_or(0);
    if there > runs {
        let expected = "at least the number of runs in the file of grades, or another --out";
        let found = format!("{runs}, and {there} in the file");
        return Err(BpoError::Setting { key: "--runs".into(), expected, found });
    }
    let sample = |answer: &GradedAnswer| SftSample {
        id: answer.id.clone(),
        images: Vec::new(),
        system: None,
        history: Default::default(),
        prompt: answer.question.clone(),
        answer: answer.reference.clone(),
    };
    let samples: Vec<SftSample> = answers.iter().map(sample).collect();
    let record = |answer: &GradedAnswer, variant| {
        StageRecord::Answered(Bootstrapped {
            id: answer.id.clone(),
            variant,
            kind: CompletionKind::Own,
            response: answer.answer.clone(),
            finish: None,
            provenance: None,
            cuts: Vec::new(),
            rejected: Vec::new(),
            judgment: None,
        })
    };
    let records = answers.iter().flat_map(|answer| (0..runs).map(move |run| record(answer, run)));
    let files = [StageAnswers::of_records(file.answers().path(), records)];
    let answers = answers.iter().map(|answer| (answer.id.as_str(), answer)).collect();
    let job = Job::new(config, &samples, &files, None)?.with_grading(Grading { rubric, answers });
    run(&job, &samples, model, file, progress)
}

/// Returns the grades of answers in the file of [`grade`], in the order of the answers, each with one for
/// each run. The list of an answer is empty if the grade of a run is missing or outside of the scale.
pub fn read_grades(
    file: &StageFile,
    rubric: &Rubric,
    answers: &[GradedAnswer],
    runs: usize,
) -> Vec<Vec<f64>> {
    let mut grades: HashMap<(&str, usize), f64> = HashMap::new();
    for record in file.answers().records() {
        if let StageRecord::Answered(Bootstrapped { judgment: Some(judgment), .. }) = record
            && rubric.has(judgment.score)
        {
            grades.insert((record.id(), record.variant()), judgment.score);
        }
    }
    let of = |answer: &GradedAnswer| -> Option<Vec<f64>> {
        (0..runs).map(|run| grades.get(&(answer.id.as_str(), run)).copied()).collect()
    };
    answers.iter().map(|answer| of(answer).unwrap_or_default()).collect()
}

/// Refuses settings of a judge that have no effect on the grades of a benchmark.
fn check(section: &JudgeSection) -> Result<(), BpoError> {
    let default = JudgeSection::default();
    let keys = [
        ("judge.method", section.method != JudgeMethod::Score),
        ("judge.images", section.images),
        ("judge.annotation", section.annotation != default.annotation),
        ("judge.lowest", section.lowest != default.lowest),
        ("judge.highest", section.highest != default.highest),
        ("judge.accept_from", section.accept_from.is_some()),
        ("judge.prompts", section.prompts.is_some()),
        ("judge.server_images", section.server_images != default.server_images),
    ];
    match keys.into_iter().find(|(_, is_set)| *is_set) {
        Some((key, _)) => Err(BpoError::Conflict {
            key: key.into(),
            with: "the grades of a benchmark".to_owned(),
            reason: "the benchmark defines the scale, and a text model grades by a prompt (--prompt)",
        }),
        None => Ok(()),
    }
}
