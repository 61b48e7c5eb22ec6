//! Checks of a run before its first stage starts and before anything is written.

use std::fs;
use std::path::Path;

use bpo_pairs::format::jsonl::read_pairs_with;

#[cfg(feature = "model")]
use crate::config::ChosenAnswer;
use crate::config::RunConfig;
use crate::error::BpoError;
use crate::judge::Prompts;
use crate::media::Media;

/// Checks what the stages of a run use besides the data and the model, and adds all errors to
/// `problems`: evaluation pairs, reference cache, training settings and prompt templates.
pub(crate) fn check(config: &RunConfig, problems: &mut Vec<BpoError>) {
    problems.extend(check_eval_pairs(config).err());
    problems.extend(check_cache(config).err());
    #[cfg(feature = "model")]
    problems.extend(check_training(config).err());
    problems.extend(check_text_model(config).err());
    if config.judges() {
        problems.extend(Prompts::new(&config.judge).err());
    }
}

/// Checks that the evaluation pairs can be read and are not empty.
fn check_eval_pairs(config: &RunConfig) -> Result<(), BpoError> {
    let Some(path) = &config.data.eval_pairs else { return Ok(()) };
    let set = read_pairs_with(path, &Media::of(config).read_options())?;
    if set.pairs.is_empty() { Err(BpoError::nothing(path, "pair", &set.skipped)) } else { Ok(()) }
}

/// Checks that the reference cache is a file or can be created.
fn check_cache(config: &RunConfig) -> Result<(), BpoError> {
    let Some(path) = &config.reference.cache else { return Ok(()) };
    let setting =
        |expected, found: String| Err(BpoError::Setting { key: "reference.cache".into(), expected, found });
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return setting("a file", format!("{}, which is not a file", path.display()));
        }
        #[cfg(feature = "model")]
        Ok(_) => bpo_dpo::LogpCache::check_file(path)?,
        #[cfg(not(feature = "model"))]
        Ok(_) => {}
        Err(_) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(parent) {
        Ok(there) if there.is_dir() && !there.permissions().readonly() => Ok(()),
        Ok(_) => setting("a file in a directory that can be written", path.display().to_string()),
        Err(_) => setting("a file in a directory that exists", path.display().to_string()),
    }
}

/// Checks that training has pairs to evaluate on if it needs them, and that `train.kind_weights`
/// names only kinds that a run makes.
#[cfg(feature = "model")]
fn check_training(config: &RunConfig) -> Result<(), BpoError> {
    use bpo_pairs::CompletionKind;

    let train = &config.train;
    let has_evaluations = train.eval_fraction > 0.0 || config.data.eval_pairs.is_some();
    if (train.keep_best.is_some() || train.patience.is_some()) && !has_evaluations {
        return Err(BpoError::NothingToEvaluate);
    }
    let is_made = |kind: &&CompletionKind| match kind {
        CompletionKind::ImageWeakened => true,
        CompletionKind::ErrorInjected => config.chosen.has_annotated(),
        CompletionKind::Own => matches!(config.chosen, ChosenAnswer::Revised | ChosenAnswer::Judged),
        _ => false,
    };
    match train.kind_weights.keys().find(|kind| !is_made(kind)) {
        Some(kind) => Err(BpoError::Setting {
            key: "train.kind_weights".into(),
            expected: "for kinds of rejected answers that the run makes: mllm-hal, llm-hal with annotated \
                       answers, own with `chosen = \"revised\"` or \"judged\"`",
            found: kind.to_string(),
        }),
        None => Ok(()),
    }
}

/// Checks the settings of the language model, if one rewrites the answers.
fn check_text_model(config: &RunConfig) -> Result<(), BpoError> {
    if !config.inject.has_llm() {
        return Ok(());
    }
    Ok(config.inject.llm.validate()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_together() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RunConfig::default();
        let problems = |config: &RunConfig| {
            let mut problems = Vec::new();
            check(config, &mut problems);
            problems
        };
        assert!(problems(&config).is_empty());
        config.data.eval_pairs = Some(dir.path().join("eval.jsonl"));
        config.reference.cache = Some(dir.path().join("no-such-directory/cache"));
        #[cfg(feature = "server")]
        {
            config.inject.server = Some(bpo_server::OpenAiConfig::new("http://h", "m"));
        }
        config.inject.llm.attempts = 0;
        let error = BpoError::all(problems(&config)).unwrap_err();
        let text = crate::error::chain(&error);
        for part in ["eval.jsonl", "`reference.cache`"] {
            assert!(text.contains(part), "{text}");
        }
        #[cfg(feature = "server")]
        assert!(text.contains("`inject.llm.attempts`"), "{text}");

        std::fs::write(dir.path().join("eval.jsonl"), "").unwrap();
        config.reference.cache = Some(dir.path().to_owned());
        let text = BpoError::all(problems(&config)).unwrap_err().to_string();
        assert!(text.contains("no pair") && text.contains("`reference.cache`"), "{text}");
    }
}
