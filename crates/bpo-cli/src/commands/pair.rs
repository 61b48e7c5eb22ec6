//! `bpo pair`

use std::path::PathBuf;

use bpo::stages::{AnswerIndex, ExistingPairs, PairFiles, TokenCheck, pair_files};
use bpo::{BpoError, Media, Missing, Required, RunConfig, SampleFile, Stage};

use super::check_answer_files;
use crate::args::PairCommand;
use crate::failure::Failure;
use crate::overrides::{Overrides, required};
use crate::progress;
use crate::skipped::print_skipped;

/// Builds preference pairs.
///
/// # Errors
/// Returns an error if an input cannot be used, or the output cannot be written.
pub fn pair(args: &PairCommand) -> Result<(), Failure> {
    let flags: [&dyn Overrides; 8] = [
        &args.seed,
        &args.data,
        &args.images,
        &args.chosen,
        &args.truth,
        &args.accept,
        &args.select,
        &args.contrast,
    ];
    let config = args.config.resolve_for_answers(args.preset.preset, &flags)?;
    let has_eval = config.pair.eval_percent.is_none() || args.eval_out.is_some();
    let flags =
        [("--answers", !args.answers.is_empty()), ("--out", args.out.is_some()), ("--eval-out", has_eval)];
    config.require(&[Required::Data], &flags)?;
    if args.eval_out.is_some() && config.pair.eval_percent.is_none() {
        let missing = Missing { key: Some("pair.eval_percent"), flag: "--eval-percent" };
        return Err(BpoError::NotSet { missing: vec![missing] }.into());
    }
    let mut tokens = token_check(&config)?;
    let out = required("--out", &args.out)?;
    let mut paths = args.config.inputs(&config);
    for file in &args.answers {
        paths.input("--answers", file);
    }
    paths.output("--out", out);
    if let Some(eval) = &args.eval_out {
        paths.output("--eval-out", eval);
    }
    paths.check()?;
    let mut progress = progress::new();
    let data = SampleFile::read(config.data_path()?, &Media::of(&config).read_options())?;
    print_skipped(&data.report(&mut *progress).skipped, None);
    check_answer_files(&args.answers, &data.fingerprint, (Stage::Pair, &config), args.allow_mismatch)?;
    let answers = AnswerIndex::read(args.answers.iter().map(PathBuf::as_path))?;
    let mut skipped = answers.skipped().clone();
    let files = PairFiles::new(out, args.eval_out.as_deref());
    let tokens = tokens.as_mut().map(|tokens| &mut **tokens as &mut dyn TokenCheck);
    let outcome = pair_files(&config, &data, answers, files, ExistingPairs::Refuse, tokens, &mut *progress)?;
    print_skipped(&outcome.skipped, None);
    if outcome.summary.done == 0 {
        // the samples whose answers were all skipped are not among those of this stage
        skipped.merge(&outcome.summary.skipped);
        let path = out.to_owned();
        return Err(BpoError::Nothing { path, what: "pair", skipped }.into());
    }
    Ok(())
}

/// Returns the counter of tokens for `pair.max_tokens`, if it is set.
///
/// # Errors
/// Returns an error if the processor of the model cannot be read.
#[cfg(feature = "model")]
fn token_check(config: &RunConfig) -> Result<Option<Box<dyn TokenCheck>>, Failure> {
    let Some(most) = config.pair.max_tokens else { return Ok(None) };
    config.require(&[Required::Model, Required::Images], &[])?;
    let config = super::fetch_models(config.clone(), &[super::UsedModel::Model], &[])?;
    Ok(Some(Box::new(bpo::ProcessorTokens::open(&config, most)?)))
}

/// A program without models counts no tokens.
///
/// # Errors
/// Returns [`BpoError::NotBuilt`] if `pair.max_tokens` is set.
#[cfg(not(feature = "model"))]
fn token_check(config: &RunConfig) -> Result<Option<Box<dyn TokenCheck>>, Failure> {
    match config.pair.max_tokens {
        None => Ok(None),
        Some(_) => {
            Err(BpoError::NotBuilt { what: "`pair.max_tokens` (--max-tokens)", feature: "model" }.into())
        }
    }
}
