//! `bpo eval amber`

use std::path::PathBuf;

use bpo::BpoError;
use bpo::eval::{
    AmberCaptionReport, AmberCaptionScores, AmberFiles, AmberKinds, AmberReport, AmberWordFiles, AmberWords,
    Bootstrap, ReportTable, YesNoReading,
};
use bpo::pairs::Untrusted;

use super::{Evaluation, bootstrap, reading, under};
use crate::args::AmberCommand;
use crate::failure::Failure;
use crate::progress::count;
use crate::terminal::print_line;

pub fn amber(args: &AmberCommand) -> Result<(), Failure> {
    let bootstrap = bootstrap(&args.bootstrap)?;
    let files = AmberFiles { questions: args.questions.clone(), annotations: args.annotations.clone() };
    if let (Some(relation), Some(safe_words), Some(vectors)) =
        (&args.relation, &args.safe_words, &args.vectors)
    {
        let (relation, safe_words, vectors) = (relation.clone(), safe_words.clone(), vectors.clone());
        let words = AmberWordFiles { relation, safe_words, vectors };
        return captions(&args.answers, &files, &words, bootstrap);
    }
    let reading = reading(args.first_word);
    let evaluation = Evaluation::new(
        &args.answers,
        "all questions are of the generative task, which needs --relation, --safe-words and --vectors",
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

/// The generative task.
fn captions(
    answers: &[PathBuf],
    files: &AmberFiles,
    words: &AmberWordFiles,
    bootstrap: Bootstrap,
) -> Result<(), Failure> {
    let words = words.read().map_err(BpoError::from)?;
    let evaluation = Evaluation::new(
        answers,
        "no question is of the generative task",
        |path| files.read_captions(path, &words),
        |items| AmberCaptionReport::new(items, bootstrap),
        |one, other| AmberCaptionScores::differences(one, other, &bootstrap),
    )?;
    warn_of_words(&words);
    for (path, _, _) in evaluation.each().filter(|(_, _, report)| report.silent == report.items) {
        print_line(&format!(
            "warning: no answer{} has a noun of relation.json, so the figures say nothing about them: check the lists of \
             nouns",
            evaluation.in_file(path)
        ));
    }
    evaluation.print_tables(ReportTable::amber_captions, ReportTable::amber_caption_differences);
    evaluation.print_reports()?;
    evaluation.warn_of_unmatched();
    Ok(())
}

/// Prints how many words have no vector, with a few of them.
fn warn_of_words(words: &AmberWords) {
    const SHOWN: usize = 5;
    let without = words.without_vector();
    if !without.is_empty() {
        let shown = without.iter().take(SHOWN).map(|word| Untrusted(word).to_string());
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = if without.len() > SHOWN { ", ..." } else { "" };
        let count = count(without.len(), "word of relation.json has", "words of relation.json have");
        print_line(&format!("warning: {count} no vector, and no similar word: {shown}{more}"));
    }
}
