//! The command line.

mod distort;
mod eval;
mod generate;
mod inject;
mod merge;
mod pair;
mod quickstart;
mod run;
mod score;
mod settings;
mod train;
mod weaken;

use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

pub use distort::DistortCommand;
pub use eval::{BootstrapArgs, ChairCommand, EvalCommand, PopeCommand, QuestionsCommand, TruthArgs};
pub use generate::GenerateCommand;
pub use inject::{Inject, InjectCommand};
pub use merge::MergeCommand;
pub use pair::PairCommand;
pub use quickstart::QuickstartArgs;
pub use run::RunArgs;
pub use score::ScoreCommand;
pub use settings::{Checkpoint, Config, Data, Images, Model, PresetArg, SeedArg};
pub use train::{Train, TrainCommand};
pub use weaken::{Weaken, WeakenCommand};

/// Bootstrapped Preference Optimization (BPO): trains an adapter that makes a LLaVA-1.5 model hallucinate less, from a
/// checkpoint and annotated images.
#[derive(Debug, Parser)]
#[command(name = "bpo", version, propagate_version = true, args_override_self = true, max_term_width = 100)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Refuses a second `--distortion` of `bpo distort`. clap would take the last one without a word, while
    /// `bpo run` takes a list.
    ///
    /// # Errors
    /// An error as clap makes it.
    pub fn checked(self) -> Result<Self, clap::Error> {
        match &self.command {
            Command::Distort(DistortCommand { distortion, .. }) if distortion.len() > 1 => {
                let message = "the argument '--distortion <TEXT>' can be given once to `bpo distort`: join stages by `+`";
                Err(Self::command().error(ErrorKind::ArgumentConflict, message))
            }
            _ => Ok(self),
        }
    }
}

/// A command of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run all of BPO in minutes, on a small model and a small synthetic data set that the program contains
    Quickstart(QuickstartArgs),
    /// Run all stages: weaken, inject, pair, train. The same command resumes an interrupted run
    Run(RunArgs),
    /// Generate answers about weakened images
    Weaken(WeakenCommand),
    /// Inject errors into the annotated answers
    Inject(InjectCommand),
    /// Build preference pairs from the answers
    Pair(PairCommand),
    /// Train an adapter on preference pairs
    Train(TrainCommand),
    /// Print the log-probabilities of the answers of pairs as JSON lines
    Score(ScoreCommand),
    /// Print the model's answers to questions about images as JSON lines
    Generate(GenerateCommand),
    /// Distort an image or a folder of images to PNG files, or draw a sheet of all distortions
    Distort(DistortCommand),
    /// Merge an adapter into its checkpoint
    Merge(MergeCommand),
    /// Measure hallucination in answers
    #[command(subcommand)]
    Eval(EvalCommand),
}

/// Parses a whole number, at least 1.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// Parses a whole number, at least 0.
fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number, at least 0".to_owned())
}

/// Parses a number.
fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number".to_owned())
}
