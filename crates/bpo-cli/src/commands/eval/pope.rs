//! `bpo eval pope`

use bpo::eval::{PopeDifferences, PopeReport, ReportTable, is_clear_yes_no, read_pope_answers};

use super::{Evaluation, bootstrap};
use crate::args::PopeCommand;
use crate::failure::Failure;

pub fn pope(args: &PopeCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let evaluation = Evaluation::new(
        &args.answers,
        "no question has an answer",
        |path| read_pope_answers(&args.questions, path),
        |items| PopeReport::new(items, bootstrap),
        |one, other| PopeDifferences::new(one, other, &bootstrap),
    )?;
    evaluation.print_tables(ReportTable::pope, ReportTable::pope_differences);
    evaluation.warn_of_unclear(
        |item| (&item.text, is_clear_yes_no(&item.text)),
        "under the published rule",
        "it counts an answer as no if its first sentence has the word No, no or not, and as yes otherwise",
    );
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    Ok(())
}
