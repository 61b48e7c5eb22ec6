//! `bpo quickstart --ablation`: each part of the method on its own, over several seeds.

use std::fmt::Write;
use std::path::Path;

use bpo::eval::Estimate;

use bpo_world::Split;

use super::arm::Arm;
use super::files::{create_dir, write, write_json};
use super::plot::{Dots, dots};
use super::summary::{MAIN_FIGURES, Summary};
use super::{Quickstart, Setting};
use crate::failure::Failure;
use crate::progress;

const ARMS: [Arm; 5] = [Arm::Sft, Arm::Weakened, Arm::Injected, Arm::AuthorsLoss, Arm::Bpo];

/// Runs each seed, with the base model that is given for it, in a directory of its own, and writes `report/ablation.{json,md,svg}`.
///
/// # Errors
/// What a run fails with.
pub fn run(out: &Path, seeds: &[(u64, Option<&Path>)], setting: Setting<'_>) -> Result<(), Failure> {
    let mut summaries = Vec::new();
    for &(seed, base) in seeds {
        progress::tell(&format!("\nseed {seed}"));
        let run = out.join(format!("seed-{seed}"));
        summaries.push(Quickstart { out: &run, seed, base, setting }.run(&ARMS)?);
    }
    let dir = out.join("report");
    create_dir(&dir)?;
    let table = table(&summaries, setting);
    progress::tell(&format!("\n{table}"));
    write_json(&dir.join("ablation.json"), &summaries)?;
    write(&dir.join("ablation.md"), table.as_bytes())?;
    write(&dir.join("ablation.svg"), plot(&summaries, setting.evaluated[0].name()).as_bytes())?;
    progress::tell(&format!("ablation: {}", dir.join("ablation.md").display()));
    Ok(())
}

/// The models in the order of the table: name in the summary, title.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let arms = ARMS.into_iter().map(|arm| match arm {
        Arm::Bpo => ("after", arm.title()),
        other => (other.name(), other.title()),
    });
    std::iter::once(("before", "no training")).chain(arms)
}

/// A figure with its interval, in percent.
fn figure(summary: &Summary, split: &str, model: &str, figure: &str) -> Option<[f64; 3]> {
    let Estimate { value, low, high } = summary.splits.get(split)?.models.get(model)?.get(figure);
    Some([value?, low?, high?].map(|value| 100.0 * value))
}

/// In Markdown: means over the seeds of the figure and of the ends of its interval, and each seed's figure behind them.
fn table(summaries: &[Summary], setting: Setting<'_>) -> String {
    let mut text = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string takes all");
    let splits = setting.evaluated.map(Split::name);
    for split in splits {
        put(format_args!("| {split}, % | {} |", MAIN_FIGURES.map(|(_, label)| label).join(" | ")));
        put(format_args!("|---|{}", "---|".repeat(MAIN_FIGURES.len())));
        for (model, title) in rows() {
            let cells = MAIN_FIGURES.map(|(name, _)| {
                let seeds: Vec<[f64; 3]> =
                    summaries.iter().filter_map(|summary| figure(summary, split, model, name)).collect();
                let mean =
                    |part: usize| seeds.iter().map(|seed| seed[part]).sum::<f64>() / seeds.len() as f64;
                let each: Vec<String> = seeds.iter().map(|[value, ..]| format!("{value:.1}")).collect();
                let interval = format!("{:.1} [{:.1}, {:.1}]", mean(0), mean(1), mean(2));
                match each.iter().any(|value| *value != each[0]) {
                    true => format!("{interval} ({})", each.join(" ")),
                    false if each.is_empty() => "-".to_owned(),
                    false => interval,
                }
            });
            put(format_args!("| {title} | {} |", cells.join(" | ")));
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
                    .filter_map(|summary| Some(figure(summary, split, model, name)?[0]))
                    .collect(),
            })
            .collect()
    };
    dots(
        "CHAIR_i and recall on the counter-world, a dot a seed",
        &[("CHAIR_i, % (less is better)", of("chair_i")), ("recall, % (more is better)", of("recall"))],
    )
}
