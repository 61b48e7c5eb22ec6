//! `bpo rounds`

use std::path::PathBuf;

use clap::Args;

/// `bpo rounds`
#[derive(Debug, Args)]
pub struct RoundsCommand {
    /// Directory of `bpo run --rounds`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
