//! `bpo eval chair` and `bpo eval questions`

use bpo::BpoError;
use bpo::eval::{
    ChairDifferences, ChairReport, EvalError, ObjectTable, ReportTable, Truth, TruthFiles, pope_questions,
    read_chair_answers,
};

use super::{Evaluation, bootstrap, print_unmatched};
use crate::args::{ChairCommand, QuestionsCommand, TruthArgs};
use crate::failure::Failure;
use crate::terminal::{print_json, print_line};

pub fn chair(args: &ChairCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let (table, truth) = read_truth(&args.truth, args.as_published).map_err(BpoError::from)?;
    let evaluation = Evaluation::new(
        &args.answers,
        "no answer is about an image of the truth",
        |path| read_chair_answers(path, &table, &truth),
        |items| ChairReport::new(items, bootstrap),
        |one, other| ChairDifferences::new(one, other, &bootstrap),
    )?;
    for (path, _, _) in evaluation.each().filter(|(_, _, report)| report.silent == report.items) {
        print_line(&format!(
            "warning: no answer{} mentions an object, so CHAIR says nothing about them: check the file of answers",
            evaluation.in_file(path)
        ));
    }
    evaluation.print_tables(ReportTable::chair, ReportTable::chair_differences);
    evaluation.print_reports()?;
    let mut is_incomplete = false;
    for (path, scored, _) in evaluation.each() {
        let what = format!("about images that are not in the truth{}", evaluation.in_file(path));
        is_incomplete |= print_unmatched(scored, "error", &what);
    }
    if is_incomplete { Err(Failure::Incomplete) } else { Ok(()) }
}

pub fn ask(args: &QuestionsCommand) -> Result<(), Failure> {
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
