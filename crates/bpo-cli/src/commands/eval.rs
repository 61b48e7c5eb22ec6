//! `bpo eval`

use bpo::BpoError;
use bpo::eval::{
    Bootstrap, ChairReport, EvalError, ObjectTable, PopeReport, ReportTable, Scored, Truth, is_clear_yes_no,
    pope_questions, read_chair_answers, read_pope_answers,
};

use super::print_line;
use crate::args::{BootstrapArgs, ChairCommand, EvalCommand, PopeCommand, QuestionsCommand, Shown};
use crate::failure::Failure;
use crate::progress;

/// Scores answers in files.
pub fn eval(command: &EvalCommand) -> Result<(), Failure> {
    match command {
        EvalCommand::Chair(args) => chair(args),
        EvalCommand::Pope(args) => pope(args),
        EvalCommand::Questions(args) => ask(args),
    }
}

fn chair(args: &ChairCommand) -> Result<(), Failure> {
    let (table, truth) = read_truth(&args.shown, args.as_published).map_err(BpoError::from)?;
    let scored = read_chair_answers(&args.answers, &table, &truth).map_err(BpoError::from)?;
    some(&scored, "no answer is about an image of the truth").map_err(BpoError::from)?;
    let report = ChairReport::new(&scored.items, bootstrap(&args.bootstrap));
    if report.silent == report.items {
        progress::tell(
            "warning: no answer names an object, so CHAIR says nothing of them: check what the answers are",
        );
    }
    progress::tell(ReportTable::chair(&[("", &report)]).to_string().trim_end());
    print_line(&report)?;
    match told_unmatched(&scored, "error", "answers about images that the truth does not have") {
        true => Err(Failure::Incomplete),
        false => Ok(()),
    }
}

fn pope(args: &PopeCommand) -> Result<(), Failure> {
    let scored = read_pope_answers(&args.questions, &args.answers).map_err(BpoError::from)?;
    some(&scored, "no question has an answer").map_err(BpoError::from)?;
    let report = PopeReport::new(&scored.items, bootstrap(&args.bootstrap));
    progress::tell(ReportTable::pope(&[("", &report)]).to_string().trim_end());
    if let Some(item) = scored.items.iter().find(|item| !is_clear_yes_no(&item.text)) {
        let first: String = item.text.chars().take(60).collect();
        progress::tell(&format!(
            "warning: {} of {} answers are not clear to the published rule, as {first:?}; it counts an answer as no only where \
             the first sentence has the word No, no or not, and all others as yes",
            report.unclear, report.items
        ));
    }
    print_line(&report)?;
    told_unmatched(&scored, "warning", "answers to other questions are left out");
    Ok(())
}

fn ask(args: &QuestionsCommand) -> Result<(), Failure> {
    let (_, truth) = read_truth(&args.shown, false).map_err(BpoError::from)?;
    let questions = pope_questions(&truth, &truth, args.negatives, args.per_image, args.seed);
    if questions.is_empty() {
        let why = "no image shows an object, or each shows all of them".into();
        return Err(BpoError::from(EvalError::Nothing { why }).into());
    }
    Ok(questions.iter().try_for_each(print_line)?)
}

/// Without a table of its own, the names in the truth are the objects; captions of COCO need one.
fn read_truth(args: &Shown, as_published: bool) -> Result<(ObjectTable, Truth), EvalError> {
    let read = |table: &ObjectTable| -> Result<Truth, EvalError> {
        let mut truth = args.truth.as_deref().map(Truth::from_file).transpose()?.unwrap_or_default();
        for path in &args.coco {
            truth.merge(Truth::from_coco(path, table)?);
        }
        Ok(truth)
    };
    match &args.objects {
        Some(path) => {
            let table = match as_published {
                true => ObjectTable::as_published_from_file(path)?,
                false => ObjectTable::from_file(path)?,
            };
            let truth = read(&table)?;
            Ok((table, truth))
        }
        None => {
            let truth = read(&ObjectTable::default())?;
            progress::tell(
                "objects: the names in the truth, and no other words for them (--objects FILE names more)",
            );
            Ok((ObjectTable::of_names(truth.objects())?, truth))
        }
    }
}

fn some<T>(scored: &Scored<T>, why: &str) -> Result<(), EvalError> {
    match scored.items.is_empty() {
        true => Err(EvalError::Nothing { why: why.into() }),
        false => Ok(()),
    }
}

fn bootstrap(args: &BootstrapArgs) -> Bootstrap {
    Bootstrap::default().with_resamples(args.resamples).with_seed(args.seed)
}

/// Names a few of what could not be scored; whether there was any.
fn told_unmatched<T>(scored: &Scored<T>, level: &str, what: &str) -> bool {
    const SHOWN: usize = 5;
    let count = scored.unmatched.len();
    if count > 0 {
        let more = if count > SHOWN { ", ..." } else { "" };
        let names = scored.unmatched.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        progress::tell(&format!("{level}: {} scored, {count} {what}: {names}{more}", scored.items.len()));
    }
    count > 0
}
