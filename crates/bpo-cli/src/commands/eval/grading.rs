//! Answers that a judge grades: `bpo eval mm-vet` and `bpo eval mmhal`

use std::path::{Path, PathBuf};

use bpo::eval::{
    MmVetDifferences, MmVetItem, MmVetReport, MmhalDifferences, MmhalItem, MmhalReport, ReportTable, Scored,
    read_mm_vet_answers, read_mm_vet_grades, read_mmhal_answers, read_mmhal_answers_to, read_mmhal_replies,
};
use bpo::pairs::Untrusted;
use bpo::{BpoError, GradedAnswer, Required, Rubric, RunConfig};
#[cfg(feature = "server")]
use bpo::{Inputs, Stage};
use serde::Serialize;

#[cfg(feature = "server")]
use super::super::continue_file;
use super::super::outputs_of_stage;
use super::{Evaluation, bootstrap, read_files};
use crate::args::{Grader, MmVetCommand, MmhalCommand};
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::print_line;

pub fn mm_vet(args: &MmVetCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let (paths, files) = if args.graded.is_empty() {
        let read = |path: &Path| read_mm_vet_answers(&args.questions, path);
        let mut files = read_files(&args.answers, "no question has an answer", read)?;
        let work = Grading {
            grader: &args.grader,
            rubric: Rubric::mm_vet(args.grader.prompt.as_deref())?,
            runs: args.runs.unwrap_or(1),
            inputs: vec![("--questions", &args.questions)],
        };
        work.grade(&args.answers, &mut files, |item: &mut MmVetItem, grades| item.grades = grades)?;
        (&args.answers, files)
    } else {
        let read = |path: &Path| read_mm_vet_grades(&args.questions, path, args.runs);
        (&args.graded, read_files(&args.graded, "no question has a grade", read)?)
    };
    let report = |items: &[MmVetItem]| MmVetReport::new(items, bootstrap);
    let differences = |one: &[_], other: &[_]| MmVetDifferences::new(one, other, &bootstrap);
    let evaluation = Evaluation::of(paths, files, report, differences)?;
    evaluation.print_tables(ReportTable::mm_vet, ReportTable::mm_vet_differences);
    finish(&evaluation, |report| &report.ungraded)
}

pub fn mmhal(args: &MmhalCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    if args.as_published && args.replies.is_empty() {
        let expected = "given with --replies: a judge's unclear reply is named, and its answer left out";
        let (key, found) = ("--as-published".into(), "given with --answers".to_owned());
        return Err(BpoError::Setting { key, expected, found }.into());
    }
    let (paths, files) = if args.replies.is_empty() {
        let read = |path: &Path| match &args.questions {
            Some(questions) => read_mmhal_answers_to(questions, path),
            None => read_mmhal_answers(path),
        };
        let mut files = read_files(&args.answers, "there is no question", read)?;
        let work = Grading {
            grader: &args.grader,
            rubric: Rubric::mmhal(args.grader.prompt.as_deref())?,
            runs: 1,
            inputs: args.questions.iter().map(|path| ("--questions", path)).collect(),
        };
        // a rating is a whole number from 0 to 6
        let rated = |item: &mut MmhalItem, grades: Vec<f64>| item.rating = grades.first().map(|&r| r as u8);
        work.grade(&args.answers, &mut files, rated)?;
        (&args.answers, files)
    } else {
        let read = |path: &Path| read_mmhal_replies(path, args.as_published);
        (&args.replies, read_files(&args.replies, "there is no reply", read)?)
    };
    let report = |items: &[MmhalItem]| MmhalReport::new(items, bootstrap);
    let differences = |one: &[_], other: &[_]| MmhalDifferences::new(one, other, &bootstrap);
    let evaluation = Evaluation::of(paths, files, report, differences)?;
    evaluation.print_tables(ReportTable::mmhal, ReportTable::mmhal_differences);
    finish(&evaluation, |report| &report.ungraded)
}

/// Prints the reports, and the answers that have no grade.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if there are any.
fn finish<T, R: Serialize, D: Serialize>(
    evaluation: &Evaluation<'_, T, R, D>,
    ungraded: impl Fn(&R) -> &[String],
) -> Result<(), Failure> {
    const SHOWN: usize = 5;
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    let mut is_incomplete = false;
    for (path, scored, report) in evaluation.each() {
        let names = ungraded(report);
        if names.is_empty() {
            continue;
        }
        is_incomplete = true;
        let more = if names.len() > SHOWN { ", ..." } else { "" };
        let shown = names.iter().take(SHOWN).map(|name| Untrusted(name).to_string());
        let shown = shown.collect::<Vec<_>>().join(", ");
        let graded = scored.items.len() - names.len();
        print_line(&format!(
            "error: {}{} graded, {} without a grade and left out: {shown}{more}",
            count(graded, "answer", "answers"),
            evaluation.in_file(path),
            names.len(),
        ));
    }
    if is_incomplete { Err(Failure::Incomplete) } else { Ok(()) }
}

/// The grading of files of answers by a judge.
struct Grading<'a> {
    grader: &'a Grader,
    rubric: Rubric,
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only a judge behind a server grades"))]
    runs: usize,
    /// Further inputs of the command, with their flags.
    inputs: Vec<(&'static str, &'a PathBuf)>,
}

impl Grading<'_> {
    /// Grades the answers of files, and passes the grades of each to `set`: one for each run, or none.
    fn grade<T>(
        &self,
        answers: &[PathBuf],
        files: &mut [Scored<T>],
        set: impl Fn(&mut T, Vec<f64>),
    ) -> Result<(), Failure>
    where
        GradedAnswer: for<'b> From<&'b T>,
    {
        let config = self.config(answers)?;
        if self.rubric.is_built_in() {
            print_line(
                "prompt: our own, so the scores cannot be compared with published ones (--prompt FILE takes another)",
            );
        }
        for (file, out) in files.iter_mut().zip(&self.grader.out) {
            let given: Vec<GradedAnswer> = file.items.iter().map(GradedAnswer::from).collect();
            let grades = self.grade_file(&config, &given, out)?;
            file.items.iter_mut().zip(grades).for_each(|(item, grades)| set(item, grades));
        }
        Ok(())
    }

    /// The settings of the judge, after all flags and paths were checked.
    fn config(&self, answers: &[PathBuf]) -> Result<RunConfig, BpoError> {
        let grader = self.grader;
        let config = grader.config.resolve_for_answers(None, &[grader])?;
        config.require(&[Required::JudgeServer], &[("--out", !grader.out.is_empty())])?;
        if grader.out.len() != answers.len() {
            return Err(BpoError::Setting {
                key: "--out".into(),
                expected: "given as often as --answers: a file with the grades of each",
                found: count(grader.out.len(), "file", "files"),
            });
        }
        let mut paths = grader.config.inputs(&config);
        let inputs = self.inputs.iter().copied().chain(grader.prompt.iter().map(|path| ("--prompt", path)));
        for (flag, path) in inputs.chain(answers.iter().map(|path| ("--answers", path))) {
            paths.input(flag, path);
        }
        for out in &grader.out {
            outputs_of_stage(&mut paths, out);
        }
        paths.check()?;
        Ok(config)
    }

    #[cfg(feature = "server")]
    fn grade_file(
        &self,
        config: &RunConfig,
        answers: &[GradedAnswer],
        out: &Path,
    ) -> Result<Vec<Vec<f64>>, Failure> {
        let key = super::super::judge_key(config)?;
        let inputs = Inputs::of_grading(&self.rubric, answers);
        let mut grades = Vec::new();
        let mut progress = crate::progress::new();
        let open = || bpo::open_judge(config, key.clone());
        let retry = self.grader.retry_skipped;
        continue_file(Stage::Judge, config, &inputs, (out, retry), open, |model, file| {
            let (rubric, runs) = (&self.rubric, self.runs);
            let outcome = bpo::stages::grade(config, rubric, answers, runs, model, file, &mut *progress)?;
            grades = bpo::stages::read_grades(file, rubric, answers, runs);
            Ok(outcome)
        })?;
        Ok(grades)
    }

    /// A build without the client of a server has no judge.
    #[cfg(not(feature = "server"))]
    fn grade_file(&self, _: &RunConfig, _: &[GradedAnswer], _: &Path) -> Result<Vec<Vec<f64>>, Failure> {
        Err(BpoError::NotBuilt { what: "--judge-server", feature: "server" }.into())
    }
}
