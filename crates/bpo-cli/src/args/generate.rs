//! `bpo generate`

use std::path::PathBuf;

use clap::Args;

use super::{Config, Images, Model, SeedArg, batch_size, new_tokens, number};

/// `bpo generate`
#[derive(Debug, Args)]
pub struct GenerateCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub seed: SeedArg,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    /// Questions {"id", "image", "prompt"}, as JSON lines or a JSON array
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Maximum length of an answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = new_tokens)]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 is greedy decoding
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true, value_parser = number)]
    pub temperature: f64,
    /// Top-p (nucleus) sampling: probability mass of the tokens to sample from
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number)]
    pub top_p: f64,
    /// Number of questions answered at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch_size)]
    pub batch_size: usize,
}
