//! Parts of error messages.

use std::path::Path;

use bpo_pairs::{SkipCounts, SkipReason, Untrusted, UntrustedPath};

use super::UnknownKey;
use crate::config::{Change, Missing};
use crate::hub::HubModel;
use crate::stage::Stage;

/// Describes what an output would overwrite: the output itself, or a file or directory written for
/// it.
pub(super) fn overwritten(given: &Path, written: &Path) -> String {
    if given == written { " it".to_owned() } else { format!(" {}", UntrustedPath(written)) }
}

/// Describes how to use a missing path as the name of a model on a hub, if it has the form of one.
pub(super) fn hub_name(path: &Path) -> String {
    let Some(model) = HubModel::of_path(path) else { return hub_form(path) };
    let remedy = if cfg!(feature = "hub") {
        "is downloaded with `Hub::fetch`"
    } else {
        "needs a program built with `--features hub`"
    };
    format!(" (if it is the name of a model on the Hugging Face Hub, {model} {remedy})")
}

/// Describes the form of a name on a hub, with the name that an address of the hub means.
fn hub_form(path: &Path) -> String {
    if !cfg!(feature = "hub") || path.symlink_metadata().is_ok() {
        return String::new();
    }
    // the path may have become absolute, and its slashes single
    let text = path.to_string_lossy().replace('\\', "/");
    let behind = |start: &&str| Some(text.split_once(start)?.1.trim_matches('/'));
    let meant = ["hf:/", "huggingface.co/"].iter().find_map(behind);
    let meant = meant.and_then(HubModel::parse).map(|model| format!(": {model}")).unwrap_or_default();
    format!(", or a model on the Hugging Face Hub as ORG/NAME or ORG/NAME@REVISION{meant}")
}

/// Describes unknown keys: one with all known keys, or several with a line for each.
pub(super) fn unknown(keys: &[UnknownKey], has_more: bool) -> String {
    let describe = |UnknownKey { line, column, key, nearest, .. }: &UnknownKey| {
        let place = format!("line {line}, column {column}: unknown key `{}`", Untrusted(key));
        // a key of the file itself in a table
        if key == nearest {
            return format!("{place} in a table: move it above the first `[table]` of the file");
        }
        format!("{place}: did you mean `{nearest}`?")
    };
    match keys {
        [key] if !has_more => format!("{} (known here: {})", describe(key), key.known.join(", ")),
        keys => {
            let lines: Vec<String> = keys.iter().map(|key| format!("\n{}", describe(key))).collect();
            let more = if has_more { "\nand more unknown keys" } else { "" };
            format!("unknown keys:{}{more}", lines.concat())
        }
    }
}

pub(super) fn counted(skipped: &SkipCounts) -> String {
    match skipped.total() {
        0 => "nothing skipped".to_owned(),
        total => format!("{total} skipped: {skipped}"),
    }
}

/// Says what to do if no reply of a judge could be used. No judgment was kept.
pub(super) fn nothing_answered(stage: Stage, skipped: &SkipCounts) -> &'static str {
    if stage != Stage::Judge {
        return "";
    }
    if skipped.get(SkipReason::JudgeUnclear) > 0 {
        "; change the prompt, `judge.max_new_tokens` or the model of the judge: the same command gets the same replies. \
         Nothing was kept, so --out can stay"
    } else {
        "; remove the cause, and give the same command again"
    }
}

/// Lists what is missing, and says where it can be given.
pub(super) fn not_set(missing: &[Missing]) -> String {
    let names = missing.iter().map(Missing::to_string).collect::<Vec<_>>().join(", ");
    let remedy = if missing.iter().all(|missing| missing.key.is_none()) {
        "Pass the flags"
    } else {
        "Set the keys in the settings file (--config), or pass the flags"
    };
    format!("{names}. {remedy}")
}

/// Describes the differences and the remedy.
pub(super) fn differences(settings: &[Change], inputs: &[Change]) -> String {
    let mut parts = Vec::new();
    if !settings.is_empty() {
        parts.push(format!("with other settings: {}", list(settings)));
    }
    if !inputs.is_empty() {
        parts.push(format!("from other input: {}", changed(inputs)));
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

/// Describes changed inputs by their settings. Fingerprints are left out, as they mean nothing to
/// users.
fn changed(inputs: &[Change]) -> String {
    let one = |change: &Change| {
        let name = match change.key.as_str() {
            "data" => "`data.path` (--data)",
            "model" => "`model.path` (--model)",
            "eval_pairs" => "`data.eval_pairs` (--eval-pairs)",
            "adapter" => "`model.adapter` (--adapter)",
            "reference" => "`reference.path`",
            "reference_adapter" => "`reference.adapter`",
            "inject_model" => "`inject.model` (--inject-model)",
            other => return format!("the {} changed", Untrusted(other)),
        };
        match (&change.old, &change.new) {
            (None, _) => format!("{name} was not set before"),
            (_, None) => format!("{name} is not set now"),
            _ => format!("the content of {name} changed"),
        }
    };
    inputs.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn list(changes: &[Change]) -> String {
    let one = |change: &Change| match change.key.as_str() {
        "data.images" => format!("{change} with other images"),
        _ => change.to_string(),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_may_be_a_name_on_a_hub() {
        let text = hub_name(Path::new("org/tiny@v1"));
        assert!(text.contains("org/tiny@v1") && text.contains("Hub"), "{text}");
        assert_eq!(hub_name(Path::new("src/error")), "");
        for path in ["tiny", "/models/tiny", "../a/b"] {
            assert!(!hub_name(Path::new(path)).contains(path), "{path}");
        }
    }
}
