//! The files of a run directory, in the order in which the stages write them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::BpoError;
use crate::run_dir::RunDir;
use crate::stage::Stage;

/// Returns the stages that have results, in order, each with its first file. `has_stage` returns whether
/// the run has the stage of a judge, or of injected errors.
///
/// # Errors
/// Returns [`BpoError::Missing`] if a file is missing although later files exist.
pub(super) fn existing(
    dir: &RunDir,
    has_stage: impl Fn(Stage) -> bool,
) -> Result<Vec<(Stage, PathBuf)>, BpoError> {
    let mut chain = vec![
        (Stage::Data, dir.manifest()),
        (Stage::Data, dir.config()),
        (Stage::Weaken, dir.weakened()),
        (Stage::Judge, dir.judged()),
        (Stage::Inject, dir.injected()),
        (Stage::Pair, dir.pairs()),
        (Stage::Train, dir.metrics()),
    ];
    let is_optional = |stage: Stage| matches!(stage, Stage::Judge | Stage::Inject);
    chain.retain(|(stage, path)| !is_optional(*stage) || has_stage(*stage) || has_content(path));
    // these may be missing: not every training has evaluations or samples, checkpoints are removed
    // after the last step, and a result can be written again
    let ends = [dir.evaluations(), dir.samples(), dir.checkpoints(), dir.adapter(), dir.model()];
    let paths = chain.iter().skip(2).map(|(_, path)| path).chain(&ends);
    let existing: Vec<&PathBuf> = paths.filter(|path| has_content(path)).collect();
    let Some(last) = existing.last() else { return Ok(Vec::new()) };
    let mut before = chain.iter().take_while(|(_, path)| path != *last);
    if let Some((stage, missing)) = before.find(|(_, path)| !has_content(path)) {
        let after = chain.iter().skip_while(|(_, path)| path != missing).map(|(_, path)| path).chain(&ends);
        let later = after.filter(|path| existing.contains(path)).cloned().collect();
        return Err(BpoError::Missing { path: missing.clone(), stage: *stage, later });
    }
    let has_results = |(stage, path): &&(Stage, PathBuf)| *stage != Stage::Data && has_content(path);
    Ok(chain.iter().filter(has_results).cloned().collect())
}

/// Returns whether a file or directory is not empty. A stage that could not start, for example
/// because the model was missing, leaves an empty file.
pub(crate) fn has_content(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
        }
        Ok(metadata) => metadata.len() > 0,
        Err(_) => false,
    }
}
