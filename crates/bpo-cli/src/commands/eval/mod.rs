//! `bpo eval`

mod amber;
mod auc;
mod chair;
mod grading;
mod pope;
mod ranking;

use std::path::{Path, PathBuf};

use bpo::BpoError;
use bpo::eval::{Bootstrap, EvalError, ReportTable, Scored, YesNoReading};
use bpo::pairs::Untrusted;
use serde::Serialize;

use crate::args::{BootstrapArgs, EvalCommand};
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::{print_json, print_line, print_lines};

/// Computes metrics of answers in files.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if answers were not scored.
pub fn eval(command: &EvalCommand) -> Result<(), Failure> {
    match command {
        EvalCommand::Chair(args) => chair::chair(args),
        EvalCommand::Pope(args) => pope::pope(args),
        EvalCommand::Amber(args) => amber::amber(args),
        EvalCommand::MmVet(args) => grading::mm_vet(args),
        EvalCommand::Mmhal(args) => grading::mmhal(args),
        EvalCommand::Ranking(args) => ranking::ranking(args),
        EvalCommand::Auc(args) => auc::auc(args),
        EvalCommand::Questions(args) => chair::ask(args),
    }
}

/// The answers of one or more files, with their reports and the differences of the others from the
/// first.
struct Evaluation<'a, T, R, D> {
    paths: &'a [PathBuf],
    files: Vec<Scored<T>>,
    reports: Vec<R>,
    differences: Vec<D>,
}

/// A table with a column for each system.
type Table<T> = fn(&[(&str, &T)]) -> ReportTable;

impl<'a, T, R: Serialize, D: Serialize> Evaluation<'a, T, R, D> {
    /// Reads and scores all files, before anything is printed.
    ///
    /// # Errors
    /// Returns the errors of `read` and `compare`, and [`EvalError::Nothing`] with the reason `none`
    /// for a file without an answer to score.
    fn new(
        paths: &'a [PathBuf],
        none: &str,
        read: impl Fn(&Path) -> Result<Scored<T>, EvalError>,
        report: impl Fn(&[T]) -> R,
        compare: impl Fn(&[T], &[T]) -> Result<D, EvalError>,
    ) -> Result<Self, BpoError> {
        Self::of(paths, read_files(paths, none, read)?, report, compare)
    }

    /// Scores files that were read.
    ///
    /// # Errors
    /// Returns the error of `compare`.
    fn of(
        paths: &'a [PathBuf],
        files: Vec<Scored<T>>,
        report: impl Fn(&[T]) -> R,
        compare: impl Fn(&[T], &[T]) -> Result<D, EvalError>,
    ) -> Result<Self, BpoError> {
        let reports = files.iter().map(|file| report(&file.items)).collect();
        let differences = compare_files(paths, &files, compare)?;
        Ok(Self { paths, files, reports, differences })
    }

    /// The name of a file for a message, if there are several.
    fn in_file(&self, path: &Path) -> String {
        if self.paths.len() > 1 { format!(" in {}", path.display()) } else { String::new() }
    }

    /// The files with their reports.
    fn each(&self) -> impl Iterator<Item = (&Path, &Scored<T>, &R)> {
        let files = self.paths.iter().zip(&self.files).zip(&self.reports);
        files.map(|((path, scored), report)| (path.as_path(), scored, report))
    }

    /// Prints a table of the reports and, if there are several, one of their differences from the
    /// first.
    fn print_tables(&self, table: Table<R>, differences_table: Table<D>) {
        let names: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let [first, others @ ..] = names.as_slice() else { return };
        // a single column needs no name
        let name = |name: &'_ String| if others.is_empty() { String::new() } else { name.clone() };
        let columns: Vec<String> = names.iter().map(name).collect();
        let systems: Vec<(&str, &R)> = columns.iter().map(String::as_str).zip(&self.reports).collect();
        print_lines(table(&systems).to_string().trim_end());
        if !others.is_empty() {
            let systems: Vec<(&str, &D)> = others.iter().map(String::as_str).zip(&self.differences).collect();
            print_line(&format!("differences from {first}, paired; those of shares are in points:"));
            print_lines(differences_table(&systems).to_string().trim_end());
        }
    }

    /// Prints the report of one file, or a line for each of several.
    fn print_reports(&self) -> Result<(), BpoError> {
        if let [report] = self.reports.as_slice() {
            return print_json(report);
        }
        let differences = std::iter::once(None).chain(self.differences.iter().map(Some));
        let lines = self.paths.iter().zip(&self.reports).zip(differences);
        lines
            .map(|((answers, report), differences)| Compared { answers, report, differences })
            .try_for_each(|line| print_json(&line))
    }

    /// Prints a warning for each file with unclear answers. `of` returns the text of an item, and
    /// whether it is clear; `under` names the rule by which answers are read, and `counts` says how
    /// unclear ones count.
    fn warn_of_unclear(&self, of: impl Fn(&T) -> (&str, bool), under: &str, counts: &str) {
        for (path, scored, _) in self.each() {
            let unclear: Vec<&str> = scored
                .items
                .iter()
                .map(&of)
                .filter(|(_, is_clear)| !is_clear)
                .map(|(text, _)| text)
                .collect();
            let Some(first) = unclear.first() else { continue };
            let first: String = first.chars().take(60).collect();
            print_line(&format!(
                "warning: {} of {}{} unclear {under}, such as {first:?}: {counts}",
                unclear.len(),
                count(scored.items.len(), "answer", "answers"),
                self.in_file(path)
            ));
        }
    }

    /// Prints how many answers to other questions were left out.
    fn warn_of_unmatched(&self) {
        for (path, scored, _) in self.each() {
            let what = format!("to other questions left out{}", self.in_file(path));
            print_unmatched(scored, "warning", &what);
        }
    }
}

/// Reads all files.
///
/// # Errors
/// Returns the error of `read`, and [`EvalError::Nothing`] with the reason `none` for a file without an
/// answer to score.
fn read_files<T>(
    paths: &[PathBuf],
    none: &str,
    read: impl Fn(&Path) -> Result<Scored<T>, EvalError>,
) -> Result<Vec<Scored<T>>, BpoError> {
    let read = |path: &PathBuf| match read(path)? {
        scored if scored.items.is_empty() => Err(EvalError::Nothing { why: none.into() }),
        scored => Ok(scored),
    };
    Ok(paths.iter().map(read).collect::<Result<_, _>>()?)
}

/// Compares each file with the first. An error names both.
fn compare_files<T, D>(
    paths: &[PathBuf],
    files: &[Scored<T>],
    compare: impl Fn(&[T], &[T]) -> Result<D, EvalError>,
) -> Result<Vec<D>, EvalError> {
    let ([first_path, other_paths @ ..], [first, others @ ..]) = (paths, files) else {
        return Ok(Vec::new());
    };
    let compare = |(path, other): (&PathBuf, &Scored<T>)| {
        compare(&first.items, &other.items).map_err(|source| EvalError::Files {
            first: first_path.clone(),
            other: path.clone(),
            source: Box::new(source),
        })
    };
    other_paths.iter().zip(others).map(compare).collect()
}

/// A report of one of several files, and its differences from the first.
#[derive(Serialize)]
struct Compared<'a, R, D> {
    answers: &'a Path,
    report: &'a R,
    differences: Option<&'a D>,
}

/// The reading that `--first-word` selects.
fn reading(first_word: bool) -> YesNoReading {
    if first_word { YesNoReading::FirstWord } else { YesNoReading::AsPublished }
}

/// How answers are read, for messages: after "unclear".
fn under(reading: YesNoReading) -> &'static str {
    match reading {
        YesNoReading::FirstWord => "by their first word",
        _ => "under the published rule",
    }
}

/// Checked before any file is read.
fn bootstrap(args: &BootstrapArgs) -> Result<Bootstrap, BpoError> {
    let bootstrap = Bootstrap::default().with_resamples(args.resamples).map_err(EvalError::from)?;
    Ok(bootstrap.with_seed(args.seed))
}

/// Prints how many answers were not scored, with a few of them. Returns whether there are any.
fn print_unmatched<T>(scored: &Scored<T>, level: &str, what: &str) -> bool {
    const SHOWN: usize = 5;
    let unmatched = scored.unmatched.len();
    if unmatched > 0 {
        let more = if unmatched > SHOWN { ", ..." } else { "" };
        let names = scored.unmatched.iter().take(SHOWN).map(|name| Untrusted(name).to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        let answers = count(unmatched, "answer", "answers");
        print_line(&format!("{level}: {} scored, {answers} {what}: {names}{more}", scored.items.len()));
    }
    unmatched > 0
}
