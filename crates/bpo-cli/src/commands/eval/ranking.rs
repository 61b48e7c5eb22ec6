//! `bpo eval ranking`

use bpo::eval::{RankingDifferences, RankingReport, ReportTable, read_ranking_answers};

use super::{Evaluation, bootstrap};
use crate::args::RankingCommand;
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::print_line;

pub fn ranking(args: &RankingCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let evaluation = Evaluation::new(
        &args.answers,
        "no question has an answer",
        |path| read_ranking_answers(&args.questions, path),
        |items| RankingReport::new(items, args.k, bootstrap),
        |one, other| RankingDifferences::new(one, other, args.k, &bootstrap),
    )?;
    evaluation.print_tables(ReportTable::ranking, ReportTable::ranking_differences);
    for (path, scored, report) in evaluation.each() {
        let in_file = evaluation.in_file(path);
        if report.empty > 0 {
            let answers = count(report.items, "answer", "answers");
            print_line(&format!(
                "warning: {} of {answers}{in_file} without an item, which count as misses",
                report.empty
            ));
        }
        if scored.items.iter().all(|item| item.place.is_none()) {
            print_line(&format!(
                "warning: no answer{in_file} lists the item of its label: an answer has one item per line, written \
                 as the label, without numbers or bullets"
            ));
        }
    }
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    Ok(())
}
