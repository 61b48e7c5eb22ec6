//! `bpo pair`

use std::path::PathBuf;

use clap::Args;

use super::{Config, Data, PresetArg};

/// `bpo pair`
#[derive(Debug, Args)]
pub struct PairCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub data: Data,
    /// Answers of `weaken` or `inject`. Repeat it for several files, such as those of all shards,
    /// in any order
    #[arg(long, value_name = "FILE")]
    pub answers: Vec<PathBuf>,
    /// Use answer files although their manifests say that they are unfinished, changed, or made from
    /// other data or with different settings, or that shards are missing
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Output: pairs as JSON lines
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
