//! `bpo train`

use bpo::pairs::format::jsonl::read_pairs;
use bpo::stages::{StageOutcome, hold_training};
use bpo::{BpoError, LocalBackend, PipelineBackend, Required, RunDir, RunStatus};

use super::stages::tell_skipped;
use super::{open_device, open_images, print_line};
use crate::args::TrainCommand;
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::given;
use crate::progress;

/// Trains an adapter, or the weights, on pairs.
pub fn train(args: &TrainCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.model, &args.images, &args.train])?.with_absolute_paths()?;
    let flags = [("--pairs", args.pairs.is_some()), ("--out", args.out.is_some() || args.dry_run)];
    config.require(&[Required::Model, Required::Images], &flags)?;
    let pairs = given("--pairs", &args.pairs)?;
    if let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) {
        let mut paths = args.config.inputs(&config);
        paths.input("--pairs", pairs).outputs_of_training(&config, out).check()?;
    }
    let images = open_images(&config)?;
    let set = read_pairs(pairs)?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(pairs, "pair", &set.skipped).into());
    }
    tell_skipped(&StageOutcome::new(set.pairs.len(), set.skipped));
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        let (plan, outcome) = bpo::plan(&config, &set.pairs, &images, &open_device(&config)?)?;
        tell_skipped(&outcome);
        progress::tell(&super::plan::describe(&plan));
        return Ok(print_line(&plan)?);
    };
    let mut progress = Interruptible::new(progress::new());
    let dir = RunDir::open(out)?;
    hold_training(&config, &dir)?;
    let mut parts = LocalBackend::new(config.clone(), open_device(&config)?, None);
    let (completion, outcome) = parts.train(&set.pairs, &images, &dir, &mut progress)?;
    tell_skipped(&outcome);
    match completion {
        RunStatus::Finished => {
            progress::tell(&format!("{}: {}", config.result_name(), dir.result(&config).display()));
            Ok(())
        }
        RunStatus::Stopped => Err(Failure::Interrupted),
    }
}
