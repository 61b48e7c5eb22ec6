//! `bpo convert`

use std::path::PathBuf;

use bpo::pairs::format::Format;
use clap::Args;

/// `bpo convert`
#[derive(Debug, Args)]
pub struct ConvertCommand {
    /// File to read: JSON, JSON lines or Parquet; JSON may be compressed with gzip or zstd
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// File to write. The end of its name decides: .json, .jsonl or .parquet, and .gz or .zst after
    /// the first two
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Format of OUT: llava, bpo, pairs, trl, trl-plain, llama-factory, ms-swift, povid, rlhf-v or
    /// rlaif-v
    #[arg(long, value_name = "FORMAT")]
    pub to: Format,
    /// Format of IN [default: that of the keys of its first records]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Image root: images in the rows of a Parquet file are written there, and a Parquet file that is
    /// written gets the bytes of images from there (otherwise their paths)
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Skip pairs with an answer of more words
    #[arg(long, value_name = "N", value_parser = super::positive)]
    pub max_words: Option<usize>,
}
