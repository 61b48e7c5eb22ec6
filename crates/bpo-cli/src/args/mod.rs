//! The command line.

mod chosen;
mod convert;
#[cfg(feature = "model")]
mod convert_checkpoint;
mod distort;
mod eval;
#[cfg(feature = "model")]
mod generate;
mod grade;
mod inject;
mod inspect;
mod judge;
#[cfg(feature = "model")]
mod merge;
mod pair;
#[cfg(feature = "model")]
mod quickstart;
#[cfg(feature = "model")]
mod rounds;
#[cfg(feature = "model")]
mod run;
#[cfg(feature = "model")]
mod score;
mod settings;
mod stats;
#[cfg(feature = "model")]
mod train;
mod weaken;

#[cfg(not(feature = "model"))]
use std::ffi::OsString;
use std::str::FromStr;

use bpo::pairs::Limits;
use clap::error::ErrorKind;
#[cfg(not(feature = "model"))]
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

pub use chosen::{Chosen, ChosenTruth};
pub use convert::ConvertCommand;
#[cfg(feature = "model")]
pub use convert_checkpoint::ConvertCheckpointCommand;
pub use distort::DistortCommand;
pub use eval::{
    AmberCommand, AucCommand, BootstrapArgs, ChairCommand, EvalCommand, PopeCommand, QuestionsCommand,
    RankingCommand, TruthArgs,
};
#[cfg(feature = "model")]
pub use generate::GenerateCommand;
pub use grade::{Grader, MmVetCommand, MmhalCommand};
pub use inject::{Inject, InjectCommand};
pub use inspect::InspectCommand;
pub use judge::{Accept, Judge, JudgeCommand};
#[cfg(feature = "model")]
pub use merge::MergeCommand;
pub use pair::{ContrastArg, PairCommand, Select};
#[cfg(feature = "model")]
pub use quickstart::QuickstartArgs;
#[cfg(feature = "model")]
pub use rounds::RoundsCommand;
#[cfg(feature = "model")]
pub use run::RunArgs;
#[cfg(feature = "model")]
pub use score::ScoreCommand;
#[cfg(feature = "model")]
pub use settings::{Checkpoint, Model};
pub use settings::{Config, Data, Images, PresetArg, SeedArg};
pub use stats::StatsCommand;
#[cfg(feature = "model")]
pub use train::{Train, TrainCommand};
pub use weaken::{Weaken, WeakenCommand};

/// Bootstrapped Preference Optimization (BPO) of vision-language models.
#[derive(Debug, Parser)]
#[cfg_attr(
    feature = "model",
    command(
        about = "Bootstrapped Preference Optimization (BPO): trains an adapter that makes a vision-language \
        model hallucinate less, from a checkpoint and annotated images"
    )
)]
#[cfg_attr(
    not(feature = "model"),
    command(
        about = "Bootstrapped Preference Optimization (BPO), without local models: makes preference pairs for any trainer, \
        with models behind servers"
    )
)]
#[command(name = "bpo", version, propagate_version = true, args_override_self = true, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the command line of the process.
    ///
    /// # Errors
    /// Returns the error of clap. A flag of a local model in a build without models names the feature
    /// that it needs.
    pub fn read() -> Result<Self, clap::Error> {
        Self::try_parse().and_then(Self::checked).map_err(|error| model_flag(&error).unwrap_or(error))
    }

    /// Refuses a second `--distortion` of `bpo distort`. clap would take the last one without a
    /// word, while `bpo run` takes a list.
    ///
    /// # Errors
    /// Returns the error of clap.
    fn checked(self) -> Result<Self, clap::Error> {
        match &self.command {
            Command::Distort(DistortCommand { distortion, .. }) if distortion.len() > 1 => {
                let message = "the argument '--distortion <TEXT>' can be given once to `bpo distort`: join stages by `+`";
                Err(Self::command().error(ErrorKind::ArgumentConflict, message))
            }
            #[cfg(not(feature = "model"))]
            Command::Other(words) => Err(not_built(words)),
            _ => Ok(self),
        }
    }
}

/// A command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all of BPO in minutes, on a small model and a small synthetic data set that the program
    /// contains
    #[cfg(feature = "model")]
    Quickstart(QuickstartArgs),
    /// Run all stages: weaken, inject, pair, train; with a judge, `judge` comes after weaken. The same command resumes an interrupted run
    #[cfg(feature = "model")]
    Run(Box<RunArgs>),
    /// Print the rounds of `bpo run --rounds`, as a table and as JSON lines
    #[cfg(feature = "model")]
    Rounds(RoundsCommand),
    /// Generate answers about weakened images, and with `--chosen` about the images as they are
    Weaken(WeakenCommand),
    /// Inject errors into the annotated answers
    Inject(InjectCommand),
    /// Score the answers of `weaken` by a judge: a model behind a server, or the model itself
    Judge(Box<JudgeCommand>),
    /// Build preference pairs from the answers
    Pair(PairCommand),
    /// Write an HTML page that shows pairs with their images
    Inspect(InspectCommand),
    /// Print statistics of pairs as JSON: lengths, kinds, near-duplicates, injected words
    Stats(StatsCommand),
    /// Convert a file of samples, records or pairs to the format of a trainer
    Convert(ConvertCommand),
    /// Train an adapter on preference pairs
    #[cfg(feature = "model")]
    Train(TrainCommand),
    /// Print the log-probabilities of the answers of pairs as JSON lines
    #[cfg(feature = "model")]
    Score(ScoreCommand),
    /// Print the model's answers to questions about images as JSON lines
    #[cfg(feature = "model")]
    Generate(GenerateCommand),
    /// Distort an image or a folder of images to PNG files, or draw a sheet of all distortions
    Distort(DistortCommand),
    /// Merge an adapter into its checkpoint
    #[cfg(feature = "model")]
    Merge(MergeCommand),
    /// Convert a checkpoint of LLaVA's original code to the format of transformers
    #[cfg(feature = "model")]
    ConvertCheckpoint(ConvertCheckpointCommand),
    /// Measure hallucination in answers, and the ranking of recommendations
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Any other command, to name the feature that it needs.
    #[cfg(not(feature = "model"))]
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// The error for a command that this build does not have.
#[cfg(not(feature = "model"))]
fn not_built(words: &[OsString]) -> clap::Error {
    const COMMANDS: [&str; 8] =
        ["quickstart", "run", "rounds", "train", "score", "generate", "merge", "convert-checkpoint"];
    let name = words.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let message = if COMMANDS.contains(&&*name) {
        format!("`bpo {name}` needs a program built with `--features model`")
    } else {
        format!("unrecognized subcommand {name:?}")
    };
    Cli::command().error(ErrorKind::InvalidSubcommand, message)
}

/// The error for a flag that this build does not have, if other builds have it.
#[cfg(not(feature = "model"))]
fn model_flag(error: &clap::Error) -> Option<clap::Error> {
    const COMMANDS: [&str; 4] = ["weaken", "judge", "inject", "pair"];
    const FLAGS: [&str; 6] =
        ["--model", "--device", "--dtype", "--adapter", "--inject-model", "--inject-with-model"];
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let command = std::env::args_os().nth(1)?;
    let is_known = COMMANDS.into_iter().any(|name| command == name) && FLAGS.contains(&flag.as_str());
    if error.kind() != ErrorKind::UnknownArgument || !is_known {
        return None;
    }
    let message = format!("`{flag}` needs a program built with `--features model`");
    Some(Cli::command().error(ErrorKind::UnknownArgument, message))
}

/// A build with models has all flags.
#[cfg(feature = "model")]
fn model_flag(_: &clap::Error) -> Option<clap::Error> {
    None
}

/// Parses a whole number, at least 1.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Checks a number against a limit. `flag` is named in the error.
fn at_most(flag: &str, number: usize, limit: usize) -> Result<usize, String> {
    Limits::check(flag, number, limit).map(|()| number).map_err(|error| error.to_string())
}

/// Parses a number of items of a batch.
#[cfg(feature = "model")]
fn batch_size(text: &str) -> Result<usize, String> {
    at_most("--batch-size", positive(text)?, Limits::DEFAULT.batch_size)
}

/// Parses a number of tokens of an answer.
#[cfg(feature = "model")]
fn new_tokens(text: &str) -> Result<usize, String> {
    at_most("--max-new-tokens", positive(text)?, Limits::DEFAULT.new_tokens)
}

/// Parses a whole number, at least 0.
fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number, at least 0".to_owned())
}

/// Parses a number.
#[cfg(feature = "model")]
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}
