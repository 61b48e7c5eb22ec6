//! The stages that need no model: `bpo inject`, `bpo pair`.

use std::path::Path;

use bpo::pairs::SftSample;
use bpo::stages::{Existing, StageOutcome, hold, settings_beside};
use bpo::{BpoError, Paths, Progress, Required, RunConfig, Stage, read_samples};

use super::api_key;
use crate::args::{InjectCommand, PairCommand};
use crate::failure::Failure;
use crate::overrides::given;
use crate::progress;

/// `bpo inject`
pub fn inject(args: &InjectCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(&[&args.data, &args.inject])?;
    config.require(&[Required::Data], &[("--out", args.out.is_some())])?;
    let out = given("--out", &args.out)?;
    outputs_of_stage(&mut args.config.inputs(&config), out).check()?;
    let key = api_key(&config)?;
    let mut progress = progress::new();
    let samples = samples(&config, &mut *progress)?;
    hold(Stage::Inject, &config, out)?;
    let injector = || bpo::open_injector(&config, key, &samples);
    let outcome = bpo::stages::inject(&config, &samples, injector, out, &mut *progress)?;
    tell_skipped(&outcome);
    Ok(())
}

/// `bpo pair`
pub fn pair(args: &PairCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(&[&args.data])?;
    let flags = [("--answers", !args.answers.is_empty()), ("--out", args.out.is_some())];
    config.require(&[Required::Data], &flags)?;
    let out = given("--out", &args.out)?;
    let mut paths = args.config.inputs(&config);
    for file in &args.answers {
        paths.input("--answers", file);
    }
    paths.output_file("--out", out).check()?;
    let mut progress = progress::new();
    let samples = samples(&config, &mut *progress)?;
    let answers: Vec<&Path> = args.answers.iter().map(|file| file.as_path()).collect();
    let (pairs, outcome) =
        bpo::stages::pair(&config, &samples, &answers, out, Existing::Refuse, &mut *progress)?;
    tell_skipped(&outcome);
    if pairs.is_empty() {
        let (path, skipped) = (out.to_owned(), outcome.summary.skipped);
        return Err(BpoError::Nothing { path, what: "pair", skipped }.into());
    }
    Ok(())
}

/// What a stage on its own writes and removes.
pub(super) fn outputs_of_stage<'a>(paths: &'a mut Paths, out: &Path) -> &'a mut Paths {
    paths.output("--out", out).output_file("--out", &settings_beside(out))
}

pub(super) fn samples(config: &RunConfig, progress: &mut dyn Progress) -> Result<Vec<SftSample>, BpoError> {
    let (samples, outcome) = read_samples(config.data_path()?, progress)?;
    tell_skipped(&outcome);
    Ok(samples)
}

/// One by one: where a stage runs on its own, no file has them all.
pub(super) fn tell_skipped(outcome: &StageOutcome) {
    for skipped in &outcome.skipped {
        let answer =
            if skipped.variant == 0 { String::new() } else { format!(", answer {}", skipped.variant + 1) };
        progress::tell(&format!("skipped: {}{answer}: {}", skipped.id, skipped.detail));
    }
}
