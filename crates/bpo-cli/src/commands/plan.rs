//! What `bpo train --dry-run` tells.

use bpo::TrainingPlan;
use bpo::model::memory::{BatchShape, Footprint};

/// The plan of a training, for people.
pub fn describe(plan: &TrainingPlan) -> String {
    let Footprint { trained, frozen, weights, gradients, optimizer, .. } = plan.footprint;
    let BatchShape { images, prompts, prompt_tokens, completions, completion_tokens, .. } = plan.longest;
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String, remark: String| {
        lines.push(format!("{name:<11}  {value:>15}  {remark}").trim_end().to_owned());
    };
    row("parameters", grouped(trained + frozen), format!("{} of them trained", grouped(trained)));
    row("weights", bytes(weights), String::new());
    if plan.reference > 0 {
        row("reference", bytes(plan.reference), "what it does not share with the policy".to_owned());
    }
    row("gradients", bytes(gradients), String::new());
    row("optimizer", bytes(optimizer), String::new());
    row(
        "activations",
        bytes(plan.activations),
        format!(
            "estimate for the longest batch: {images} images, {prompts} prompts of {prompt_tokens} tokens, {completions} answers of \
             {completion_tokens}"
        ),
    );
    row(
        "in all",
        bytes(plan.bytes()),
        peak().map_or_else(String::new, |peak| format!("this process held {}", bytes(peak))),
    );
    row(
        "pairs",
        grouped(plan.pairs as u64),
        format!("{} to evaluate on, {} skipped", plan.eval_pairs, plan.skipped),
    );
    row("steps", grouped(plan.steps as u64), String::new());
    if let Some(seconds) = plan.estimated_seconds() {
        let made: Vec<String> = plan.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
        let reference =
            if plan.reference_in_steps { ", with the reference that a cache will spare" } else { "" };
        row("time", time(seconds), format!("the first steps took {} s{reference}", made.join(", ")));
    }
    lines.join("\n")
}

/// `7,063,427,072`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// The most memory that this process has held, in bytes, where the system tells (Linux).
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([7, 512, 1024, 7_063_427_072].map(grouped), ["7", "512", "1,024", "7,063,427,072"]);
        assert_eq!([999, 1500, 28_300_000_000].map(bytes), ["999 B", "1.5 kB", "28.3 GB"]);
        assert_eq!([0.25, 61.0, 7260.0].map(time), ["0.2 s", "1 min 1 s", "2 h 1 min"]);
    }
}
