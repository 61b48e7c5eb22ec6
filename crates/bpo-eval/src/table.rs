//! Tables of reports as text.

use std::fmt::Write;

use crate::amber::{AmberKinds, AmberReport};
use crate::amber_captions::{AmberCaptionReport, AmberCaptionScores};
use crate::auc::{AucDifferences, AucReport};
use crate::bootstrap::Estimate;
use crate::chair::{ChairDifferences, ChairReport};
use crate::pope::{PopeDifferences, PopeReport};
use crate::ranking::{RankingDifferences, RankingReport};

/// A text table with a column per system and a row per metric. Shares are in percent, with their
/// intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl ReportTable {
    /// The CHAIR metrics of one or more systems.
    pub fn chair(systems: &[(&str, &ChairReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&ChairReport) -> String| {
            table.row(name, systems.iter().map(|(_, report)| cell(report)));
        };
        row("CHAIR_i", &|report| format_percent(&report.chair_i));
        row("CHAIR_s", &|report| format_percent(&report.chair_s));
        row("CHAIR_s, answers with objects", &|report| format_percent(&report.chair_s_naming));
        row("recall", &|report| format_percent(&report.recall));
        row("precision", &|report| format_percent(&report.precision));
        row("F1", &|report| format_percent(&report.f1));
        row("objects per answer", &|report| format_number(&report.objects));
        row("words per answer", &|report| format_number(&report.words));
        row("answers (no object)", &|report| format!("{} ({})", report.items, report.silent));
        table
    }

    /// The POPE metrics of one or more systems.
    pub fn pope(systems: &[(&str, &PopeReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&PopeReport) -> String| {
            table.row(name, systems.iter().map(|(_, report)| cell(report)));
        };
        row("accuracy", &|report| format_percent(&report.accuracy));
        row("precision", &|report| format_percent(&report.precision));
        row("recall", &|report| format_percent(&report.recall));
        row("F1", &|report| format_percent(&report.f1));
        row("yes ratio", &|report| format_percent(&report.yes_ratio));
        row("questions (unclear)", &|report| format!("{} ({})", report.items, report.unclear));
        table
    }

    /// The differences of one or more systems from another one. Shares are in points.
    pub fn chair_differences(systems: &[(&str, &ChairDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&ChairDifferences) -> String| {
            table.row(name, systems.iter().map(|(_, differences)| cell(differences)));
        };
        row("CHAIR_i", &|differences| format_points(&differences.chair_i));
        row("CHAIR_s", &|differences| format_points(&differences.chair_s));
        row("CHAIR_s, answers with objects", &|differences| format_points(&differences.chair_s_naming));
        row("recall", &|differences| format_points(&differences.recall));
        row("precision", &|differences| format_points(&differences.precision));
        row("F1", &|differences| format_points(&differences.f1));
        row("objects per answer", &|differences| format_difference(&differences.objects));
        row("words per answer", &|differences| format_difference(&differences.words));
        table
    }

    /// The differences of one or more systems from another one, in points.
    pub fn pope_differences(systems: &[(&str, &PopeDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&PopeDifferences) -> String| {
            table.row(name, systems.iter().map(|(_, differences)| cell(differences)));
        };
        row("accuracy", &|differences| format_points(&differences.accuracy));
        row("precision", &|differences| format_points(&differences.precision));
        row("recall", &|differences| format_points(&differences.recall));
        row("F1", &|differences| format_points(&differences.f1));
        row("yes ratio", &|differences| format_points(&differences.yes_ratio));
        table
    }

    /// The AMBER metrics of one or more systems. A kind without questions has no rows.
    pub fn amber(systems: &[(&str, &AmberReport)]) -> Self {
        let kinds: Vec<_> = systems.iter().map(|(name, report)| (*name, &report.kinds)).collect();
        let mut table = Self::amber_rows(&kinds, format_percent);
        let counts = systems.iter().map(|(_, report)| format!("{} ({})", report.items, report.unclear));
        table.row("questions (unclear)", counts);
        table
    }

    /// The differences of one or more systems from another one, in points.
    pub fn amber_differences(systems: &[(&str, &AmberKinds)]) -> Self {
        Self::amber_rows(systems, format_points)
    }

    /// The metrics of descriptions of one or more systems in AMBER's generative task.
    pub fn amber_captions(systems: &[(&str, &AmberCaptionReport)]) -> Self {
        let scores: Vec<_> = systems.iter().map(|(name, report)| (*name, &report.scores)).collect();
        let mut table = Self::caption_rows(&scores, format_percent);
        let counts = systems.iter().map(|(_, report)| format!("{} ({})", report.items, report.silent));
        table.row("answers (no known noun)", counts);
        table
    }

    /// The differences of one or more systems from another one in the generative task, in points.
    pub fn amber_caption_differences(systems: &[(&str, &AmberCaptionScores)]) -> Self {
        Self::caption_rows(systems, format_points)
    }

    fn caption_rows(systems: &[(&str, &AmberCaptionScores)], format: fn(&Estimate) -> String) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let Some((_, first)) = systems.first() else { return table };
        for (place, (metric, _)) in first.metrics().into_iter().enumerate() {
            table.row(metric, systems.iter().map(|(_, scores)| format(scores.metrics()[place].1)));
        }
        table
    }

    fn amber_rows(systems: &[(&str, &AmberKinds)], format: fn(&Estimate) -> String) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let Some((_, first)) = systems.first() else { return table };
        for (kind, scores) in first.iter() {
            for (place, (metric, _)) in scores.metrics().into_iter().enumerate() {
                let cell = |kinds: &AmberKinds| {
                    let found = kinds.iter().find(|(name, _)| *name == kind);
                    found.map_or_else(|| "-".to_owned(), |(_, scores)| format(scores.metrics()[place].1))
                };
                table.row(&format!("{kind} {metric}"), systems.iter().map(|(_, kinds)| cell(kinds)));
            }
        }
        table
    }

    /// The metrics of ranked lists of one or more systems. All must have the same `k`.
    pub fn ranking(systems: &[(&str, &RankingReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let k = systems.first().map_or(0, |(_, report)| report.k);
        let mut row = |name: &str, cell: &dyn Fn(&RankingReport) -> String| {
            table.row(name, systems.iter().map(|(_, report)| cell(report)));
        };
        row(&format!("HR@{k}"), &|report| format_percent(&report.hit_rate));
        row(&format!("NDCG@{k}"), &|report| format_percent(&report.ndcg));
        row("lists (empty)", &|report| format!("{} ({})", report.items, report.empty));
        table
    }

    /// The differences of one or more systems from another one, in points.
    pub fn ranking_differences(systems: &[(&str, &RankingDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let k = systems.first().map_or(0, |(_, differences)| differences.k);
        let mut row = |name: &str, cell: &dyn Fn(&RankingDifferences) -> String| {
            table.row(name, systems.iter().map(|(_, differences)| cell(differences)));
        };
        row(&format!("HR@{k}"), &|differences| format_points(&differences.hit_rate));
        row(&format!("NDCG@{k}"), &|differences| format_points(&differences.ndcg));
        table
    }

    /// The AUC of one or more systems.
    pub fn auc(systems: &[(&str, &AucReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        table.row("AUC", systems.iter().map(|(_, report)| format_percent(&report.auc)));
        let counts = systems.iter().map(|(_, report)| format!("{} ({})", report.items, report.unclear));
        table.row("questions (unclear)", counts);
        table
    }

    /// The differences of one or more systems from another one, in points.
    pub fn auc_differences(systems: &[(&str, &AucDifferences)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        table.row("AUC", systems.iter().map(|(_, differences)| format_points(&differences.auc)));
        table
    }

    /// An empty table with these columns, after the column of row names.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let header = std::iter::once("").chain(columns).map(str::to_owned).collect();
        Self { header, rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
}

impl std::fmt::Display for ReportTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = || std::iter::once(&self.header).chain(&self.rows);
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max())
            .map(|width| width.unwrap_or(0))
            .collect();
        for line in lines() {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(text, "{cell:<width$}"),
                    _ => write!(text, "  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Formats a share as `29.8 % [27.1, 32.5]`.
pub fn format_percent(estimate: &Estimate) -> String {
    show(estimate, 100.0, " %", 1)
}

/// Formats a number as `3.1 [2.9, 3.3]`.
pub fn format_number(estimate: &Estimate) -> String {
    show(estimate, 1.0, "", 1)
}

/// Formats a difference of shares in points as `-2.1 [-3.4, -0.9]`.
pub fn format_points(estimate: &Estimate) -> String {
    show_signed(estimate, 100.0, 1)
}

/// Formats a difference of numbers as `+0.4 [+0.1, +0.7]`.
pub fn format_difference(estimate: &Estimate) -> String {
    show_signed(estimate, 1.0, 1)
}

/// Formats a difference with a number of decimals.
pub(crate) fn show_signed(estimate: &Estimate, factor: f64, digits: usize) -> String {
    let Estimate { value: Some(value), low, high } = estimate else { return "-".to_owned() };
    let shown = format!("{:+.digits$}", factor * value);
    match (low, high) {
        (Some(low), Some(high)) => {
            format!("{shown} [{:+.digits$}, {:+.digits$}]", factor * low, factor * high)
        }
        _ => shown,
    }
}

/// Formats a value with a number of decimals and a unit.
pub(crate) fn show(estimate: &Estimate, factor: f64, unit: &str, digits: usize) -> String {
    let Estimate { value: Some(value), low, high } = estimate else { return "-".to_owned() };
    let shown = format!("{:.digits$}{unit}", factor * value);
    match (low, high) {
        (Some(low), Some(high)) => format!("{shown} [{:.digits$}, {:.digits$}]", factor * low, factor * high),
        _ => shown,
    }
}
