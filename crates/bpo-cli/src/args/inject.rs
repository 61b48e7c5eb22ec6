//! `bpo inject`

use std::path::PathBuf;

use bpo::stages::Shard;
use clap::Args;

use super::{Config, Data, PresetArg, SeedArg};

/// Flags of error injection.
#[derive(Debug, Args)]
pub struct Inject {
    /// OpenAI-compatible server that rewrites answers. Without a server, frequent words of the data
    /// replace words of the answers
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Model name on the server [default: the one in the settings file, else "default"]
    #[arg(long, value_name = "NAME")]
    pub server_model: Option<String>,
}

/// `bpo inject`
#[derive(Debug, Args)]
pub struct InjectCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub seed: SeedArg,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub inject: Inject,
    /// Finished files of `bpo weaken`. Samples whose answers were all skipped there are left out,
    /// because they make no pair. Repeat it for several files
    #[arg(long, value_name = "FILE")]
    pub weakened: Vec<PathBuf>,
    /// Use answer files although their manifests say that they are unfinished, changed, or made from
    /// other data or with different settings, or that shards are missing
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Process only shard I of N, such as 2/3; `bpo pair` takes the files of all shards
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Output: answers as JSON lines. An unfinished file is continued
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
