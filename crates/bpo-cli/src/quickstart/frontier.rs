//! The trade-off between fewer hallucinations in the counterfactual world and recall in the usual one.

use std::fmt::Write;

use super::ablation::{metric, rows};
use super::scatter::{Axis, Point, scatter};
use super::summary::Summary;

/// What a training changes of the base model: means over the seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The title of the training.
    pub title: &'static str,
    /// Relative change of CHAIR_i in the counterfactual world, in percent.
    pub chair_i: f64,
    /// Change of recall in the usual world, in points.
    pub recall: f64,
    /// Change of the share of right yes-or-no answers in the counterfactual world, in points.
    pub yes_no: f64,
    /// Whether each other training with a lower CHAIR_i has a lower recall, and each with a higher recall a
    /// higher CHAIR_i.
    pub on_frontier: bool,
}

/// Returns the changes of all trainings from the base model of the same seed. A training without a
/// finite change is left out.
pub fn changes(summaries: &[Summary], [counter, usual]: [&str; 2]) -> Vec<Change> {
    let mean = |split: &str, model: &str, name: &str, change: fn(f64, f64) -> f64| -> Option<f64> {
        let of = |summary: &Summary| -> Option<f64> {
            let [before, after] = ["before", model].map(|model| metric(summary, split, model, name));
            Some(change(before?[0], after?[0]))
        };
        let each: Vec<f64> = summaries.iter().map(of).collect::<Option<_>>()?;
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        mean.is_finite().then_some(mean)
    };
    let points = |before: f64, after: f64| after - before;
    let percent = |before: f64, after: f64| 100.0 * (after / before - 1.0);
    let of = |(model, title): (&'static str, &'static str)| {
        Some(Change {
            title,
            chair_i: mean(counter, model, "chair_i", percent)?,
            recall: mean(usual, model, "recall", points)?,
            yes_no: mean(counter, model, "yes_no_accuracy", points)?,
            on_frontier: false,
        })
    };
    with_frontier(rows().filter(|(model, _)| *model != "before").filter_map(of).collect())
}

/// Marks the changes that no other is better than in one of both without being worse in the other.
fn with_frontier(mut changes: Vec<Change>) -> Vec<Change> {
    let all = changes.clone();
    for change in &mut changes {
        change.on_frontier = !all.iter().any(|other| {
            let no_worse = other.chair_i <= change.chair_i && other.recall >= change.recall;
            no_worse && (other.chair_i, other.recall) != (change.chair_i, change.recall)
        });
    }
    changes
}

/// The changes as a table in Markdown.
pub fn table(changes: &[Change], [counter, usual]: [&str; 2]) -> String {
    let mut text = format!(
        "| changes from no training | CHAIR_i, {counter}, % | recall, {usual}, points | yes/no, {counter}, points \
         | on the frontier |\n|---|---|---|---|---|\n"
    );
    for Change { title, chair_i, recall, yes_no, on_frontier } in changes {
        let on = if *on_frontier { "yes" } else { "" };
        writeln!(text, "| {title} | {chair_i:+.0} | {recall:+.1} | {yes_no:+.1} | {on} |")
            .expect("writing to a string cannot fail");
    }
    text
}

/// The changes as a chart.
pub fn plot(changes: &[Change]) -> String {
    let points: Vec<Point<'_>> = changes
        .iter()
        .map(|change| Point {
            name: change.title,
            at: [change.chair_i, change.recall],
            on_line: change.on_frontier,
        })
        .collect();
    scatter(
        "CHAIR_i in the counterfactual world and recall in the usual world, means over the seeds",
        [
            Axis { label: "change of CHAIR_i, %", low: -75.0, high: 5.0, step: 10.0 },
            Axis { label: "change of recall, points", low: -4.0, high: 0.5, step: 0.5 },
        ],
        &points,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(title: &'static str, chair_i: f64, recall: f64) -> Change {
        Change { title, chair_i, recall, yes_no: 0.0, on_frontier: false }
    }

    #[test]
    fn the_frontier_has_what_nothing_is_better_than() {
        let changes = with_frontier(vec![
            change("most", -60.0, -3.0),
            change("worse than least in both", -10.0, -0.5),
            change("least", -20.0, -0.2),
            change("same as least", -20.0, -0.2),
            change("as few, less recall", -60.0, -3.5),
        ]);
        let on: Vec<&str> =
            changes.iter().filter(|change| change.on_frontier).map(|change| change.title).collect();
        assert_eq!(on, ["most", "least", "same as least"]);
        let table = table(&changes, ["counter", "held-out"]);
        assert!(table.contains("| most | -60 | -3.0 | +0.0 | yes |\n"), "{table}");
    }
}
