//! `bpo judge`

use std::path::PathBuf;

use bpo::{ChosenAnswer, JudgeMethod};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

#[cfg(feature = "model")]
use super::Model;
use super::{Config, Data, Images, PresetArg, SeedArg};

/// Flags of the judge.
#[derive(Debug, Args)]
pub struct Judge {
    /// OpenAI-compatible server with the judge. Without one, the model of --model judges
    #[arg(long, value_name = "URL")]
    pub judge_server: Option<String>,
    /// Model name on that server [default: the one in the settings file, else "default"]
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// How an answer is scored: as a whole, or by the number of its wrong claims [default: score]
    #[arg(long, value_name = "METHOD", value_parser = method())]
    pub judge_method: Option<JudgeMethod>,
    /// Show the images to the judge, which is a vision-language model
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub judge_images: Option<bool>,
}

/// The score from which an own answer is right.
#[derive(Debug, Args)]
pub struct Accept {
    /// Score of the judge from which an own answer is right, for --chosen revised without --truth
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub accept_from: Option<f64>,
}

fn method() -> impl TypedValueParser<Value = JudgeMethod> {
    PossibleValuesParser::new(JudgeMethod::ALL.map(JudgeMethod::as_str))
        .map(|name| JudgeMethod::ALL.into_iter().find(|method| method.as_str() == name).unwrap_or_default())
}

/// `bpo judge`
#[derive(Debug, Args)]
pub struct JudgeCommand {
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
    /// Chosen answers of the pairs that the scores are for: judged, or revised with --accept-from
    /// [default: judged]
    #[arg(long, value_name = "ANSWER", value_parser = super::chosen::parser())]
    pub chosen: Option<ChosenAnswer>,
    #[command(flatten)]
    pub accept: Accept,
    #[command(flatten)]
    pub judge: Judge,
    /// Finished answers of `weaken`. Repeat it for the files of all shards
    #[arg(long, value_name = "FILE")]
    pub answers: Vec<PathBuf>,
    /// Use answer files although their manifests say that they are unfinished, changed, or made from
    /// other data or with different settings, or that shards are missing
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Try the answers again that an earlier command skipped for a reason that can change, such as a
    /// request that the server refused. All other lines of the file are kept
    #[arg(long)]
    pub retry_skipped: bool,
    /// Output: the answers with their scores as JSON lines. An unfinished file is continued
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
