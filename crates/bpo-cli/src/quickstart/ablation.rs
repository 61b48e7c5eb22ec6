//! `bpo quickstart --ablation`: each part of the method alone, and its extensions, over several seeds.

use std::fmt::Write;
use std::path::Path;

use bpo::eval::{ChairDifferences, Estimate};

use bpo_world::Split;

use super::files::{create_dir, write, write_json};
use super::frontier;
use super::plot::{Dots, dots};
use super::summary::{MAIN_METRICS, Summary};
use super::variant::Variant;
use super::{Quickstart, Setting};
use crate::failure::Failure;
use crate::terminal::{print_line, print_lines};

/// Runs each seed, with its base model, in a directory of its own, and writes
/// `report/ablation.{json,md,svg}` and `report/frontier.svg`.
///
/// # Errors
/// Returns an error if a run fails, or a file cannot be written.
pub fn run(out: &Path, seeds: &[(u64, Option<&Path>)], setting: Setting<'_>) -> Result<(), Failure> {
    let mut summaries = Vec::new();
    for &(seed, base) in seeds {
        print_lines(&format!("\nseed {seed}"));
        let run = out.join(format!("seed-{seed}"));
        summaries.push(Quickstart { out: &run, seed, base, setting }.run(&Variant::ALL)?);
    }
    let dir = out.join("report");
    create_dir(&dir)?;
    let splits = setting.evaluated.map(Split::name);
    let changes = frontier::changes(&summaries, splits);
    let table = format!("{}\n{}", frontier::table(&changes, splits), table(&summaries, splits));
    print_lines(&format!("\n{table}"));
    write_json(&dir.join("ablation.json"), &summaries)?;
    write(&dir.join("ablation.md"), table.as_bytes())?;
    write(&dir.join("ablation.svg"), plot(&summaries, splits[0]).as_bytes())?;
    write(&dir.join("frontier.svg"), frontier::plot(&changes).as_bytes())?;
    print_line(&format!("ablation: {}", dir.join("ablation.md").display()));
    Ok(())
}

/// The models in the order of the table: name in the summary, and title.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let variants = Variant::ALL.into_iter().map(|variant| match variant {
        Variant::Bpo => ("after", variant.title()),
        other => (other.name(), other.title()),
    });
    std::iter::once(("before", "no training")).chain(variants)
}

/// A metric with its interval, in percent.
pub fn metric(summary: &Summary, split: &str, model: &str, name: &str) -> Option<[f64; 3]> {
    let Estimate { value, low, high } = summary.splits.get(split)?.models.get(model)?.get(name);
    Some([value?, low?, high?].map(|value| 100.0 * value))
}

/// The tables in Markdown: for each metric the means over the seeds of its value and of the ends of
/// its interval, followed by the values of each seed; and the paired differences of each seed from BPO.
fn table(summaries: &[Summary], splits: [&str; 2]) -> String {
    let mut text = String::new();
    let mut put =
        |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a string cannot fail");
    for split in splits {
        put(format_args!("| {split}, % | {} |", MAIN_METRICS.map(|(_, label)| label).join(" | ")));
        put(format_args!("|---|{}", "---|".repeat(MAIN_METRICS.len())));
        for (model, title) in rows() {
            let cells = MAIN_METRICS.map(|(name, _)| {
                let seeds: Vec<[f64; 3]> =
                    summaries.iter().filter_map(|summary| metric(summary, split, model, name)).collect();
                let mean =
                    |part: usize| seeds.iter().map(|seed| seed[part]).sum::<f64>() / seeds.len() as f64;
                let each: Vec<String> = seeds.iter().map(|[value, ..]| format!("{value:.1}")).collect();
                let interval = format!("{:.1} [{:.1}, {:.1}]", mean(0), mean(1), mean(2));
                if each.is_empty() {
                    "-".to_owned()
                } else if each.iter().all(|value| *value == each[0]) {
                    interval
                } else {
                    format!("{interval} ({})", each.join(" "))
                }
            });
            put(format_args!("| {title} | {} |", cells.join(" | ")));
        }
        put(format_args!(""));
        put(format_args!("| {split}, differences from BPO in points | CHAIR_i | recall |"));
        put(format_args!("|---|---|---|"));
        for (model, title) in rows().filter(|(model, _)| *model != "after") {
            let of = |pick: fn(&ChairDifferences) -> Estimate| {
                let seeds = summaries.iter().filter_map(|summary| {
                    let Estimate { value, low, high } =
                        pick(summary.splits.get(split)?.differences.get(model)?);
                    Some([value?, low?, high?].map(|value| 100.0 * value))
                });
                let each: Vec<String> =
                    seeds.map(|[value, low, high]| format!("{value:+.1} [{low:+.1}, {high:+.1}]")).collect();
                each.join(", ")
            };
            put(format_args!(
                "| {title} | {} | {} |",
                of(|differences| differences.chair_i),
                of(|differences| differences.recall)
            ));
        }
        put(format_args!(""));
    }
    text
}

fn plot(summaries: &[Summary], split: &str) -> String {
    let of = |name: &str| -> Vec<Dots<'static>> {
        rows()
            .map(|(model, title)| Dots {
                name: title,
                values: summaries
                    .iter()
                    .filter_map(|summary| Some(metric(summary, split, model, name)?[0]))
                    .collect(),
            })
            .collect()
    };
    dots(
        "CHAIR_i and recall on the counterfactual images, one dot per seed",
        &[("CHAIR_i, % (lower is better)", of("chair_i")), ("recall, % (higher is better)", of("recall"))],
    )
}
