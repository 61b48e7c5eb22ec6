//! `bpo weaken`

use bpo::stages::hold;
use bpo::{LocalBackend, PipelineBackend, Required, Stage};

use super::stages::{outputs_of_stage, samples, tell_skipped};
use super::{open_device, open_images};
use crate::args::WeakenCommand;
use crate::failure::Failure;
use crate::overrides::given;
use crate::progress;

/// Asks the model about weakened images.
pub fn weaken(args: &WeakenCommand) -> Result<(), Failure> {
    let flags: [&dyn crate::overrides::Overrides; 4] = [&args.model, &args.data, &args.images, &args.weaken];
    let config = args.config.resolve_for_answers(&flags)?;
    let required = [Required::Model, Required::Data, Required::Images];
    config.require(&required, &[("--out", args.out.is_some())])?;
    let out = given("--out", &args.out)?;
    outputs_of_stage(&mut args.config.inputs(&config), out).check()?;
    let images = open_images(&config)?;
    let mut progress = progress::new();
    let samples = samples(&config, &mut *progress)?;
    hold(Stage::Weaken, &config, out)?;
    let mut parts = LocalBackend::new(config.clone(), open_device(&config)?, None);
    let model = || parts.model();
    let outcome = bpo::stages::weaken(&config, &samples, &images, model, out, &mut *progress)?;
    tell_skipped(&outcome);
    Ok(())
}
