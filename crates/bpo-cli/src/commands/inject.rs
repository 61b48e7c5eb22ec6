//! `bpo inject`

use bpo::stages::without_answers;
use bpo::{AnnotatedData, Inputs, Required, Stage, StageLedger};

use super::{injector_key, outputs_of_stage, read_answers, read_data};
use crate::args::InjectCommand;
use crate::failure::Failure;
use crate::overrides::required;
use crate::progress;
use crate::skipped::print_skipped;

/// Injects errors into the annotated answers.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn inject(args: &InjectCommand) -> Result<(), Failure> {
    let mut config = args
        .config
        .resolve_for_answers(args.preset.preset, &[&args.seed, &args.data, &args.images, &args.inject])?;
    config.inject.shard = args.shard.or(config.inject.shard);
    config.require(&[Required::Data], &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    let mut paths = args.config.inputs(&config);
    for file in &args.weakened {
        paths.input("--weakened", file);
    }
    outputs_of_stage(&mut paths, out).check()?;
    let key = injector_key(&config)?;
    let mut progress = progress::new();
    let AnnotatedData { samples, fingerprint, .. } = read_data(&config, &mut *progress)?;
    let weakened = read_answers(&args.weakened, &fingerprint, args.allow_mismatch)?;
    let dropped = without_answers(&weakened);
    let inputs = Inputs::read(&[Stage::Inject], &config, Some(&fingerprint))?;
    let (mut ledger, mut file) = StageLedger::open_file(Stage::Inject, &config, &inputs, out)?;
    let injector = || bpo::open_injector(&config, key, &samples);
    let outcome = bpo::stages::inject(&config, &samples, &dropped, injector, &mut file, &mut *progress)?;
    ledger.finish(Stage::Inject, &outcome.summary)?;
    print_skipped(&outcome.skipped, Some(out));
    Ok(())
}
