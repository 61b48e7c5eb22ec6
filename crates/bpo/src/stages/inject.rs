//! Error injection: `injected.jsonl`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use bpo_inject::ErrorInjector;
use bpo_pairs::build;
use bpo_pairs::sft::SftSample;
use bpo_pairs::skipped::SkipReason;

use super::{StageOutcome, Unneeded, forward, open};
use crate::config::{RunConfig, Stage};
use crate::error::BpoError;
use crate::progress::Progress;

/// Has each sample's annotated answer rewritten with errors in it.
///
/// `injector` is asked for only if an answer is missing in the file.
///
/// # Errors
/// If the file is of other samples or cannot be written, or the injector has no draft to judge, as when its server is down.
/// The file keeps what was done. [`BpoError::NothingAnswered`] if the injector refused every single request; then no file is
/// left.
pub fn inject<I: ErrorInjector>(
    config: &RunConfig,
    samples: &[SftSample],
    injector: impl FnOnce() -> Result<I, BpoError>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<StageOutcome, BpoError> {
    let mut store = open(file)?;
    let batch = NonZeroUsize::new(config.inject.batch_size).unwrap_or(NonZeroUsize::MIN);
    let settings = build::InjectConfig::default().with_seed(config.seed.0).with_batch(batch);
    let mut told = forward(Stage::Inject, progress);
    if store.len() < samples.len() {
        build::inject(samples, &mut injector()?, &settings, &mut store, &mut told)?;
    } else {
        build::inject(samples, &mut Unneeded, &settings, &mut store, &mut told)?;
    }
    drop(told);
    let outcome = StageOutcome::of(&store)?;
    drop(store);
    if let Some(error) = nothing_answered(&outcome) {
        // it would stand in the way of a run with a server that is set up right
        fs::remove_file(file).map_err(BpoError::io("remove", file))?;
        return Err(error);
    }
    progress.finished(Stage::Inject, &outcome.summary);
    Ok(outcome)
}

/// The error of a stage in which every request was refused, as by a server that does not know the model's name.
fn nothing_answered(outcome: &StageOutcome) -> Option<BpoError> {
    let first = outcome.skipped.first()?;
    let all = outcome.summary.done == 0
        && outcome.skipped.iter().all(|skipped| skipped.reason == SkipReason::RequestFailed);
    all.then(|| BpoError::NothingAnswered {
        stage: Stage::Inject,
        reason: first.detail.clone(),
        skipped: outcome.summary.skipped.clone(),
    })
}
