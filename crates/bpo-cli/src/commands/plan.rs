//! The table of `bpo train --dry-run`.

use std::time::Duration;

use bpo::TrainingPlan;
use bpo::model::{BatchShape, Footprint};
use indicatif::{HumanBytes, HumanCount, HumanDuration};

use crate::progress::count;

/// A table of the memory, steps and time that training takes.
pub fn describe(plan: &TrainingPlan) -> String {
    let Footprint { trained, frozen, weights, gradients, optimizer, .. } = plan.footprint;
    let BatchShape { images, prompts, prompt_tokens, completions, completion_tokens, .. } = plan.longest;
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String, remark: String| {
        lines.push(format!("{name:<11}  {value:>15}  {remark}").trim_end().to_owned());
    };
    row("parameters", HumanCount(trained + frozen).to_string(), format!("{} trained", HumanCount(trained)));
    row("weights", HumanBytes(weights).to_string(), String::new());
    if plan.reference > 0 {
        row(
            "reference",
            HumanBytes(plan.reference).to_string(),
            "weights that the policy does not share".to_owned(),
        );
    }
    row("gradients", HumanBytes(gradients).to_string(), String::new());
    row("optimizer", HumanBytes(optimizer).to_string(), String::new());
    row(
        "activations",
        HumanBytes(plan.activations).to_string(),
        format!(
            "estimate for the longest batch: {}, {} of {prompt_tokens} tokens, {} of {completion_tokens}",
            count(images, "image", "images"),
            count(prompts, "prompt", "prompts"),
            count(completions, "answer", "answers")
        ),
    );
    row(
        "total",
        HumanBytes(plan.bytes()).to_string(),
        peak_memory().map_or_else(String::new, |peak| format!("peak of this process: {}", HumanBytes(peak))),
    );
    if plan.devices > 1 {
        let remark = "the sizes are those of the first; the others need no optimizer".to_owned();
        row("devices", plan.devices.to_string(), remark);
    }
    row(
        "pairs",
        HumanCount(plan.pairs as u64).to_string(),
        format!("{} to evaluate on, {} skipped", plan.eval_pairs, plan.skipped),
    );
    row("steps", HumanCount(plan.steps as u64).to_string(), String::new());
    if let Some(seconds) = plan.estimated_seconds() {
        let measured: Vec<String> = plan.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
        let reference =
            if plan.reference_in_steps { ", including the reference, which a cache will save" } else { "" };
        let time = HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)).to_string();
        row("time", time, format!("the first steps took {} s{reference}", measured.join(", ")));
    }
    lines.join("\n")
}

/// The peak resident memory of this process in bytes, on Linux.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
