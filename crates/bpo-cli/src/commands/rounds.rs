//! `bpo rounds`

use bpo::{RoundSummary, read_rounds};

use crate::args::RoundsCommand;
use crate::failure::Failure;
use crate::terminal::{print_json, print_lines};

/// Prints the counts and the last metrics of each round, as a table and as JSON lines.
///
/// # Errors
/// Returns an error if there is no round, or a file cannot be read.
pub fn rounds(args: &RoundsCommand) -> Result<(), Failure> {
    let rounds = read_rounds(&args.dir)?;
    print_lines(&table(&rounds));
    rounds.iter().try_for_each(|round| Ok(print_json(round)?))
}

/// A column: its title, and the cell of a round.
type Column = (&'static str, fn(&RoundSummary) -> String);

const COLUMNS: [Column; 12] = [
    ("round", |round| round.round.to_string()),
    ("state", |round| if round.finished { "finished" } else { "started" }.to_owned()),
    ("weakened", |round| count(round.weakened)),
    ("injected", |round| count(round.injected)),
    ("pairs", |round| count(round.pairs)),
    ("chosen words", |round| number(round.chosen_words, 1)),
    ("weakened words", |round| number(round.weakened_words, 1)),
    ("loss", |round| number(round.loss, 4)),
    ("margins", |round| number(round.margins, 3)),
    ("accuracies", |round| number(round.accuracies, 3)),
    ("logps chosen", |round| number(round.logps_chosen, 1)),
    ("eval logps chosen", |round| number(round.evaluation.as_ref().map(|last| last.logps_chosen), 1)),
];

fn count(value: Option<usize>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The columns, aligned to the right.
fn table(rounds: &[RoundSummary]) -> String {
    let mut lines = vec![String::new(); rounds.len() + 1];
    for (title, cell) in COLUMNS {
        let cells: Vec<String> = std::iter::once(title.to_owned()).chain(rounds.iter().map(cell)).collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        for (line, cell) in lines.iter_mut().zip(cells) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&format!("{cell:>width$}"));
        }
    }
    lines.join("\n")
}
