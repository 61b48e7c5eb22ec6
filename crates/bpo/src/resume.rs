//! Whether a run directory can be gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use bpo_pairs::Manifest;

use crate::config::{RunConfig, changes};
use crate::error::BpoError;
use crate::run_dir::RunDir;
use crate::settings_file::{self, Inputs};
use crate::stage::Stage;
use crate::stages::{has_answers, remove_unanswered};
use crate::summary::RunManifest;

/// Compares the directory's settings and inputs with those given now, and records the latter.
///
/// # Errors
/// [`BpoError::Missing`], [`BpoError::ConfigChanged`], [`BpoError::InputChanged`] or [`BpoError::NotOurs`].
pub(crate) fn take_up(config: &RunConfig, dir: &RunDir, inputs: Manifest) -> Result<RunManifest, BpoError> {
    let Begun { stages, unanswered } = Begun::find(dir)?;
    let then = if dir.config().exists() { Some(settings_file::read(&dir.config())?) } else { None };
    if let Some(then) = &then {
        for (stage, path) in &stages {
            let changes = changes(*stage, then, config)?;
            if !changes.is_empty() {
                return Err(BpoError::ConfigChanged { path: path.clone(), changes });
            }
        }
    }
    let mut manifest = RunManifest::read(&dir.manifest())?.unwrap_or_default();
    if !stages.iter().any(|(stage, _)| *stage == Stage::Inject) {
        // templates have made nothing yet: another server, or none, is no other input
        manifest.inputs.templates = inputs.templates.clone();
    }
    if !stages.is_empty() {
        manifest.check_inputs(dir.root(), &inputs)?;
    }
    let other_inputs = manifest.check_inputs(dir.root(), &inputs).is_err();
    for (stage, path) in unanswered {
        let same = match &then {
            Some(then) => !other_inputs && changes(stage, then, config)?.is_empty(),
            None => false,
        };
        if !same {
            remove_unanswered(&path)?;
        }
    }
    if other_inputs || stages.is_empty() {
        manifest = RunManifest::default();
    }
    if manifest.inputs != inputs {
        manifest.inputs = inputs;
        manifest.write(&dir.manifest())?;
    }
    // what the run is made from is in its manifest
    settings_file::write(&dir.config(), config, &Inputs::new())?;
    Ok(manifest)
}

/// What of a run is there.
struct Begun {
    /// Stages that hold the run to its settings, each with what it made first.
    stages: Vec<(Stage, PathBuf)>,
    /// Files of stages that have set samples skipped, and answered none: with other settings they may.
    unanswered: Vec<(Stage, PathBuf)>,
}

impl Begun {
    /// # Errors
    /// [`BpoError::Missing`] if something is not there that must have been before something that is.
    fn find(dir: &RunDir) -> Result<Self, BpoError> {
        let chain = [
            (Stage::Data, dir.manifest()),
            (Stage::Data, dir.config()),
            (Stage::Weaken, dir.weakened()),
            (Stage::Inject, dir.injected()),
            (Stage::Pair, dir.pairs()),
            (Stage::Train, dir.metrics()),
        ];
        // any may be gone without harm: checkpoints after the last step, a result to be written anew
        let ends = [dir.checkpoints(), dir.adapter(), dir.model()];
        let made: Vec<&PathBuf> = chain
            .iter()
            .skip(2)
            .map(|(_, path)| path)
            .chain(&ends)
            .filter(|path| has_content(path))
            .collect();
        let Some(last) = made.last() else { return Ok(Self { stages: Vec::new(), unanswered: Vec::new() }) };
        let links = chain.iter().take_while(|(_, path)| path != *last);
        if let Some((stage, missing)) = links.clone().find(|(_, path)| !has_content(path)) {
            let after =
                chain.iter().skip_while(|(_, path)| path != missing).map(|(_, path)| path).chain(&ends);
            let later = after.filter(|path| made.contains(path)).cloned().collect();
            return Err(BpoError::Missing { path: missing.clone(), stage: *stage, later });
        }
        let there = |(stage, path): &&(Stage, PathBuf)| *stage != Stage::Data && has_content(path);
        let mut stages: Vec<_> = chain.iter().filter(there).cloned().collect();
        let mut unanswered = Vec::new();
        while let Some((Stage::Weaken | Stage::Inject, path)) = stages.last()
            && !has_answers(path)?
        {
            unanswered.extend(stages.pop());
        }
        Ok(Self { stages, unanswered })
    }
}

/// Whether something is there; a stage that could not even start, for want of a model for instance, leaves an empty file.
pub(crate) fn has_content(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
        }
        Ok(metadata) => metadata.len() > 0,
        Err(_) => false,
    }
}
