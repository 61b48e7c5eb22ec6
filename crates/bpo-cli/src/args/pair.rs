//! `bpo pair`

use std::path::PathBuf;

use bpo::pairs::{ContrastChoice, PairRule};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Accept, Chosen, ChosenTruth, Config, Data, Images, PresetArg, SeedArg};

/// `bpo pair`
#[derive(Debug, Args)]
pub struct PairCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub preset: PresetArg,
    #[command(flatten)]
    pub seed: SeedArg,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub images: Images,
    /// Answers of `weaken`, `judge` or `inject`. Repeat it for several files, such as those of all shards,
    /// in any order
    #[arg(long, value_name = "FILE")]
    pub answers: Vec<PathBuf>,
    /// Use answer files although their manifests say that they are unfinished, changed, or made from
    /// other data or with different settings, or that shards are missing
    #[arg(long)]
    pub allow_mismatch: bool,
    #[command(flatten)]
    pub chosen: Chosen,
    #[command(flatten)]
    pub truth: ChosenTruth,
    #[command(flatten)]
    pub accept: Accept,
    #[command(flatten)]
    pub select: Select,
    #[command(flatten)]
    pub contrast: ContrastArg,
    /// Output: pairs as JSON lines
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Output: pairs of the images held out by --eval-percent
    #[arg(long, value_name = "FILE")]
    pub eval_out: Option<PathBuf>,
}

/// Flags of the selection of pairs.
#[derive(Debug, Args)]
pub struct Select {
    /// Pairs of a sample: every two answers with different scores, the best answer against the worst
    /// one, or the best answer against the worst one of each kind [default: all]
    #[arg(long, value_parser = rule_parser())]
    pub rule: Option<PairRule>,
    /// Maximum number of pairs of a sample. The seed selects them
    #[arg(long, value_name = "N", value_parser = super::whole::<usize>)]
    pub max_per_sample: Option<usize>,
    /// Leave out rejected answers of a sample that are similar to an earlier one: 1 finds those that
    /// differ in case and punctuation, 0.9 (without a number) those with one of ten words changed
    #[arg(long, value_name = "SIMILARITY", num_args = 0..=1, default_missing_value = "0.9")]
    pub dedup: Option<f64>,
    /// Leave out weakened answers that reached the maximum length
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_cut: Option<bool>,
    /// Leave out weakened answers that decline to answer, such as "I'm sorry, I cannot see ..."
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_refusals: Option<bool>,
    /// Percent of the samples of a source that make pairs. The source is the first directory of the
    /// image's path; * stands for all others. Repeat it for several sources
    #[arg(long, value_name = "SOURCE=PERCENT", value_parser = subset)]
    pub subset: Vec<(String, f64)>,
    /// Percent of the images whose pairs are written to --eval-out; no image is in both files
    #[arg(long, value_name = "PERCENT")]
    pub eval_percent: Option<f64>,
    /// Maximum number of tokens of a prompt with its images and one answer, counted with the
    /// processor of the model. Needs --images
    #[arg(long, value_name = "N", value_parser = super::whole::<usize>)]
    pub max_tokens: Option<usize>,
    /// Model for --max-tokens. Its weights are not read
    #[cfg(feature = "model")]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
}

/// The flag of contrasts.
#[derive(Debug, Args)]
pub struct ContrastArg {
    /// Other images of each pair, with another annotated answer to its question, for the loss symmpo:
    /// those with the most similar answer, or any [default: none]
    #[arg(long, value_parser = contrast_parser())]
    pub contrast: Option<ContrastChoice>,
}

fn contrast_parser() -> impl TypedValueParser<Value = ContrastChoice> {
    let names = ContrastChoice::ALL.map(ContrastChoice::as_str);
    PossibleValuesParser::new(names).map(|name| {
        ContrastChoice::ALL.into_iter().find(|choice| choice.as_str() == name).unwrap_or_default()
    })
}

fn rule_parser() -> impl TypedValueParser<Value = PairRule> {
    let names = PairRule::ALL.map(PairRule::as_str);
    PossibleValuesParser::new(names)
        .map(|name| PairRule::ALL.into_iter().find(|rule| rule.as_str() == name).unwrap_or_default())
}

/// Reads `SOURCE=PERCENT`.
fn subset(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').and_then(|(source, percent)| {
        Some((source.to_owned(), percent.trim_end_matches('%').trim().parse().ok()?))
    });
    parts
        .filter(|(source, _)| !source.is_empty())
        .ok_or_else(|| "expected SOURCE=PERCENT, such as coco=50".to_owned())
}
