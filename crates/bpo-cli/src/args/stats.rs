//! `bpo stats`

use std::path::PathBuf;

use clap::Args;

/// `bpo stats`
#[derive(Debug, Args)]
pub struct StatsCommand {
    /// Pairs, in any format that `bpo convert` reads
    #[arg(value_name = "PAIRS")]
    pub pairs: PathBuf,
    /// Write a data card to a Markdown file as well
    #[arg(long, value_name = "FILE")]
    pub card: Option<PathBuf>,
    /// Title of the data card [default: the name of the file of pairs]
    #[arg(long, value_name = "TEXT", requires = "card")]
    pub title: Option<String>,
}
