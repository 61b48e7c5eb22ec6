//! `bpo eval`

use bpo::BpoError;
use bpo::eval::{
    Bootstrap, ChairReport, EvalError, ObjectTable, PopeReport, ReportTable, Scored, Truth, is_clear_yes_no,
    pope_questions, read_chair_answers, read_pope_answers,
};
use bpo::pairs::Untrusted;

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
    let scored = read_chair_answers(&args.answers, &table, &truth).map_err(BpoError::from)?;
    check_any(&scored, "no answer is about an image of the truth").map_err(BpoError::from)?;
    let report = ChairReport::new(&scored.items, bootstrap);
    if report.silent == report.items {
        print_line(
            "warning: no answer mentions an object, so CHAIR says nothing about them: check the file of answers",
        );
    }
    print_lines(ReportTable::chair(&[("", &report)]).to_string().trim_end());
    print_json(&report)?;
    if print_unmatched(&scored, "error", "about images that are not in the truth") {
        Err(Failure::Incomplete)
    } else {
        Ok(())
    }
}

fn pope(args: &PopeCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let scored = read_pope_answers(&args.questions, &args.answers).map_err(BpoError::from)?;
    check_any(&scored, "no question has an answer").map_err(BpoError::from)?;
    let report = PopeReport::new(&scored.items, bootstrap);
    print_lines(ReportTable::pope(&[("", &report)]).to_string().trim_end());
    if let Some(item) = scored.items.iter().find(|item| !is_clear_yes_no(&item.text)) {
        let first: String = item.text.chars().take(60).collect();
        print_line(&format!(
            "warning: {} of {} unclear under the published rule, such as {first:?}: it counts an answer as no if its first \
             sentence has the word No, no or not, and as yes otherwise",
            report.unclear,
            count(report.items, "answer", "answers")
        ));
    }
    print_json(&report)?;
    print_unmatched(&scored, "warning", "to other questions left out");
    Ok(())
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
    let read = |table: &ObjectTable| -> Result<Truth, EvalError> {
        let mut truth = args.truth.as_deref().map(Truth::from_file).transpose()?.unwrap_or_default();
        for path in &args.coco {
            truth.merge(Truth::from_coco(path, table)?);
        }
        Ok(truth)
    };
    match &args.objects {
        Some(path) => {
            let table = if as_published {
                ObjectTable::as_published_from_file(path)?
            } else {
                ObjectTable::from_file(path)?
            };
            let truth = read(&table)?;
            Ok((table, truth))
        }
        None => {
            let truth = read(&ObjectTable::default())?;
            print_line("objects: the names in the truth, without synonyms (--objects FILE adds synonyms)");
            Ok((ObjectTable::of_names(truth.objects())?, truth))
        }
    }
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
