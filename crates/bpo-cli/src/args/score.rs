//! `bpo score`

use std::path::PathBuf;

use clap::Args;

use super::{Config, Images, Model, batch_size};

/// `bpo score`
#[derive(Debug, Args)]
pub struct ScoreCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    /// Pairs, in any format that `bpo convert` reads
    // a list, so that a second file is refused and not ignored
    #[arg(long, value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// Number of pairs in one forward pass
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = batch_size)]
    pub batch_size: usize,
    /// Write the log-probabilities to a cache file as well, for `train --reference-cache`
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
}
