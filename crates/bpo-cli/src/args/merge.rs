//! `bpo merge`

use std::path::PathBuf;

use clap::Args;

use super::{Checkpoint, Config};

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
    /// Directory for the merged checkpoint
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
