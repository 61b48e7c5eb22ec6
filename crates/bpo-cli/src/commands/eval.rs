//! `bpo eval`

use std::path::{Path, PathBuf};

use bpo::BpoError;
use bpo::eval::{
    Bootstrap, ChairDifferences, ChairItem, ChairReport, EvalError, ObjectTable, PopeDifferences, PopeItem,
    PopeReport, ReportTable, Scored, Truth, TruthFiles, is_clear_yes_no, pope_questions, read_chair_answers,
    read_pope_answers,
};
use bpo::pairs::Untrusted;
use serde::Serialize;

use crate::args::{BootstrapArgs, ChairCommand, EvalCommand, PopeCommand, QuestionsCommand, TruthArgs};
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::{print_json, print_line, print_lines};

/// Computes metrics of answers in files.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if answers to `eval chair` were not scored.
pub fn eval(command: &EvalCommand) -> Result<(), Failure> {
    match command {
        EvalCommand::Chair(args) => chair(args),
        EvalCommand::Pope(args) => pope(args),
        EvalCommand::Questions(args) => ask(args),
    }
}

fn chair(args: &ChairCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let (table, truth) = read_truth(&args.truth, args.as_published).map_err(BpoError::from)?;
    let read = |path: &PathBuf| -> Result<Scored<ChairItem>, EvalError> {
        let scored = read_chair_answers(path, &table, &truth)?;
        check_any(&scored, "no answer is about an image of the truth")?;
        Ok(scored)
    };
    let files = args.answers.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(BpoError::from)?;
    let reports: Vec<ChairReport> =
        files.iter().map(|file| ChairReport::new(&file.items, bootstrap)).collect();
    let compare =
        |one: &Scored<_>, other: &Scored<_>| ChairDifferences::new(&one.items, &other.items, &bootstrap);
    let differences = compare_files(&args.answers, &files, compare).map_err(BpoError::from)?;
    let is_silent = |report: &ChairReport| report.silent == report.items;
    for (path, _) in args.answers.iter().zip(&reports).filter(|(_, report)| is_silent(report)) {
        print_line(&format!(
            "warning: no answer{} mentions an object, so CHAIR says nothing about them: check the file of answers",
            in_file(path, &args.answers)
        ));
    }
    print_tables(&args.answers, &reports, ReportTable::chair, &differences, ReportTable::chair_differences);
    print_reports(&args.answers, &reports, &differences)?;
    let mut is_incomplete = false;
    for (path, scored) in args.answers.iter().zip(&files) {
        let what = format!("about images that are not in the truth{}", in_file(path, &args.answers));
        is_incomplete |= print_unmatched(scored, "error", &what);
    }
    if is_incomplete { Err(Failure::Incomplete) } else { Ok(()) }
}

fn pope(args: &PopeCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let read = |path: &PathBuf| -> Result<Scored<PopeItem>, EvalError> {
        let scored = read_pope_answers(&args.questions, path)?;
        check_any(&scored, "no question has an answer")?;
        Ok(scored)
    };
    let files = args.answers.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(BpoError::from)?;
    let reports: Vec<PopeReport> = files.iter().map(|file| PopeReport::new(&file.items, bootstrap)).collect();
    let compare =
        |one: &Scored<_>, other: &Scored<_>| PopeDifferences::new(&one.items, &other.items, &bootstrap);
    let differences = compare_files(&args.answers, &files, compare).map_err(BpoError::from)?;
    print_tables(&args.answers, &reports, ReportTable::pope, &differences, ReportTable::pope_differences);
    for ((path, scored), report) in args.answers.iter().zip(&files).zip(&reports) {
        if let Some(item) = scored.items.iter().find(|item| !is_clear_yes_no(&item.text)) {
            let first: String = item.text.chars().take(60).collect();
            print_line(&format!(
                "warning: {} of {}{} unclear under the published rule, such as {first:?}: it counts an answer as no if its \
                 first sentence has the word No, no or not, and as yes otherwise",
                report.unclear,
                count(report.items, "answer", "answers"),
                in_file(path, &args.answers)
            ));
        }
    }
    print_reports(&args.answers, &reports, &differences)?;
    for (path, scored) in args.answers.iter().zip(&files) {
        let what = format!("to other questions left out{}", in_file(path, &args.answers));
        print_unmatched(scored, "warning", &what);
    }
    Ok(())
}

/// Compares each file with the first. An error names both.
fn compare_files<T, D>(
    paths: &[PathBuf],
    files: &[Scored<T>],
    compare: impl Fn(&Scored<T>, &Scored<T>) -> Result<D, EvalError>,
) -> Result<Vec<D>, EvalError> {
    let ([first_path, other_paths @ ..], [first, others @ ..]) = (paths, files) else {
        return Ok(Vec::new());
    };
    let compare = |(path, other): (&PathBuf, &Scored<T>)| {
        compare(first, other).map_err(|source| EvalError::Files {
            first: first_path.clone(),
            other: path.clone(),
            source: Box::new(source),
        })
    };
    other_paths.iter().zip(others).map(compare).collect()
}

/// Names a file in a message, if there are several.
fn in_file(path: &Path, all: &[PathBuf]) -> String {
    if all.len() > 1 { format!(" in {}", path.display()) } else { String::new() }
}

/// A table with a column for each system.
type Table<T> = fn(&[(&str, &T)]) -> ReportTable;

/// Prints a table of the reports and, if there are several, one of their differences from the first.
fn print_tables<R, D>(
    paths: &[PathBuf],
    reports: &[R],
    table: Table<R>,
    differences: &[D],
    differences_table: Table<D>,
) {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let [first, others @ ..] = names.as_slice() else { return };
    // a single column needs no name
    let name = |name: &'_ String| if others.is_empty() { String::new() } else { name.clone() };
    let columns: Vec<String> = names.iter().map(name).collect();
    let systems: Vec<(&str, &R)> = columns.iter().map(String::as_str).zip(reports).collect();
    print_lines(table(&systems).to_string().trim_end());
    if !others.is_empty() {
        let systems: Vec<(&str, &D)> = others.iter().map(String::as_str).zip(differences).collect();
        print_line(&format!("differences from {first}, on the same images; those of shares are in points:"));
        print_lines(differences_table(&systems).to_string().trim_end());
    }
}

/// A report of one of several files, and its differences from the first.
#[derive(Serialize)]
struct Compared<'a, R, D> {
    answers: &'a Path,
    report: &'a R,
    differences: Option<&'a D>,
}

/// Prints the report of one file, or a line for each of several.
fn print_reports<R: Serialize, D: Serialize>(
    paths: &[PathBuf],
    reports: &[R],
    differences: &[D],
) -> Result<(), BpoError> {
    if let [report] = reports {
        return print_json(report);
    }
    let differences = std::iter::once(None).chain(differences.iter().map(Some));
    let lines = paths.iter().zip(reports).zip(differences);
    lines
        .map(|((answers, report), differences)| Compared { answers, report, differences })
        .try_for_each(|line| print_json(&line))
}

fn ask(args: &QuestionsCommand) -> Result<(), Failure> {
    let (_, truth) = read_truth(&args.truth, false).map_err(BpoError::from)?;
    let questions = pope_questions(&truth, &truth, args.negatives, args.per_image, args.seed);
    if questions.is_empty() {
        let why = "no image shows an object, or each shows all of them".into();
        return Err(BpoError::from(EvalError::Nothing { why }).into());
    }
    Ok(questions.iter().try_for_each(print_json)?)
}

/// Reads the ground truth and the object table. Without `--objects` the table has the names in the
/// truth; COCO captions need a table.
fn read_truth(args: &TruthArgs, as_published: bool) -> Result<(ObjectTable, Truth), EvalError> {
    let TruthArgs { truth, coco, objects } = args.clone();
    let read = TruthFiles { truth, coco, objects, as_published }.read()?;
    if args.objects.is_none() {
        print_line("objects: the names in the truth, without synonyms (--objects FILE adds synonyms)");
    }
    Ok(read)
}

/// Refuses a file of answers none of which can be scored.
fn check_any<T>(scored: &Scored<T>, why: &str) -> Result<(), EvalError> {
    if scored.items.is_empty() { Err(EvalError::Nothing { why: why.into() }) } else { Ok(()) }
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
