//! `bpo eval mm-vet` and `bpo eval mmhal`: answers that a judge grades.

use std::path::PathBuf;

use bpo::pairs::Limits;
use clap::Args;

use super::{BootstrapArgs, Config, at_most, positive};

/// `bpo eval mm-vet`
#[derive(Debug, Args)]
pub struct MmVetCommand {
    /// MM-Vet's mm-vet.json
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Answers {"v1_0": "..."} as one JSON object, or {"id", "text"} as JSON lines or a JSON array, or those
    /// of `bpo generate`. Repeat it to compare files: the others with the first
    #[arg(long, value_name = "FILE", required_unless_present = "graded")]
    pub answers: Vec<PathBuf>,
    /// Grades made elsewhere, in place of --answers and a judge: the *-grade-*.json of MM-Vet's script.
    /// Repeat it to compare files
    #[arg(long, value_name = "FILE", conflicts_with_all = ["answers", "config", "judge_server", "judge_model", "out", "prompt", "retry_skipped"])]
    pub graded: Vec<PathBuf>,
    /// Number of grades of each answer; with --graded, the first N of each [default: 1; with --graded,
    /// all]
    #[arg(long, value_name = "N", value_parser = runs)]
    pub runs: Option<usize>,
    #[command(flatten)]
    pub grader: Grader,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval mmhal`
#[derive(Debug, Args)]
pub struct MmhalCommand {
    /// MMHal-Bench's response_template.json with the answers under `model_answer`; with --questions, {"text"}
    /// as JSON lines or a JSON array, or the answers of `bpo generate`. Repeat it to compare files: the
    /// others with the first
    #[arg(long, value_name = "FILE", required_unless_present = "replies")]
    pub answers: Vec<PathBuf>,
    /// MMHal-Bench's response_template.json, if --answers has the answers alone
    #[arg(long, value_name = "FILE", conflicts_with = "replies")]
    pub questions: Option<PathBuf>,
    /// Replies of a judge made elsewhere, in place of --answers and a judge: what MMHal-Bench's script
    /// writes (its --evaluation). Repeat it to compare files
    #[arg(long, value_name = "FILE", conflicts_with_all = ["answers", "config", "judge_server", "judge_model", "out", "prompt", "retry_skipped"])]
    pub replies: Vec<PathBuf>,
    /// Count a reply without a clear rating as 0, as the published script does. Without it such an answer is
    /// left out
    #[arg(long)]
    pub as_published: bool,
    #[command(flatten)]
    pub grader: Grader,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// The judge that grades answers, and the file of its grades.
#[derive(Debug, Args)]
pub struct Grader {
    #[command(flatten)]
    pub config: Config,
    /// OpenAI-compatible server with the judge, a text model
    #[arg(long, value_name = "URL")]
    pub judge_server: Option<String>,
    /// Model name on that server [default: the one in the settings file, else "default"]
    #[arg(long, value_name = "NAME")]
    pub judge_model: Option<String>,
    /// Output: the answers with their grades as JSON lines. An unfinished file is continued. Repeat it
    /// as often as --answers
    #[arg(long, value_name = "FILE")]
    pub out: Vec<PathBuf>,
    /// The prompt of the judge: a text with {{ question }}, {{ annotation }} (the correct answer),
    /// {{ answer }} and, for mmhal, {{ image_content }} [default: our own, whose scores cannot be
    /// compared with published ones]
    #[arg(long, value_name = "FILE")]
    pub prompt: Option<PathBuf>,
    /// Try the answers again that an earlier command could not grade for a reason that can change, such as
    /// a request that the server refused
    #[arg(long)]
    pub retry_skipped: bool,
}

fn runs(text: &str) -> Result<usize, String> {
    at_most("--runs", positive(text)?, Limits::DEFAULT.samples)
}
