//! `bpo quickstart`

use std::path::PathBuf;

use bpo::DeviceSpec;
use clap::Args;

/// `bpo quickstart`
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Directory of the run. Data and trained adapters in it are reused; the models answer the
    /// questions again
    #[arg(long, value_name = "DIR", default_value = "target/quickstart")]
    pub out: PathBuf,
    /// flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
    /// Random seed of everything but the evaluation images
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = clap::value_parser!(u64).range(..1 << 62))]
    pub seed: u64,
    /// Another base model of this data set, as the example `world_model` trains it. With
    /// --ablation, repeat it for one base model per seed
    #[arg(long, value_name = "DIR")]
    pub base: Vec<PathBuf>,
    /// Fraction of the images, for a quick try: too little is trained then to show an effect
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = fraction, allow_negative_numbers = true)]
    pub scale: f64,
    /// Evaluate on the validation splits, to choose settings
    #[arg(long)]
    pub validation: bool,
    /// Train on each kind of rejected answer alone as well, with other chosen answers, in rounds and
    /// after supervised fine-tuning: 20 minutes or more for each seed
    #[arg(long)]
    pub ablation: bool,
    /// Number of runs of the ablation, with seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 3, requires = "ablation",
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
}

fn fraction(text: &str) -> Result<f64, String> {
    let expected = "expected a number above 0 and at most 10";
    let value: f64 = text.parse().map_err(|_| expected.to_owned())?;
    if value > 0.0 && value <= 10.0 { Ok(value) } else { Err(expected.to_owned()) }
}
