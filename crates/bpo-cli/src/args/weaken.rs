//! `bpo weaken`

use std::path::PathBuf;

use bpo::distort::Distortion;
use bpo::stages::Shard;
use clap::Args;

#[cfg(feature = "model")]
use super::Model;
use super::{Chosen, Config, Data, Images, PresetArg, SeedArg, whole};

/// Flags of image weakening.
#[derive(Debug, Args)]
pub struct Weaken {
    /// Distortion of the images, such as blur:sigma=4+diffusion-noise:step=500. Repeat it for one
    /// more answer about each image; `bpo help distort` lists the families [default:
    /// diffusion-noise:step=900]
    #[arg(long, value_name = "TEXT", conflicts_with = "noise_step")]
    pub distortion: Vec<Distortion>,
    /// Same as --distortion diffusion-noise:step=N
    #[arg(long, value_name = "N", value_parser = noise)]
    pub noise_step: Option<Distortion>,
    /// Number of answers for each distortion of an image. With --chosen judged or revised it can be 0, so
    /// that the model answers about the images as they are only [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub samples: Option<usize>,
    /// Number of the model's own answers about each image, for --chosen judged and revised [default: 1]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub own_samples: Option<usize>,
    /// Number of sentences to cut off the end of each annotated answer; the model continues the rest.
    /// Use it with --distortion clean for answers about the image as it is [default: 0]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub cut_sentences: Option<usize>,
    /// Minimum number of sentences of an annotated answer, with --cut-sentences [default: one more than
    /// are cut off]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub min_sentences: Option<usize>,
    /// Sampling temperature of the answers [default: 0.2]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Maximum length of an answer about a weakened image, in tokens [default: 1024]
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub max_new_tokens: Option<usize>,
    /// OpenAI-compatible server with a vision-language model, which answers about the weakened
    /// images in place of a local model
    #[arg(long, value_name = "URL")]
    pub vlm_server: Option<String>,
    /// Model name on that server [default: the one in the settings file, else "default"]
    #[arg(long, value_name = "NAME")]
    pub vlm_model: Option<String>,
}

fn noise(step: &str) -> Result<Distortion, bpo::distort::DistortError> {
    format!("diffusion-noise:step={step}").parse()
}

/// `bpo weaken`
#[derive(Debug, Args)]
pub struct WeakenCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub seed: SeedArg,
    #[cfg(feature = "model")]
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub weaken: Weaken,
    #[command(flatten)]
    pub chosen: Chosen,
    /// Process only shard I of N, such as 2/3; `bpo pair` takes the files of all shards
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Try the answers again that an earlier command skipped for a reason that can change: an image
    /// that was missing or unreadable, or a request that the server refused. All other lines of the
    /// file are kept
    #[arg(long)]
    pub retry_skipped: bool,
    /// Output: answers as JSON lines. An unfinished file is continued
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
