//! `bpo inspect`

use std::path::PathBuf;

use clap::Args;

use super::{Config, Images, SeedArg, positive};

/// `bpo inspect`
#[derive(Debug, Args)]
pub struct InspectCommand {
    /// Pairs, in any format that `bpo convert` reads
    #[arg(value_name = "PAIRS")]
    pub pairs: PathBuf,
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub images: Images,
    // that of the run that made the pairs: the noise of weakened images
    #[command(flatten)]
    pub seed: SeedArg,
    /// Output: an HTML page. Its files are written into a directory beside it, such as
    /// `gallery_files` for `gallery.html`
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Maximum number of pairs. Of a larger file, pairs at equal distances are shown
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    pub max_pairs: usize,
}
