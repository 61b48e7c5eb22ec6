//! `bpo weaken`

use std::path::Path;

use bpo::stages::check_contrasts;
use bpo::{AnnotatedData, BpoError, Inputs, Required, RunConfig, Stage, VisionLanguageModel};

#[cfg(feature = "server")]
use super::vlm_key;
#[cfg(feature = "model")]
use super::{UsedModel, fetch_models, open_devices};
use super::{continue_file, open_images, outputs_of_stage, read_data};
use crate::args::WeakenCommand;
use crate::failure::Failure;
use crate::overrides::{Overrides, required};
use crate::progress;

/// Generates answers about weakened images.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn weaken(args: &WeakenCommand) -> Result<(), Failure> {
    let flags: Vec<&dyn Overrides> = vec![
        &args.seed,
        #[cfg(feature = "model")]
        &args.model,
        &args.data,
        &args.images,
        &args.weaken,
        &args.chosen,
    ];
    let mut config = args.config.resolve_for_answers(args.preset.preset, &flags)?;
    config.weaken.shard = args.shard.or(config.weaken.shard);
    let is_local = cfg!(feature = "model") && config.weaken.server.is_none();
    #[cfg(feature = "model")]
    if !is_local && args.model.checkpoint.model.is_some() {
        let expected = "left out, because a model behind a server answers (--vlm-server or [weaken.server])";
        return Err(BpoError::Setting { key: "--model".into(), expected, found: "given".to_owned() }.into());
    }
    let model = if is_local { Required::Model } else { Required::VlmServer };
    let settings = [model, Required::Data, Required::Images];
    config.require(&settings, &[("--out", args.out.is_some())])?;
    let out = required("--out", &args.out)?;
    #[cfg(feature = "model")]
    if is_local {
        config = fetch_models(config, &[UsedModel::Model], &[])?;
    }
    outputs_of_stage(&mut args.config.inputs(&config), out).check()?;
    let work = Work { config: &config, out, retry_skipped: args.retry_skipped };
    #[cfg(feature = "server")]
    if !is_local {
        let key = vlm_key(&config)?;
        return work.run(|| bpo::open_vlm(&config, key.clone()));
    }
    #[cfg(not(feature = "server"))]
    if !is_local {
        return Err(BpoError::NotBuilt { what: "`weaken.server`", feature: "server" }.into());
    }
    local(&work)
}

/// Answers with the model on this machine.
#[cfg(feature = "model")]
fn local(work: &Work<'_>) -> Result<(), Failure> {
    use bpo::{LocalBackend, PipelineBackend};

    work.run(|| {
        let (device, further) = open_devices(work.config)?;
        LocalBackend::new(work.config.clone(), device, None).with_devices(further).model()
    })
}

/// A build without models answers with a server.
#[cfg(not(feature = "model"))]
fn local(_: &Work<'_>) -> Result<(), Failure> {
    Err(BpoError::NotBuilt { what: "a local model", feature: "model" }.into())
}

/// The stage, with any model.
struct Work<'a> {
    config: &'a RunConfig,
    out: &'a Path,
    retry_skipped: bool,
}

impl Work<'_> {
    #[cfg_attr(
        not(any(feature = "model", feature = "server")),
        expect(dead_code, reason = "such a build has neither kind of model")
    )]
    fn run<M: VisionLanguageModel>(&self, model: impl Fn() -> Result<M, BpoError>) -> Result<(), Failure> {
        let Self { config, out, retry_skipped } = *self;
        let images = open_images(config)?;
        let mut progress = progress::new();
        let AnnotatedData { samples, fingerprint, .. } = read_data(config, &mut *progress)?;
        check_contrasts(config, &samples)?;
        let names = samples.iter().flat_map(|sample| sample.images.iter().map(String::as_str));
        let inputs = Inputs::read(&[Stage::Weaken], config, Some(&fingerprint))?;
        let inputs = inputs.with_images(images.fingerprint(names));
        continue_file(Stage::Weaken, config, &inputs, (out, retry_skipped), model, |model, file| {
            bpo::stages::weaken(config, &samples, &images, model, file, &mut *progress)
        })
    }
}
