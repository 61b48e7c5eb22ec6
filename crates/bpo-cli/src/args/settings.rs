//! Flags that several commands share: the settings file, the checkpoint, the data.

use std::path::PathBuf;

use bpo::Preset;
#[cfg(feature = "model")]
use bpo::{Devices, Dtype};
use clap::Args;

/// The settings file.
#[derive(Debug, Args)]
pub struct Config {
    /// TOML file with settings; flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The preset of commands that it changes.
#[derive(Debug, Args)]
pub struct PresetArg {
    /// A published recipe, for settings that neither the file nor a flag sets: script (BPO, rank 32),
    /// paper (BPO, rank 64), seva, mdpo, chip, symmpo, hanorec, llava-hound or rlaif-v
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
}

/// The seed of commands that draw random numbers.
#[derive(Debug, Args)]
pub struct SeedArg {
    /// Random seed [default: 42]
    #[arg(long, value_name = "N", value_parser = super::whole::<u64>)]
    pub seed: Option<u64>,
}

/// The checkpoint and the device that it is loaded to.
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Checkpoint {
    #[cfg_attr(
        feature = "hub",
        doc = "Vision-language model: a Hugging Face directory, or a name on the Hugging Face Hub, ORG/NAME or \
        ORG/NAME@REVISION, which is downloaded to the Hugging Face cache"
    )]
    #[cfg_attr(not(feature = "hub"), doc = "Hugging Face directory of a vision-language model")]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu, or several separated by commas [default: flex]
    // a list, so that a second one is refused and not ignored
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<Devices>,
}

/// The model: checkpoint, number type and adapter.
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Model {
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    /// f32, bf16 or f16 [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// PEFT adapter of the model. `train` and `run` continue to train it; the reference is the
    /// model with it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

/// The annotated data.
#[derive(Debug, Args)]
pub struct Data {
    /// Conversations in LLaVA's visual-instruction JSON, or with `messages`, or another format that
    /// `bpo convert` reads
    // a list, so that a second file is refused and not ignored
    #[arg(long, value_name = "FILE")]
    pub data: Vec<PathBuf>,
}

/// The image root.
#[derive(Debug, Args)]
pub struct Images {
    /// Directory that image paths are relative to
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}
