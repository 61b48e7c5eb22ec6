//! Checks of answer files before they are used together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use bpo_pairs::{Fingerprint, Untrusted, UntrustedPath};

use super::differences::Differences;
use super::files::{ChangedFile, Place};
use super::manifest::{Manifest, StageEntry};
use super::manifest_beside;
use crate::config::{Change, ChosenAnswer, RunConfig, stage_settings};
use crate::error::BpoError;
use crate::stage::Stage;
use crate::stages::Shard;

/// A reason why answer files do not belong together or to the data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerProblem {
    /// A file was made from other annotated data.
    OtherData {
        /// The file.
        path: PathBuf,
    },
    /// The stage that makes a file is not finished.
    Unfinished {
        /// The file.
        path: PathBuf,
        /// The stage.
        stage: Stage,
    },
    /// A file was changed after its stage had finished.
    Changed(ChangedFile),
    /// Two files of one stage were made with other settings or from other inputs.
    Differ {
        /// The file that the other one is compared with.
        first: PathBuf,
        /// The other file.
        path: PathBuf,
        /// The settings and inputs that differ: `old` in the first file, `new` in the other one.
        changes: Vec<Change>,
    },
    /// A file was made without the model's own answers, of which pairs are to be made.
    NoOwn {
        /// The file.
        path: PathBuf,
        /// The chosen answers of the pairs.
        chosen: ChosenAnswer,
    },
    /// The scores of a file are of another method or scale than those that the pairs are made by.
    OtherScores {
        /// The file.
        path: PathBuf,
        /// The settings that differ: `old` in the file, `new` in the settings of the pairs.
        changes: Vec<Change>,
    },
    /// A file has no scores of a judge, on which the pairs depend.
    NotJudged {
        /// The file.
        path: PathBuf,
    },
    /// Shards of a stage are missing.
    MissingShards {
        /// The stage.
        stage: Stage,
        /// The missing shards.
        missing: Vec<String>,
    },
}

impl fmt::Display for AnswerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherData { path } => {
                write!(f, "{} was made from other data than `data.path` (--data)", UntrustedPath(path))
            }
            Self::Unfinished { path, stage } => {
                write!(f, "{} is not finished: run `bpo {stage}` again", UntrustedPath(path))
            }
            Self::Changed(file) => {
                write!(
                    f,
                    "{file}: restore it, or run `bpo {}` again, which makes missing answers",
                    file.stage
                )
            }
            Self::Differ { first, path, changes } => {
                let changes: Vec<String> = changes.iter().map(in_words).collect();
                write!(
                    f,
                    "{} and {} were made with other settings or from other inputs: {}",
                    UntrustedPath(first),
                    UntrustedPath(path),
                    changes.join(", ")
                )
            }
            Self::NoOwn { path, chosen } => write!(
                f,
                "{} has no own answers of the model: make it with `bpo weaken --chosen {chosen}`",
                UntrustedPath(path)
            ),
            Self::OtherScores { path, changes } => {
                let changes: Vec<String> = changes.iter().map(in_words).collect();
                write!(
                    f,
                    "the scores of {} are not those of the settings: {} here; give the settings file of the judge (--config)",
                    UntrustedPath(path),
                    changes.join(", ")
                )
            }
            Self::NotJudged { path } => {
                write!(f, "{} has no scores: give the file that `bpo judge` makes of it", UntrustedPath(path))
            }
            Self::MissingShards { stage, missing } => {
                let (shards, are, files) = match missing.len() {
                    1 => ("shard", "is", "its file"),
                    _ => ("shards", "are", "their files"),
                };
                let missing = missing.join(", ");
                write!(f, "{shards} {missing} of `bpo {stage}` {are} missing: give {files} too")
            }
        }
    }
}

/// Describes a difference between two files.
fn in_words(change: &Change) -> String {
    let value = |value: &Option<String>| Untrusted(value.as_deref().unwrap_or("not set")).to_string();
    format!("`{}` is {} and {}", Untrusted(&change.key), value(&change.old), value(&change.new))
}

/// Checks answer files by their manifests: all were made from the annotated data with the
/// fingerprint `data`, all are finished and unchanged since then, the files of a stage have the
/// same settings and inputs, and its shards are complete. `reader` is the stage that reads them, with its
/// settings: the files must have the model's own answers or the scores of a judge if it depends on them. A
/// warning says if there are own answers or scores that are not used.
///
/// The manifest of a file is the one beside it, or the `manifest.json` of its run directory. A file
/// without a manifest, which another program made, is not checked, with a warning.
///
/// # Errors
/// Returns [`BpoError::Answers`] with all problems of all files, or an error if a manifest cannot
/// be read.
pub fn check_answers(
    files: &[&Path],
    data: &Fingerprint,
    reader: (Stage, &RunConfig),
) -> Result<(), BpoError> {
    let mut problems = Vec::new();
    let mut stages: BTreeMap<Stage, Vec<(&Path, StageEntry)>> = BTreeMap::new();
    for &path in files {
        let Some((stage, entry)) = entry_of(path)? else {
            tracing::warn!(
                file = %UntrustedPath(path),
                "the file has no manifest, so its data and settings are not checked"
            );
            continue;
        };
        if entry.inputs.get("data") != Some(data) {
            problems.push(AnswerProblem::OtherData { path: path.to_owned() });
        }
        if entry.finished.is_none() {
            problems.push(AnswerProblem::Unfinished { path: path.to_owned(), stage });
        }
        let problem = match reader {
            (Stage::Pair, config) => unsuitable(path, stage, &entry, config)?,
            (Stage::Judge, config) => without_own(path, stage, &entry, config),
            _ => None,
        };
        problems.extend(problem);
        let changed = Place::File(path.to_owned()).changed(stage, &entry)?;
        problems.extend(changed.into_iter().map(AnswerProblem::Changed));
        stages.entry(stage).or_default().push((path, entry));
    }
    for (stage, files) in stages {
        problems.extend(differing(&files));
        problems.extend(missing_shards(stage, &files));
    }
    if problems.is_empty() { Ok(()) } else { Err(BpoError::Answers { problems }) }
}

/// Returns the shard of the weaken stage whose answers a single file has, by its manifest. Returns `None` for
/// several files, a whole stage and a file without a manifest.
///
/// A judged file of such answers records the shard, so that [`check_answers`] finds the missing ones.
///
/// # Errors
/// Returns an error if the manifest cannot be read.
pub fn weakened_shard(files: &[&Path]) -> Result<Option<Shard>, BpoError> {
    let [path] = files else { return Ok(None) };
    Ok(entry_of(path)?.filter(|(stage, _)| *stage == Stage::Weaken).and_then(|(_, entry)| shard_of(&entry)))
}

/// Compares what the answers of a file have with what the pairs depend on.
///
/// # Errors
/// Returns [`BpoError::ConfigEncode`] if TOML cannot hold a setting.
fn unsuitable(
    path: &Path,
    stage: Stage,
    entry: &StageEntry,
    pairs: &RunConfig,
) -> Result<Option<AnswerProblem>, BpoError> {
    let chosen = pairs.chosen;
    let unused = |what: &str| {
        tracing::warn!(
            file = %UntrustedPath(path),
            "the file has {what}, which are not used: `chosen` (--chosen) is {chosen}"
        );
        None
    };
    Ok(match stage {
        Stage::Weaken if pairs.judges() => Some(AnswerProblem::NotJudged { path: path.to_owned() }),
        Stage::Judge if !pairs.judges() => unused("scores of a judge"),
        Stage::Judge if pairs.judge.accept_from.is_some() => other_scores(path, entry, pairs)?,
        Stage::Weaken if entry.chosen().has_own() && !chosen.has_own() => unused("own answers of the model"),
        Stage::Weaken => without_own(path, stage, entry, pairs),
        _ => None,
    })
}

/// Checks that a file of the weaken stage has own answers, if `config` needs them.
fn without_own(path: &Path, stage: Stage, entry: &StageEntry, config: &RunConfig) -> Option<AnswerProblem> {
    let chosen = config.chosen;
    // answers about weakened images alone can be judged
    let is_needed = chosen.has_own() && chosen != ChosenAnswer::Judged;
    let is_missing = stage == Stage::Weaken && is_needed && !entry.chosen().has_own();
    is_missing.then(|| AnswerProblem::NoOwn { path: path.to_owned(), chosen })
}

/// Compares the method and the scale of scores with those of the settings, which a score is compared with.
fn other_scores(
    path: &Path,
    entry: &StageEntry,
    pairs: &RunConfig,
) -> Result<Option<AnswerProblem>, BpoError> {
    const KEYS: [&str; 3] = ["judge.method", "judge.lowest", "judge.highest"];
    let of = |settings: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let known = settings.iter().filter(|(key, _)| KEYS.contains(&key.as_str()));
        known.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let changes = Change::between(&of(&entry.settings), &of(&stage_settings(Stage::Judge, pairs)?));
    let path = path.to_owned();
    Ok((!changes.is_empty()).then_some(AnswerProblem::OtherScores { path, changes }))
}

/// Reads the manifest entry of an answer file. Returns `None` if the file has no manifest.
fn entry_of(path: &Path) -> Result<Option<(Stage, StageEntry)>, BpoError> {
    if let Some(manifest) = Manifest::read(&manifest_beside(path))? {
        return Ok(manifest.stages.into_iter().next());
    }
    let stage = match path.file_name().and_then(|name| name.to_str()) {
        Some("weakened.jsonl") => Stage::Weaken,
        Some("judged.jsonl") => Stage::Judge,
        Some("injected.jsonl") => Stage::Inject,
        _ => return Ok(None),
    };
    let manifest = Manifest::read(&path.with_file_name("manifest.json"))?;
    Ok(manifest.and_then(|mut manifest| Some((stage, manifest.stages.remove(&stage)?))))
}

/// Compares the files of a stage with its first one. The data is compared elsewhere.
fn differing(files: &[(&Path, StageEntry)]) -> Vec<AnswerProblem> {
    let Some(((first, expected), others)) = files.split_first() else { return Vec::new() };
    let compare = |(path, entry): &(&Path, StageEntry)| {
        let Differences { settings: mut changes, inputs } = Differences::between(expected, entry);
        changes.retain(|change| !is_shard(&change.key));
        changes.extend(inputs.into_iter().filter(|change| change.key != "data"));
        let (first, path) = (first.to_path_buf(), path.to_path_buf());
        (!changes.is_empty()).then_some(AnswerProblem::Differ { first, path, changes })
    };
    others.iter().filter_map(compare).collect()
}

/// Finds the shards of a stage that have no file. Files of the whole stage have no shard.
fn missing_shards(stage: Stage, files: &[(&Path, StageEntry)]) -> Option<AnswerProblem> {
    let shard = |(_, entry): &(&Path, StageEntry)| shard_of(entry);
    let there: BTreeSet<String> = files.iter().filter_map(shard).map(|shard| shard.to_string()).collect();
    let all = files.iter().filter_map(shard).flat_map(Shard::all);
    let missing: BTreeSet<String> =
        all.map(|shard| shard.to_string()).filter(|shard| !there.contains(shard)).collect();
    (!missing.is_empty())
        .then(|| AnswerProblem::MissingShards { stage, missing: missing.into_iter().collect() })
}

fn shard_of(entry: &StageEntry) -> Option<Shard> {
    let (_, value) = entry.settings.iter().find(|(key, _)| is_shard(key))?;
    // settings are TOML values, so the text is quoted
    value.trim_matches('"').parse().ok()
}

fn is_shard(key: &str) -> bool {
    matches!(key, "weaken.shard" | "inject.shard")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Inputs, StageLedger};
    use crate::summary::StageSummary;

    /// Writes an empty answer file with its manifest.
    fn write(path: &Path, data: &str, change: impl Fn(&mut RunConfig), is_finished: bool) {
        let mut config = RunConfig::default();
        change(&mut config);
        let print = Fingerprint::of(data);
        let inputs = Inputs::read(&[Stage::Inject], &config, Some(&print)).unwrap();
        let (mut ledger, _file) = StageLedger::open_file(Stage::Inject, &config, &inputs, path).unwrap();
        if is_finished {
            ledger.finish(Stage::Inject, &StageSummary::default()).unwrap();
        }
    }

    #[test]
    fn answers_that_do_not_belong_together_are_all_named() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let shard = |text: &str| {
            let shard: Shard = text.parse().unwrap();
            move |config: &mut RunConfig| config.inject.shard = Some(shard)
        };
        write(&at("1"), "a", shard("1/3"), true);
        write(&at("3"), "a", shard("3/3"), true);
        let check = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
            let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
            match check_answers(&paths, &Fingerprint::of("a"), (Stage::Pair, &RunConfig::default())) {
                Ok(()) => Vec::new(),
                Err(BpoError::Answers { problems }) => problems,
                Err(other) => panic!("{other}"),
            }
        };
        let missing = AnswerProblem::MissingShards { stage: Stage::Inject, missing: vec!["2/3".into()] };
        assert_eq!(check(&["3", "1"]), std::slice::from_ref(&missing));
        write(&at("2"), "a", shard("2/3"), true);
        assert_eq!(check(&["3", "1", "2"]), []);

        write(&at("data"), "b", shard("2/3"), true);
        assert_eq!(check(&["1", "data", "3"]), [AnswerProblem::OtherData { path: at("data") }]);
        write(&at("open"), "a", shard("2/3"), false);
        assert_eq!(
            check(&["1", "open", "3"]),
            [AnswerProblem::Unfinished { path: at("open"), stage: Stage::Inject }]
        );
        let other = |config: &mut RunConfig| {
            config.inject.batch_size = 7;
            config.inject.shard = Some("2/3".parse().unwrap());
        };
        write(&at("size"), "a", other, true);
        let problems = check(&["1", "size", "data"]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(text.contains("`inject.batch_size` is 16 and 7") && text.contains("3/3"), "{text}");
        // a file of another program has no manifest
        std::fs::write(at("foreign"), "").unwrap();
        assert_eq!(check(&["1", "2", "3", "foreign"]), []);
    }

    #[test]
    fn the_manifest_of_a_run_directory_counts_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(&at("x"), "b", |_| {}, true);
        std::fs::copy(manifest_beside(&at("x")), at("manifest.json")).unwrap();
        std::fs::copy(at("x"), at("injected.jsonl")).unwrap();
        let error = check_answers(
            &[&at("injected.jsonl")],
            &Fingerprint::of("a"),
            (Stage::Pair, &RunConfig::default()),
        )
        .unwrap_err();
        assert!(matches!(error, BpoError::Answers { .. }), "{error}");
        check_answers(&[&at("injected.jsonl")], &Fingerprint::of("b"), (Stage::Pair, &RunConfig::default()))
            .unwrap();
    }
}
