//! `bpo eval chair` and `bpo eval questions`

use std::collections::BTreeSet;

use bpo::BpoError;
use bpo::eval::{
    ChairDifferences, ChairItem, ChairReport, EvalError, ObjectTable, ReportTable, Truth, TruthFiles,
    pope_questions, read_chair_answers, read_extracted_answers,
};
use bpo::pairs::Untrusted;

use super::{Evaluation, bootstrap, print_unmatched};
use crate::args::{ChairCommand, QuestionsCommand, TruthArgs};
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::{print_json, print_line};

pub fn chair(args: &ChairCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let (table, truth) = read_truth(&args.truth, args.as_published).map_err(BpoError::from)?;
    let evaluation = Evaluation::new(
        &args.answers,
        "no answer is about an image of the truth",
        |path| match args.extracted {
            true => read_extracted_answers(path, &table, &truth),
            false => read_chair_answers(path, &table, &truth),
        },
        |items| ChairReport::new(items, bootstrap),
        |one, other| ChairDifferences::new(one, other, &bootstrap),
    )?;
    for (path, _, _) in evaluation.each().filter(|(_, _, report)| report.silent == report.items) {
        print_line(&format!(
            "warning: no answer{} mentions an object, so CHAIR says nothing about them: check the file of answers",
            evaluation.in_file(path)
        ));
    }
    for (path, scored, _) in evaluation.each() {
        print_unknown(&scored.items, &evaluation.in_file(path));
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

/// Prints how many words of extracted names are not in the table, with a few of them.
fn print_unknown(items: &[ChairItem], in_file: &str) {
    const SHOWN: usize = 5;
    let unknown: BTreeSet<&str> = items.iter().flat_map(|item| &item.unknown).map(String::as_str).collect();
    if !unknown.is_empty() {
        let names = unknown.iter().take(SHOWN).map(|name| Untrusted(name).to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        let more = if unknown.len() > SHOWN { ", ..." } else { "" };
        let count = count(unknown.len(), "name is", "names are");
        print_line(&format!("objects{in_file}: {count} not in the table and not counted: {names}{more}"));
    }
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
