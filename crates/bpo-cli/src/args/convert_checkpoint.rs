//! `bpo convert-checkpoint`

use std::path::PathBuf;

use bpo::DeviceSpec;
use clap::Args;

/// `bpo convert-checkpoint`
#[derive(Debug, Args)]
pub struct ConvertCheckpointCommand {
    /// Checkpoint of LLaVA's original code, with safetensors files and tokenizer.json
    #[arg(value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Hugging Face directory of the vision tower that mm_vision_tower in config.json names
    #[arg(long, value_name = "DIR")]
    pub vision_tower: PathBuf,
    /// Directory for the converted checkpoint
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Device that the shapes of the weights are checked on [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
}
