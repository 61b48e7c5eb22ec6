//! `bpo merge`

use std::path::PathBuf;

use clap::Args;

use super::{Checkpoint, Config, number};

/// `bpo merge`; each weight keeps its number type
#[derive(Debug, Args)]
pub struct MergeCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    /// PEFT adapter
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Part of the adapter's change that the result has, above 0 and at most 1. Less than 1
    /// interpolates between the weights of both models (WiSE-FT)
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = number)]
    pub share: f64,
    /// Directory for the merged checkpoint
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
