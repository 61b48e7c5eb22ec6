//! `bpo eval amber`

use bpo::eval::{AmberFiles, AmberKinds, AmberReport, ReportTable, YesNoReading};

use super::{Evaluation, bootstrap, reading, under};
use crate::args::AmberCommand;
use crate::failure::Failure;

pub fn amber(args: &AmberCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let files = AmberFiles { questions: args.questions.clone(), annotations: args.annotations.clone() };
    let reading = reading(args.first_word);
    let evaluation = Evaluation::new(
        &args.answers,
        "all questions are of the generative task, which is not scored",
        |path| files.read_answers(path, reading),
        |items| AmberReport::new(items, bootstrap),
        |one, other| AmberKinds::differences(one, other, &bootstrap),
    )?;
    evaluation.print_tables(ReportTable::amber, ReportTable::amber_differences);
    let counts = match reading {
        YesNoReading::FirstWord => "they count as wrong",
        _ => "it counts all but exactly Yes and No as wrong; --first-word reads the first word",
    };
    evaluation.warn_of_unclear(|item| (&item.text, item.answer.is_some()), under(reading), counts);
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    Ok(())
}
