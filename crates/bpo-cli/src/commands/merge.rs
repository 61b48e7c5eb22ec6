//! `bpo merge`

use bpo::checkpoint::{check_adapter, check_base};

use super::open_device;
use crate::args::MergeCommand;
use crate::failure::Failure;
use crate::progress;

/// Writes the checkpoint with the adapter folded in.
pub fn merge(args: &MergeCommand) -> Result<(), Failure> {
    let config = args.config.resolve(&[&args.checkpoint])?;
    let model = config.model_path()?;
    check_base(model)?;
    check_adapter(&args.adapter, model)?;
    let device = open_device(&config)?;
    bpo::model::lora::merge_checkpoint(model, &args.adapter, &args.out, &device)
        .map_err(bpo::BpoError::from)?;
    progress::tell(&format!("merged checkpoint: {}", args.out.display()));
    Ok(())
}
