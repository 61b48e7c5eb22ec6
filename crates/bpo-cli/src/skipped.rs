//! Lines about skipped records: a few of them, then a count.

use std::path::Path;

use bpo::pairs::{Skipped, Untrusted};
#[cfg(feature = "model")]
use bpo::stages::StageOutcome;

#[cfg(feature = "model")]
use crate::failure::Failure;
use crate::terminal::print_line;

/// Lines printed about the skipped records of one stage.
const SHOWN: usize = 20;

/// Prints the first lines about skipped records and counts the others, which are logged at the
/// level `info`.
#[derive(Debug, Default)]
pub struct SkipLines {
    count: usize,
}

impl SkipLines {
    /// Prints one more line with `print`, or logs it.
    pub fn add(&mut self, line: &str, print: impl FnOnce(&str)) {
        self.count += 1;
        if self.count <= SHOWN {
            print(line);
        } else {
            tracing::info!("{line}");
        }
    }

    /// A line about those that were not printed, if there are any. `file` has a record of each.
    pub fn rest(&self, file: Option<&Path>) -> Option<String> {
        let hidden = self.count.saturating_sub(SHOWN);
        let place = file.map_or_else(
            || "RUST_LOG=info lists them".to_owned(),
            |file| format!("{} lists them", file.display()),
        );
        (hidden > 0).then(|| format!("... {hidden} more skipped: {place}"))
    }
}

/// Prints the skipped records of a stage. `file` has a record of each, where the stage writes one.
pub fn print_skipped(skipped: &[Skipped], file: Option<&Path>) {
    let mut lines = SkipLines::default();
    for Skipped { id, variant, detail, .. } in skipped {
        let answer = if *variant == 0 { String::new() } else { format!(", answer {}", variant + 1) };
        lines.add(&format!("skipped: {}{answer}: {}", Untrusted(id), Untrusted(detail)), print_line);
    }
    lines.rest(file).iter().for_each(|line| print_line(line));
}

/// Prints the items that a command could not process, and how many.
///
/// # Errors
/// Returns [`Failure::Incomplete`] if there are any.
#[cfg(feature = "model")]
pub fn fail_if_skipped(outcome: &StageOutcome) -> Result<(), Failure> {
    if outcome.skipped.is_empty() {
        return Ok(());
    }
    print_skipped(&outcome.skipped, None);
    let skipped = &outcome.summary.skipped;
    print_line(&format!("error: {} done, {} skipped ({skipped})", outcome.summary.done, skipped.total()));
    Err(Failure::Incomplete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_skipped_lines_is_limited() {
        let (mut lines, mut printed) = (SkipLines::default(), 0);
        for _ in 0..SHOWN {
            lines.add("a", |_| printed += 1);
        }
        assert_eq!((printed, lines.rest(None)), (SHOWN, None));
        for _ in 0..5 {
            lines.add("a", |_| panic!("one line too many"));
        }
        assert_eq!(lines.rest(Some(Path::new("x.jsonl"))).unwrap(), "... 5 more skipped: x.jsonl lists them");
        assert!(lines.rest(None).unwrap().contains("RUST_LOG=info"));
    }
}
