//! `bpo train`

use std::path::PathBuf;

use bpo::dpo::loss::Loss;
use clap::Args;

use super::{Config, Images, Model, PresetArg, SeedArg, number, whole};

/// Flags of training.
#[derive(Debug, Args)]
pub struct Train {
    /// Peak learning rate [default: 2e-6]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub learning_rate: Option<f64>,
    /// Number of epochs [default: 2]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub epochs: Option<usize>,
    /// Number of optimizer steps, instead of --epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs", value_parser = whole::<usize>)]
    pub max_steps: Option<usize>,
    /// Number of pairs in one forward pass [default: 4]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub batch_size: Option<usize>,
    /// Number of forward passes in one optimizer step [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub gradient_accumulation_steps: Option<usize>,
    /// Write the metrics for TensorBoard, too: to tensorboard/ in the run directory
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tensorboard: Option<bool>,
    /// Loss: sigmoid, hinge, ipo, mpo, mdpo, chip, symmpo, ...; the guide has a page of all losses [default:
    /// sigmoid]
    #[arg(long, value_name = "NAME")]
    pub loss: Option<Loss>,
    /// Strength of the constraint to the reference [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub beta: Option<f64>,
    /// Another reference model, given like --model [default: the model without its adapter]
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<PathBuf>,
    /// PEFT adapter of the reference
    #[arg(long, value_name = "DIR")]
    pub reference_adapter: Option<PathBuf>,
    /// Allow a reference that differs from the model before the first step; otherwise that is an
    /// error
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub reference_differs: Option<bool>,
    /// Cache file of the reference's log-probabilities. Missing ones are computed before training
    #[arg(long, value_name = "FILE")]
    pub reference_cache: Option<PathBuf>,
    /// Pairs to evaluate on
    #[arg(long, value_name = "FILE")]
    pub eval_pairs: Option<PathBuf>,
    /// Fraction of the pairs to evaluate on instead of training on them [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub eval_fraction: Option<f64>,
    /// Number of steps between evaluations [default: 100]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub eval_every: Option<usize>,
    /// Number of steps between sample answers in samples.jsonl [default: no samples]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub sample_every: Option<usize>,
    /// Rank of the adapter [default: 32]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub lora_r: Option<usize>,
    /// Alpha of the adapter; the adapter is scaled by alpha / rank [default: 256]
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = number)]
    pub lora_alpha: Option<f64>,
    /// Train the weights of the language model and the projector instead of an adapter; see
    /// [full_finetune] of the settings
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", conflicts_with_all = ["lora_r", "lora_alpha"])]
    pub full_finetune: Option<bool>,
    /// Maximum length of a sequence in tokens, image features included [default: the model's context]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub max_length: Option<usize>,
    /// Recompute each layer in the backward pass: less memory, more time, the same results
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub gradient_checkpointing: Option<bool>,
    /// Number of steps between checkpoints [default: 100]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub save_every: Option<usize>,
}

/// `bpo train`
#[derive(Debug, Args)]
pub struct TrainCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub seed: SeedArg,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub train: Train,
    /// Pairs, in any format that `bpo convert` reads
    // a list, so that a second file is refused and not ignored
    #[arg(long, value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// Directory for checkpoints, metrics and the result. Unfinished training in it is resumed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Estimate memory, steps and time from three steps, write nothing, and print the estimate
    #[arg(long)]
    pub dry_run: bool,
}
