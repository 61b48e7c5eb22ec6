//! `bpo run`

use bpo::{LocalBackend, Required, RunStatus};

use super::{api_key, open_device};
use crate::args::RunArgs;
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::given;
use crate::progress;

/// All stages, in a run directory.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = args.config.resolve(&args.overrides())?.with_absolute_paths()?;
    let required = [Required::Model, Required::Data, Required::Images];
    config.require(&required, &[("--out", args.out.is_some())])?;
    let out = given("--out", &args.out)?;
    args.config.inputs(&config).outputs_of_run(&config, out).check()?;
    let mut parts = LocalBackend::new(config.clone(), open_device(&config)?, api_key(&config)?);
    let report = bpo::run(&config, out, &mut parts, &mut Interruptible::new(progress::new()))?;
    let dir = out.display();
    if report.was_finished {
        for (&stage, summary) in &report.stages {
            progress::tell(&progress::describe(stage, summary));
        }
        progress::tell(&format!("nothing left to do in {dir}"));
    }
    let skipped: usize = report.stages.values().map(|summary| summary.skipped.total()).sum();
    if skipped > 0 {
        progress::tell(&format!("{skipped} skipped in all: see {}", out.join("skipped.jsonl").display()));
    }
    match report.status {
        RunStatus::Finished => {
            let result = config.result_name();
            progress::tell(&format!("{result}: {}", out.join(result).display()));
            Ok(())
        }
        RunStatus::Stopped => Err(Failure::Interrupted),
    }
}
