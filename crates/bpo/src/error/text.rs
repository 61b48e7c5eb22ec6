//! Parts of error messages.

use std::path::Path;

use bpo_pairs::{SkipCounts, UntrustedPath};

use crate::config::Change;

/// Describes what an output would overwrite: the output itself, or a file or directory written for
/// it.
pub(super) fn overwritten(given: &Path, written: &Path) -> String {
    if given == written { " it".to_owned() } else { format!(" {}", UntrustedPath(written)) }
}

pub(super) fn counted(skipped: &SkipCounts) -> String {
    match skipped.total() {
        0 => "nothing skipped".to_owned(),
        total => format!("{total} skipped: {skipped}"),
    }
}

/// Describes the differences and the remedy.
pub(super) fn differences(settings: &[Change], inputs: &[Change]) -> String {
    let mut parts = Vec::new();
    if !settings.is_empty() {
        parts.push(format!("with other settings: {}", list(settings)));
    }
    if !inputs.is_empty() {
        parts.push(format!("from other input: {} changed", names(inputs)));
    }
    let remedy = if inputs.is_empty() {
        "Restore the settings to continue it"
    } else if settings.is_empty() {
        "Restore the input to continue it"
    } else {
        "Restore the settings and inputs to continue it"
    };
    format!("{}. {remedy}, or give another --out to start again", parts.join(", and "))
}

/// Names inputs by their settings. Fingerprints are left out, as they mean nothing to users.
fn names(inputs: &[Change]) -> String {
    let name = |change: &Change| match change.key.as_str() {
        "data" => "the content of `data.path` (--data)".to_owned(),
        "model" => "the content of `model.path` (--model)".to_owned(),
        "eval_pairs" => "the content of `data.eval_pairs` (--eval-pairs)".to_owned(),
        "adapter" => "the content of `model.adapter` (--adapter)".to_owned(),
        "reference" => "the content of `reference.path`".to_owned(),
        "reference_adapter" => "the content of `reference.adapter`".to_owned(),
        other => format!("the {other}"),
    };
    inputs.iter().map(name).collect::<Vec<_>>().join(" and ")
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(Change::to_string).collect::<Vec<_>>().join(", ")
}
