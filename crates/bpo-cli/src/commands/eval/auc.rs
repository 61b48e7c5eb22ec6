//! `bpo eval auc`

use bpo::eval::{AucDifferences, AucReport, ReportTable, YesNoReading, read_auc_answers};

use super::{Evaluation, bootstrap, reading, under};
use crate::args::AucCommand;
use crate::failure::Failure;
use crate::terminal::print_line;

pub fn auc(args: &AucCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let reading = reading(args.first_word);
    let evaluation = Evaluation::new(
        &args.answers,
        "no question has an answer",
        |path| read_auc_answers(&args.questions, path, reading),
        |items| AucReport::new(items, bootstrap),
        |one, other| AucDifferences::new(one, other, &bootstrap),
    )?;
    evaluation.print_tables(ReportTable::auc, ReportTable::auc_differences);
    let counts = match reading {
        YesNoReading::FirstWord => "they are left out",
        _ => "it leaves out all but yes and no; --first-word reads the first word",
    };
    evaluation.warn_of_unclear(|item| (&item.text, item.score.is_some()), under(reading), counts);
    for (path, _, _) in evaluation.each().filter(|(_, _, report)| report.auc.value.is_none()) {
        print_line(&format!(
            "warning: there is no AUC{}: all questions with a clear answer have the same label",
            evaluation.in_file(path)
        ));
    }
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    Ok(())
}
