//! `bpo merge`

use std::path::{Path, PathBuf};

use bpo::{Required, check_adapter, check_base};

use super::open_device;
use crate::args::MergeCommand;
use crate::failure::Failure;
use crate::overrides::given;
use crate::progress;

/// Writes the checkpoint with the adapter folded in.
pub fn merge(args: &MergeCommand) -> Result<(), Failure> {
    let config = args.config.resolve_for_answers(&[&args.checkpoint])?;
    let adapter = args.adapter.as_ref().or(config.model.adapter.as_ref()).cloned();
    let flags = [("--adapter", adapter.is_some()), ("--out", args.out.is_some())];
    config.require(&[Required::Model], &flags)?;
    let (model, adapter, out) =
        (config.model_path()?, given("--adapter", &adapter)?, given("--out", &args.out)?);
    let mut paths = args.config.inputs(&config);
    paths.input("--adapter", adapter).output("--out", out).output("--out", &partial(out)).check()?;
    check_base(model)?;
    check_adapter(adapter, model)?;
    let device = open_device(&config)?;
    bpo::model::lora::merge_checkpoint(model, adapter, out, &device).map_err(bpo::BpoError::from)?;
    progress::tell(&format!("merged checkpoint: {}", out.display()));
    Ok(())
}

/// Where the checkpoint is until it is whole.
fn partial(out: &Path) -> PathBuf {
    // without the slash that a shell may put behind it
    let mut name = out.components().collect::<PathBuf>().into_os_string();
    name.push(".partial");
    name.into()
}
