//! Flags of the chosen answers.

use std::path::PathBuf;

use bpo::ChosenAnswer;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The chosen answers of the pairs.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Chosen answers of the pairs: the annotated ones, the model's own about the images as they are,
    /// the own ones that are right (by `--truth` or `--accept-from`) and else the annotated ones, or
    /// those with the higher score of `bpo judge` [default: annotated]
    #[arg(long, value_name = "ANSWER", value_parser = parser())]
    pub chosen: Option<ChosenAnswer>,
}

/// The ground truth for `--chosen revised`.
#[derive(Debug, Args)]
pub struct ChosenTruth {
    /// Objects of each image {"image", "objects"} for --chosen revised, as JSON lines or a JSON array
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// COCO annotations for --chosen revised: instances and, with --objects, captions. Repeat it for
    /// several files
    #[arg(long, value_name = "FILE")]
    pub coco: Vec<PathBuf>,
    /// Objects and their synonyms for --chosen revised: one object per line, separated by commas, as
    /// CHAIR's synonyms.txt [default: the names in the truth]
    #[arg(long, value_name = "FILE")]
    pub objects: Option<PathBuf>,
}

pub(super) fn parser() -> impl TypedValueParser<Value = ChosenAnswer> {
    PossibleValuesParser::new(ChosenAnswer::ALL.map(ChosenAnswer::as_str))
        .map(|name| ChosenAnswer::ALL.into_iter().find(|chosen| chosen.as_str() == name).unwrap_or_default())
}
