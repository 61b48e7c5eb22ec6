//! The stages one by one: `bpo weaken`, `inject`, `pair`, `train`.

use std::path::Path;

use bpo::BpoError;
use bpo::config::{Required, RunConfig, Stage};
use bpo::llava::LocalBackend;
use bpo::pairs::format::jsonl::read_pairs;
use bpo::pairs::sft::SftSample;
use bpo::paths::Paths;
use bpo::progress::Progress;
use bpo::run::{Completion, PipelineBackend, read_samples};
use bpo::run_dir::RunDir;
use bpo::stages::StageOutcome;
use bpo::stages::pair::Existing;
use bpo::stages::settings::{hold, hold_training, settings_beside};

use super::{api_key, open_device, open_images, print_line};
use crate::args::{InjectCommand, PairCommand, TrainCommand, WeakenCommand};
use crate::failure::Failure;
use crate::interrupt::Interruptible;
use crate::overrides::given;
use crate::progress;

/// `bpo weaken`
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
    let outcome = bpo::stages::weaken::weaken(&config, &samples, &images, model, out, &mut *progress)?;
    tell_skipped(&outcome);
    Ok(())
}

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
    let injector = || bpo::injector::open(&config, key, &samples);
    let outcome = bpo::stages::inject::inject(&config, &samples, injector, out, &mut *progress)?;
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
        bpo::stages::pair::pair(&config, &samples, &answers, out, Existing::Refuse, &mut *progress)?;
    tell_skipped(&outcome);
    if pairs.is_empty() {
        let (path, skipped) = (out.to_owned(), outcome.summary.skipped);
        return Err(BpoError::Nothing { path, what: "pair", skipped }.into());
    }
    Ok(())
}

/// `bpo train`
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
        let (plan, outcome) = bpo::plan::plan(&config, &set.pairs, &images, &open_device(&config)?)?;
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
        Completion::Finished => {
            progress::tell(&format!("{}: {}", config.result_name(), dir.result(&config).display()));
            Ok(())
        }
        Completion::Stopped => Err(Failure::Interrupted),
    }
}

/// What a stage on its own writes and removes.
fn outputs_of_stage<'a>(paths: &'a mut Paths, out: &Path) -> &'a mut Paths {
    paths.output("--out", out).output_file("--out", &settings_beside(out))
}

fn samples(config: &RunConfig, progress: &mut dyn Progress) -> Result<Vec<SftSample>, BpoError> {
    let (samples, outcome) = read_samples(config.data_path()?, progress)?;
    tell_skipped(&outcome);
    Ok(samples)
}

/// One by one: where a stage runs on its own, no file has them all.
fn tell_skipped(outcome: &StageOutcome) {
    for skipped in &outcome.skipped {
        let answer =
            if skipped.variant == 0 { String::new() } else { format!(", answer {}", skipped.variant + 1) };
        progress::tell(&format!("skipped: {}{answer}: {}", skipped.id, skipped.detail));
    }
}
