//! `bpo weaken`

use bpo::{AnnotatedData, Inputs, LocalBackend, PipelineBackend, Required, Stage, StageLedger};

use super::{open_device, open_images, outputs_of_stage, read_data};
use crate::args::WeakenCommand;
use crate::failure::Failure;
use crate::overrides::{Overrides, required};
use crate::progress;
use crate::skipped::print_skipped;

/// Generates answers about weakened images.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn weaken(args: &WeakenCommand) -> Result<(), Failure> {
    let flags: [&dyn Overrides; 5] = [&args.seed, &args.model, &args.data, &args.images, &args.weaken];
    let mut config = args.config.resolve_for_answers(args.preset.preset, &flags)?;
    config.weaken.shard = args.shard.or(config.weaken.shard);
    let settings = [Required::Model, Required::Data, Required::Images];
    config.require(&settings, &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    outputs_of_stage(&mut args.config.inputs(&config), out).check()?;
    let images = open_images(&config)?;
    let mut progress = progress::new();
    let AnnotatedData { samples, fingerprint, .. } = read_data(&config, &mut *progress)?;
    let names = samples.iter().flat_map(|sample| sample.images.iter().map(String::as_str));
    let inputs = Inputs::read(&[Stage::Weaken], &config, Some(&fingerprint))?;
    let inputs = inputs.with_images(images.fingerprint(names));
    let (mut ledger, mut file) = StageLedger::open_file(Stage::Weaken, &config, &inputs, out)?;
    let mut backend = LocalBackend::new(config.clone(), open_device(&config)?, None);
    let model = || backend.model();
    let outcome = bpo::stages::weaken(&config, &samples, &images, model, &mut file, &mut *progress)?;
    ledger.finish(Stage::Weaken, &outcome.summary)?;
    print_skipped(&outcome.skipped, Some(out));
    Ok(())
}
