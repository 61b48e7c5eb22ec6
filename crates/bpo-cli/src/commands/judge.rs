//! `bpo judge`

use std::path::{Path, PathBuf};

use bpo::{AnnotatedData, BpoError, Inputs, Required, RunConfig, Stage, VisionLanguageModel, weakened_shard};

#[cfg(feature = "server")]
use super::judge_key;
#[cfg(feature = "model")]
use super::{UsedModel, fetch_models, open_devices};
use super::{continue_file, open_images, outputs_of_stage, read_answers, read_data};
use crate::args::JudgeCommand;
use crate::failure::Failure;
use crate::overrides::{Overrides, required};
use crate::progress;

/// Scores answers by a judge.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn judge(args: &JudgeCommand) -> Result<(), Failure> {
    let flags: Vec<&dyn Overrides> = vec![
        &args.seed,
        #[cfg(feature = "model")]
        &args.model,
        &args.data,
        &args.images,
        args,
        &args.accept,
        &args.judge,
    ];
    let mut config = args.config.resolve_for_answers(args.preset.preset, &flags)?;
    if !config.judges() {
        let with = format!("`chosen = \"{}\"`", config.chosen);
        let reason = "scores are for `--chosen judged`, and for `--chosen revised` with `--accept-from`";
        return Err(BpoError::Conflict { key: "bpo judge".into(), with, reason }.into());
    }
    let is_local = cfg!(feature = "model") && config.judge.server.is_none();
    #[cfg(feature = "model")]
    if !is_local && args.model.checkpoint.model.is_some() {
        let expected = "left out, because a model behind a server judges (--judge-server or [judge.server])";
        return Err(BpoError::Setting { key: "--model".into(), expected, found: "given".to_owned() }.into());
    }
    let model = if is_local { Required::Model } else { Required::JudgeServer };
    let mut settings = vec![model, Required::Data];
    if config.judge.images {
        settings.push(Required::Images);
    }
    let flags = [("--answers", !args.answers.is_empty()), ("--out", args.out.is_some())];
    config.require(&settings, &flags)?;
    let out = required("--out", &args.out)?;
    #[cfg(feature = "model")]
    if is_local {
        config = fetch_models(config, &[UsedModel::Model], &[])?;
    }
    let mut paths = args.config.inputs(&config);
    for file in &args.answers {
        paths.input("--answers", file);
    }
    outputs_of_stage(&mut paths, out).check()?;
    let files: Vec<&Path> = args.answers.iter().map(PathBuf::as_path).collect();
    config.weaken.shard = weakened_shard(&files)?;
    let work = Work { config: &config, args, out };
    #[cfg(feature = "server")]
    if !is_local {
        let key = judge_key(&config)?;
        return work.run(|| bpo::open_judge(&config, key.clone()));
    }
    #[cfg(not(feature = "server"))]
    if !is_local {
        return Err(BpoError::NotBuilt { what: "`judge.server`", feature: "server" }.into());
    }
    local(&work)
}

/// Judges with the model on this machine.
#[cfg(feature = "model")]
fn local(work: &Work<'_>) -> Result<(), Failure> {
    use bpo::{LocalBackend, PipelineBackend};

    work.run(|| {
        let (device, further) = open_devices(work.config)?;
        LocalBackend::new(work.config.clone(), device, None).with_devices(further).judge()
    })
}

/// A build without models judges with a server.
#[cfg(not(feature = "model"))]
fn local(_: &Work<'_>) -> Result<(), Failure> {
    Err(BpoError::NotBuilt { what: "a local model", feature: "model" }.into())
}

/// The stage, with any judge.
struct Work<'a> {
    config: &'a RunConfig,
    args: &'a JudgeCommand,
    out: &'a Path,
}

impl Work<'_> {
    #[cfg_attr(
        not(any(feature = "model", feature = "server")),
        expect(dead_code, reason = "such a build has neither kind of model")
    )]
    fn run<M: VisionLanguageModel>(&self, model: impl Fn() -> Result<M, BpoError>) -> Result<(), Failure> {
        let Self { config, args, out } = *self;
        let images = if config.judge.images { Some(open_images(config)?) } else { None };
        let mut progress = progress::new();
        let AnnotatedData { samples, fingerprint, .. } = read_data(config, &mut *progress)?;
        // names of rows and frames, for which the reader of the data needs the image root
        let mut names = samples.iter().flat_map(|sample| &sample.images);
        if args.images.images.is_some() && images.is_none() && !names.any(|name| name.contains('#')) {
            tracing::warn!("the judge does not see the images of --images; --judge-images shows them to it");
        }
        let answers = read_answers(&args.answers, &fingerprint, (Stage::Judge, config), args.allow_mismatch)?;
        let mut inputs = Inputs::read(&[Stage::Judge], config, Some(&fingerprint))?;
        if let Some(images) = &images {
            let names = samples.iter().flat_map(|sample| sample.images.iter().map(String::as_str));
            inputs = inputs.with_images(images.fingerprint(names));
        }
        let images = images.as_ref();
        continue_file(Stage::Judge, config, &inputs, (out, args.retry_skipped), model, |model, file| {
            bpo::stages::judge(config, &samples, &answers, images, model, file, &mut *progress)
        })
    }
}
