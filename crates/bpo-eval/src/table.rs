//! Reports side by side, for people.

use std::fmt::Write;

use crate::bootstrap::Estimate;
use crate::chair::ChairReport;
use crate::pope::PopeReport;

/// A table of a column a system and a row a figure; shares in percent, each with its interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The figures of CHAIR of one or more systems.
    pub fn chair(systems: &[(&str, &ChairReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&ChairReport) -> String| {
            table.row(name, systems.iter().map(|(_, report)| cell(report)));
        };
        row("CHAIR_i", &|report| percent(&report.chair_i));
        row("CHAIR_s", &|report| percent(&report.chair_s));
        row("recall", &|report| percent(&report.recall));
        row("precision", &|report| percent(&report.precision));
        row("F1", &|report| percent(&report.f1));
        row("objects an answer", &|report| number(&report.objects));
        row("words an answer", &|report| number(&report.words));
        row("answers (silent)", &|report| format!("{} ({})", report.items, report.silent));
        table
    }

    /// The figures of POPE of one or more systems.
    pub fn pope(systems: &[(&str, &PopeReport)]) -> Self {
        let mut table = Self::new(systems.iter().map(|(name, _)| *name));
        let mut row = |name: &str, cell: &dyn Fn(&PopeReport) -> String| {
            table.row(name, systems.iter().map(|(_, report)| cell(report)));
        };
        row("accuracy", &|report| percent(&report.accuracy));
        row("precision", &|report| percent(&report.precision));
        row("recall", &|report| percent(&report.recall));
        row("F1", &|report| percent(&report.f1));
        row("answers yes", &|report| percent(&report.yes_ratio));
        row("questions (unclear)", &|report| format!("{} ({})", report.items, report.unclear));
        table
    }

    /// A table with a column for each name, besides that of the rows' names.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>) -> Self {
        let header = std::iter::once("").chain(columns).map(str::to_owned).collect();
        Self { header, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
}

impl std::fmt::Display for Table {
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

/// A share as `29.8 % [27.1, 32.5]`.
pub fn percent(estimate: &Estimate) -> String {
    show(estimate, 100.0, " %")
}

/// A number as `3.1 [2.9, 3.3]`.
pub fn number(estimate: &Estimate) -> String {
    show(estimate, 1.0, "")
}

fn show(estimate: &Estimate, factor: f64, unit: &str) -> String {
    let Estimate { value: Some(value), low, high } = estimate else { return "-".to_owned() };
    let shown = format!("{:.1}{unit}", factor * value);
    match (low, high) {
        (Some(low), Some(high)) => format!("{shown} [{:.1}, {:.1}]", factor * low, factor * high),
        _ => shown,
    }
}
