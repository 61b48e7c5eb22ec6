//! `bpo train`

use bpo::pairs::PreferencePair;
use bpo::pairs::format::jsonl::read_pairs_with;
use bpo::{
    BpoError, Inputs, LocalBackend, Media, PipelineBackend, Required, RunDir, RunStatus, Stage, StageLedger,
};

use super::{UsedModel, fetch_models, open_devices, open_images};
use crate::args::TrainCommand;
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::{Overrides, one, required};
use crate::progress;
use crate::skipped::print_skipped;
use crate::terminal::{print_json, print_line, print_lines};

/// Trains on preference pairs, or estimates what training takes.
///
/// # Errors
/// Returns [`Failure::Interrupted`] if a signal stopped training.
pub fn train(args: &TrainCommand) -> Result<(), Failure> {
    let overrides: [&dyn Overrides; 4] = [&args.seed, &args.model, &args.images, &args.train];
    let config = args.config.resolve(args.preset.preset, &overrides)?;
    let flags = [("--pairs", !args.pairs.is_empty()), ("--out", args.out.is_some() || args.dry_run)];
    config.require(&[Required::Model, Required::Images], &flags)?;
    let pairs = one("--pairs", &args.pairs)?;
    let pairs = required("--pairs", &pairs)?;
    let config =
        fetch_models(config, &[UsedModel::Model, UsedModel::Reference], &[pairs])?.with_absolute_paths()?;
    if let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) {
        let mut paths = args.config.inputs(&config);
        paths.input("--pairs", pairs).outputs_of_training(&config, out).check()?;
    }
    let images = open_images(&config)?;
    let set = read_pairs_with(pairs, &Media::of(&config).read_options())?;
    if set.pairs.is_empty() {
        return Err(BpoError::nothing(pairs, "pair", &set.skipped).into());
    }
    print_skipped(&set.skipped, None);
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        let (device, further) = open_devices(&config)?;
        let (plan, outcome) = bpo::plan(&config, set.pairs, &images, &device, &further)?;
        print_skipped(&outcome.skipped, None);
        print_lines(&super::plan::describe(&plan));
        return Ok(print_json(&plan)?);
    };
    let mut progress = Interruptible::new(progress::new());
    let dir = RunDir::open(out)?;
    let names = set.pairs.iter().flat_map(PreferencePair::all_images);
    let inputs = Inputs::read(&[Stage::Train], &config, None)?.with_images(images.fingerprint(names));
    let mut ledger = StageLedger::open_training(&config, &inputs, &dir)?;
    let (device, further) = open_devices(&config)?;
    let mut backend = LocalBackend::new(config.clone(), device, None).with_devices(further);
    if ledger.is_finished(Stage::Train) {
        // the files are written again
        ledger.restart(Stage::Train)?;
    }
    let (status, outcome) = backend.train(set.pairs, &images, &dir, &mut progress)?;
    print_skipped(&outcome.skipped, None);
    match status {
        RunStatus::Finished => {
            ledger.finish_training(&config, &dir, &outcome.summary)?;
            print_line(&format!("{}: {}", config.result_name(), dir.result(&config).display()));
            Ok(())
        }
        RunStatus::Stopped => Err(Failure::Interrupted),
    }
}
