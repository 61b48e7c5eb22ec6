//! Tables of graded answers.

use crate::bootstrap::Estimate;
use crate::mm_vet::{MmVetDifference, MmVetDifferences, MmVetReport, MmVetScore};
use crate::mmhal::{MmhalDifferences, MmhalReport, MmhalScore};
use crate::table::{ReportTable, format_percent, format_points, show, show_signed};

/// Comes before the name of a combination of capabilities, which may be a single one.
const EXACTLY: &str = "exactly ";

impl ReportTable {
    /// The scores of one or more systems in MM-Vet, in percent, with the published rounding.
    pub fn mm_vet(systems: &[(&str, &MmVetReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let parts = |of: fn(&MmVetReport) -> &[MmVetScore]| -> Vec<Vec<(&str, String)>> {
            let cells =
                |report| of(report).iter().map(|score| (score.name.as_str(), percent(score))).collect();
            systems.iter().map(|(_, report)| cells(report)).collect()
        };
        table.named("", &parts(|report| std::slice::from_ref(&report.total)));
        table.named("", &parts(|report| &report.capabilities));
        table.named(EXACTLY, &parts(|report| &report.combinations));
        if systems.iter().any(|(_, report)| report.runs.len() > 1) {
            let spread = |report: &MmVetReport| {
                let runs: Vec<String> = report.runs.iter().map(|run| format!("{run:.1}")).collect();
                report.std.map_or_else(|| "-".to_owned(), |std| format!("{std:.1} ({})", runs.join(", ")))
            };
            table.row("std (runs)", systems.iter().map(|(_, report)| spread(report)));
        }
        let counts =
            systems.iter().map(|(_, report)| format!("{} ({})", report.items, report.ungraded.len()));
        table.row("answers (ungraded)", counts);
        table
    }

    /// The differences of one or more systems from another one in MM-Vet, in points.
    pub fn mm_vet_differences(systems: &[(&str, &MmVetDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let parts = |of: fn(&MmVetDifferences) -> &[MmVetDifference]| -> Vec<Vec<(&str, String)>> {
            let cell = |found: &'_ MmVetDifference| format_points(&found.score);
            let cells = |all| of(all).iter().map(|found| (found.name.as_str(), cell(found))).collect();
            systems.iter().map(|(_, differences)| cells(differences)).collect()
        };
        table.named("", &parts(|differences| std::slice::from_ref(&differences.total)));
        table.named("", &parts(|differences| &differences.capabilities));
        table.named(EXACTLY, &parts(|differences| &differences.combinations));
        table
    }

    /// The ratings of one or more systems in MMHal-Bench, from 0 to 6, and the share of answers with a
    /// hallucination.
    pub fn mmhal(systems: &[(&str, &MmhalReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let number = |estimate: &Estimate| show(estimate, 1.0, "", 2);
        table.row("score", systems.iter().map(|(_, report)| number(&report.score)));
        let rates = systems.iter().map(|(_, report)| number(&report.hallucination_rate));
        table.row("hallucination rate", rates);
        table.named("", &kinds(systems.iter().map(|(_, report)| report.kinds.as_slice()), number));
        let counts =
            systems.iter().map(|(_, report)| format!("{} ({})", report.items, report.ungraded.len()));
        table.row("answers (ungraded)", counts);
        table
    }

    /// The differences of one or more systems from another one in MMHal-Bench.
    pub fn mmhal_differences(systems: &[(&str, &MmhalDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let number = |estimate: &Estimate| show_signed(estimate, 1.0, 2);
        table.row("score", systems.iter().map(|(_, differences)| number(&differences.score)));
        let rates = systems.iter().map(|(_, differences)| format_points(&differences.hallucination_rate));
        table.row("hallucination rate", rates);
        let all = systems.iter().map(|(_, differences)| differences.kinds.as_slice());
        table.named("", &kinds(all, number));
        table
    }

    /// Adds a row for each name of the first system. `systems` has the names of each system with their
    /// cells.
    fn named(&mut self, before: &str, systems: &[Vec<(&str, String)>]) {
        for (name, _) in systems.first().into_iter().flatten() {
            let cell = |cells: &Vec<(&str, String)>| {
                let found = cells.iter().find(|(other, _)| other == name);
                found.map_or_else(|| "-".to_owned(), |(_, cell)| cell.clone())
            };
            self.row(&format!("{before}{name}"), systems.iter().map(cell));
        }
    }
}

/// The names of the kinds of questions with their cells, for each system.
fn kinds<'a>(
    systems: impl Iterator<Item = &'a [MmhalScore]>,
    format: fn(&Estimate) -> String,
) -> Vec<Vec<(&'static str, String)>> {
    let cells = |kinds: &[MmhalScore]| {
        kinds.iter().map(|score| (score.kind.as_str(), format(&score.score))).collect()
    };
    systems.map(cells).collect()
}

/// The published figure with its interval.
fn percent(score: &MmVetScore) -> String {
    let value = score.published.map(|published| published / 100.0);
    format_percent(&Estimate { value, ..score.score })
}
