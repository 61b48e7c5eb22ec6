//! `bpo run`

use bpo::{LocalBackend, Required, RunStatus};

#[cfg(feature = "server")]
use super::vlm_key;
use super::{UsedModel, fetch_models, injector_key, open_devices};
use crate::args::RunArgs;
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::required;
use crate::progress;
use crate::terminal::print_line;

/// Runs all stages in a run directory.
///
/// # Errors
/// Returns [`Failure::Interrupted`] if a signal stopped training.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = args.config.resolve(args.preset.preset, &args.overrides())?;
    let settings = [Required::Model, Required::Data, Required::Images];
    config.require(&settings, &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    let used = [UsedModel::Model, UsedModel::Reference, UsedModel::Injector];
    let config = fetch_models(config, &used, &[])?.with_absolute_paths()?;
    args.config.inputs(&config).outputs_of_run(&config, out).check()?;
    let (device, further) = open_devices(&config)?;
    let mut backend = LocalBackend::new(config.clone(), device, injector_key(&config)?).with_devices(further);
    #[cfg(feature = "server")]
    {
        backend = backend.with_vlm_key(vlm_key(&config)?);
    }
    let report = bpo::run(&config, out, &mut backend, &mut Interruptible::new(progress::new()))?;
    let dir = out.display();
    if report.was_finished {
        for (&stage, summary) in &report.stages {
            print_line(&progress::describe(stage, summary));
        }
        print_line(&format!("nothing left to do in {dir}"));
    }
    let skipped: usize = report.stages.values().map(|summary| summary.skipped.total()).sum();
    if skipped > 0 {
        print_line(&format!(
            "{skipped} skipped in total: {} lists them",
            out.join("skipped.jsonl").display()
        ));
    }
    match report.status {
        RunStatus::Finished => {
            let result = config.result_name();
            print_line(&format!("{result}: {}", out.join(result).display()));
            Ok(())
        }
        RunStatus::Stopped => Err(Failure::Interrupted),
    }
}
