//! `bpo merge`

use bpo::{BpoError, Required, check_adapter, check_base};

use super::{UsedModel, fetch_models, open_device};
use crate::args::MergeCommand;
use crate::failure::Failure;
use crate::overrides::required;
use crate::terminal::print_line;

/// Writes the checkpoint with the adapter merged into its weights.
///
/// # Errors
/// Returns an error if an input cannot be read, or the output cannot be written.
pub fn merge(args: &MergeCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(None, &[&args.checkpoint])?;
    let adapter = args.adapter.as_ref().or(config.model.adapter.as_ref()).cloned();
    let flags = [("--adapter", adapter.is_some()), ("--out", args.out.is_some())];
    config.require(&[Required::Model], &flags)?;
    let config = fetch_models(config, &[UsedModel::Model], adapter.as_deref().as_slice())?;
    let (model, adapter, out) =
        (config.model_path()?, required("--adapter", &adapter)?, required("--out", &args.out)?);
    let mut paths = args.config.inputs(&config);
    paths.input("--adapter", adapter).output("--out", out).check()?;
    check_base(model)?;
    check_adapter(adapter, model)?;
    if !(args.share > 0.0 && args.share <= 1.0) {
        let (expected, found) = ("above 0 and at most 1", args.share.to_string());
        return Err(BpoError::Setting { key: "--share".into(), expected, found }.into());
    }
    let device = open_device(&config)?;
    bpo::model::merge_checkpoint(model, adapter, args.share, out, &device).map_err(BpoError::from)?;
    print_line(&format!("merged checkpoint: {}", out.display()));
    Ok(())
}
