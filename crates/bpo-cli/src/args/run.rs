//! `bpo run`

use std::path::PathBuf;

use clap::Args;

use super::{
    Accept, Chosen, ChosenTruth, Config, ContrastArg, Data, Images, Inject, Judge, Model, PresetArg, SeedArg,
    Train, Weaken,
};

/// `bpo run`
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub seed: SeedArg,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub truth: ChosenTruth,
    #[command(flatten)]
    pub accept: Accept,
    #[command(flatten)]
    pub weaken: Weaken,
    #[command(flatten)]
    pub judge: Judge,
    #[command(flatten)]
    pub inject: Inject,
    #[command(flatten)]
    pub contrast: ContrastArg,
    #[command(flatten)]
    pub train: Train,
    /// Number of rounds. Each starts from the result of the one before, in OUT/round-0, OUT/round-1, ...
    #[arg(long, value_name = "N", value_parser = super::positive)]
    pub rounds: Option<usize>,
    /// Directory of the run. An unfinished run in it is resumed
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
