//! `bpo stats`

use std::path::Path;

use bpo::pairs::Untrusted;
use bpo::pairs::files::{create_parents, write_bytes};
use bpo::pairs::format::jsonl::read_pairs_with;
use bpo::{BpoError, PairStatistics, Paths, RowNames};

use crate::args::StatsCommand;
use crate::failure::Failure;
use crate::skipped::print_skipped;
use crate::terminal::{print_json, print_line};

/// Prints statistics of pairs, and writes a data card.
///
/// # Errors
/// Returns an error if the pairs cannot be read, or the card cannot be written.
pub fn stats(args: &StatsCommand) -> Result<(), Failure> {
    if let Some(card) = &args.card {
        Paths::default().input("PAIRS", &args.pairs).output("--card", card).check()?;
    }
    let set = read_pairs_with(&args.pairs, &RowNames::beside(&args.pairs).read_options())
        .map_err(BpoError::from)?;
    print_skipped(&set.skipped, None);
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(&args.pairs, "pair", &set.skipped).into());
    }
    let statistics = PairStatistics::of(&set.pairs);
    for (kind, bias) in statistics.length_biases() {
        print_line(&format!("warning: the rejected answers of the kind {:?} are {bias}", Untrusted(kind)));
    }
    if let Some(card) = &args.card {
        create_parents(card).map_err(BpoError::from)?;
        write_bytes(card, statistics.card(&title(args)).as_bytes()).map_err(BpoError::from)?;
    }
    Ok(print_json(&statistics)?)
}

fn title(args: &StatsCommand) -> String {
    let name = || args.pairs.file_stem().unwrap_or(Path::new("pairs").as_os_str());
    args.title.clone().unwrap_or_else(|| name().to_string_lossy().into_owned())
}
