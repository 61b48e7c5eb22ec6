//! Lines about skipped records: a few of them, then a count.

use std::collections::HashSet;
use std::path::Path;

use bpo::pairs::{RecordKey, SkipCounts, Skipped, Untrusted};
use bpo::stages::{StageFile, StageOutcome, StageRecord};
use bpo::{BpoError, Stage, StageLedger};

#[cfg(feature = "model")]
use crate::failure::Failure;
use crate::progress::count;
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

/// The answers that earlier commands have skipped, according to the file of a stage.
#[derive(Debug)]
pub struct SkippedBefore(HashSet<RecordKey>);

impl SkippedBefore {
    /// Reads them from the file. With `retries`, those whose reason can change are removed from it,
    /// so that the stage makes them again.
    ///
    /// # Errors
    /// Returns an error if the file or its manifest cannot be written.
    pub fn of(
        ledger: &mut StageLedger,
        stage: Stage,
        file: &mut StageFile,
        retries: bool,
    ) -> Result<Self, BpoError> {
        if retries {
            let count = count(ledger.retry_skipped(stage, file)?, "skipped answer", "skipped answers");
            print_line(&format!("{stage}: {count} to try again"));
        }
        let records = file.answers().records();
        let skipped = records.filter(|record| matches!(record, StageRecord::Skipped { .. }));
        Ok(Self(skipped.map(RecordKey::of).collect()))
    }

    /// Prints the answers that a finished stage has skipped, the number of earlier ones, and how to
    /// try them again. `file` lists all of them.
    pub fn print(&self, outcome: &StageOutcome, file: &Path) {
        let is_earlier = |skipped: &Skipped| self.0.contains(&RecordKey::new(&skipped.id, skipped.variant));
        let (earlier, new): (Vec<_>, Vec<_>) = outcome.skipped.iter().cloned().partition(is_earlier);
        print_skipped(&new, Some(file));
        if !earlier.is_empty() {
            let counts: SkipCounts = earlier.iter().collect();
            let answers = count(earlier.len(), "answer", "answers");
            print_line(&format!(
                "skipped by an earlier command: {answers} ({counts}); {} lists them",
                file.display()
            ));
        }
        let retryable = outcome.skipped.iter().filter(|skipped| skipped.reason.may_change()).count();
        if retryable > 0 {
            let (answers, cause) = match retryable {
                1 => ("1 skipped answer".to_owned(), "its cause is"),
                _ => (count(retryable, "", "skipped answers"), "their causes are"),
            };
            print_line(&format!(
                "to try {answers} again after {cause} removed, add --retry-skipped to the same command"
            ));
        }
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
