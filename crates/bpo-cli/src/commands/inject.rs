//! `bpo inject`

use bpo::inject::ErrorInjector;
use bpo::pairs::SftSample;
use bpo::stages::{StageAnswers, check_contrasts, without_answers};
use bpo::{AnnotatedData, BpoError, Inputs, Required, RunConfig, Stage};

#[cfg(feature = "model")]
use super::{UsedModel, fetch_models};
use super::{continue_file, injector_key, outputs_of_stage, read_answers, read_data};
use crate::args::InjectCommand;
use crate::failure::Failure;
use crate::overrides::{Overrides, required};
use crate::progress;

/// Injects errors into the annotated answers.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn inject(args: &InjectCommand) -> Result<(), Failure> {
    let flags: Vec<&dyn Overrides> = vec![
        &args.seed,
        #[cfg(feature = "model")]
        &args.model,
        &args.data,
        &args.images,
        &args.inject,
    ];
    let mut config = args.config.resolve_for_answers(args.preset.preset, &flags)?;
    config.inject.shard = args.shard.or(config.inject.shard);
    #[cfg(feature = "model")]
    check_model_flags(args, &config)?;
    if !config.chosen.has_annotated() {
        let (with, reason) = (
            "`bpo inject`".to_owned(),
            "it rewrites annotated answers, which are not used then: leave out this stage",
        );
        return Err(BpoError::Conflict { key: "chosen".into(), with, reason }.into());
    }
    let settings: &[Required] =
        if config.inject.with_model { &[Required::Model, Required::Data] } else { &[Required::Data] };
    config.require(settings, &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    #[cfg(feature = "model")]
    if config.inject.is_local() {
        let used = if config.inject.with_model { UsedModel::Model } else { UsedModel::Injector };
        config = fetch_models(config, &[used], &[])?;
    }
    let mut paths = args.config.inputs(&config);
    for file in &args.weakened {
        paths.input("--weakened", file);
    }
    outputs_of_stage(&mut paths, out).check()?;
    let key = injector_key(&config)?;
    let mut progress = progress::new();
    let AnnotatedData { samples, fingerprint, .. } = read_data(&config, &mut *progress)?;
    check_contrasts(&config, &samples)?;
    let weakened = read_answers(&args.weakened, &fingerprint, (Stage::Inject, &config), args.allow_mismatch)?;
    weakened.iter().try_for_each(StageAnswers::check_weakened)?;
    let dropped = without_answers(&weakened);
    let inputs = Inputs::read(&[Stage::Inject], &config, Some(&fingerprint))?;
    let open = || open_injector(&config, key.clone(), &samples);
    continue_file(Stage::Inject, &config, &inputs, (out, args.retry_skipped), open, |injector, file| {
        bpo::stages::inject(&config, &samples, &dropped, injector, file, &mut *progress)
    })
}

/// Checks that no flag is given for a model that the command does not use.
///
/// # Errors
/// Returns [`BpoError::Setting`] for such a flag.
#[cfg(feature = "model")]
fn check_model_flags(args: &InjectCommand, config: &RunConfig) -> Result<(), BpoError> {
    let model = &args.model;
    for (flag, is_given) in
        [("--model", model.checkpoint.model.is_some()), ("--adapter", model.adapter.is_some())]
    {
        if is_given && !config.inject.with_model {
            let (expected, found) = ("given with --inject-with-model", "alone".to_owned());
            return Err(BpoError::Setting { key: flag.into(), expected, found });
        }
    }
    Ok(())
}

/// Creates the injector of the settings, with the model on this machine if they ask for it.
///
/// # Errors
/// Returns an error if the model cannot be loaded, or the server cannot be used.
#[cfg(feature = "model")]
fn open_injector(
    config: &RunConfig,
    key: Option<String>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    use bpo::{LocalBackend, PipelineBackend};

    if !config.inject.is_local() {
        return bpo::open_injector(config, key, samples);
    }
    LocalBackend::new(config.clone(), super::open_device(config)?, key).injector(samples)
}

/// A build without models has the injectors that need none.
#[cfg(not(feature = "model"))]
fn open_injector(
    config: &RunConfig,
    key: Option<String>,
    samples: &[SftSample],
) -> Result<Box<dyn ErrorInjector>, BpoError> {
    bpo::open_injector(config, key, samples)
}
