//! `bpo run`

use std::path::Path;

use bpo::burn::tensor::Device;
use bpo::{
    BpoError, LocalBackend, Required, RunConfig, RunReport, RunStatus, round_config, round_dir, run_rounds,
};

use super::{UsedModel, fetch_models, injector_key, open_devices};
#[cfg(feature = "server")]
use super::{judge_key, vlm_key};
use crate::args::RunArgs;
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::required;
use crate::progress;
use crate::terminal::print_line;

/// Runs all stages in a run directory, or in one for each round.
///
/// # Errors
/// Returns [`Failure::Interrupted`] if a signal stopped training.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut config = args.config.resolve(args.preset.preset, &args.overrides())?;
    config.rounds = args.rounds.or(config.rounds);
    let settings = [Required::Model, Required::Data, Required::Images];
    config.require(&settings, &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    let used = [UsedModel::Model, UsedModel::Reference, UsedModel::Injector];
    let config = fetch_models(config, &used, &[])?.with_absolute_paths()?;
    let mut paths = args.config.inputs(&config);
    let Some(rounds) = config.rounds else {
        paths.outputs_of_run(&config, out).check()?;
        let mut backend = open_backend(&config, open_devices(&config)?)?;
        let report = bpo::run(&config, out, &mut backend, &mut Interruptible::new(progress::new()))?;
        return print_report(&config, out, &report);
    };
    paths.output("--out", out).check()?;
    let out = std::path::absolute(out).map_err(|source| BpoError::Io {
        action: "find",
        path: out.to_owned(),
        source,
    })?;
    let devices = open_devices(&config)?;
    let backend = |round: usize, config: &RunConfig| {
        print_line(&format!(
            "round {round} ({} of {rounds}): {}",
            round + 1,
            round_dir(&out, round).display()
        ));
        open_backend(config, devices.clone())
    };
    let reports = run_rounds(&config, &out, backend, &mut Interruptible::new(progress::new()))?;
    for (round, report) in reports.iter().enumerate() {
        print_report(&round_config(&config, &out, round), &round_dir(&out, round), report)?;
    }
    Ok(())
}

fn open_backend(config: &RunConfig, devices: (Device, Vec<Device>)) -> Result<LocalBackend, BpoError> {
    let (device, further) = devices;
    let backend = LocalBackend::new(config.clone(), device, injector_key(config)?).with_devices(further);
    #[cfg(feature = "server")]
    let backend = backend.with_vlm_key(vlm_key(config)?).with_judge_key(judge_key(config)?);
    Ok(backend)
}

/// Prints what a run has done.
///
/// # Errors
/// Returns [`Failure::Interrupted`] if the run was stopped.
fn print_report(config: &RunConfig, out: &Path, report: &RunReport) -> Result<(), Failure> {
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
