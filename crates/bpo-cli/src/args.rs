//! The command line.

#[cfg(not(feature = "model"))]
use std::ffi::OsString;
use std::fmt::Write;
use std::num::NonZero;
use std::path::PathBuf;

use bpo::Preset;
use bpo::distort::sheet::MAX_THUMBNAIL;
use bpo::distort::{Distortion, Family};
#[cfg(feature = "model")]
use bpo::dpo::loss::Loss;
use bpo::eval::pope::Negatives;
#[cfg(feature = "model")]
use bpo::{DeviceSpec, Dtype};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

/// Bootstrapped Preference Optimization: from a LLaVA-1.5 checkpoint and annotated images to an adapter that is less given
/// to saying what is not in the picture.
#[derive(Debug, Parser)]
#[command(name = "bpo", version, propagate_version = true, args_override_self = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Refuses what clap cannot see: that a flag is repeated which means a list elsewhere, where the last one would count.
    pub fn checked(self) -> Result<Self, clap::Error> {
        match &self.command {
            Command::Distort(DistortCommand { distortion, .. }) if distortion.len() > 1 => {
                let message = "the argument '--distortion <TEXT>' can be given once to `bpo distort`: join stages by `+`";
                Err(Self::command().error(ErrorKind::ArgumentConflict, message))
            }
            #[cfg(not(feature = "model"))]
            Command::Unknown(words) => Err(unknown(words)),
            _ => Ok(self),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work in minutes: all of BPO on a small model and a small world that the program carries
    #[cfg(feature = "model")]
    Quickstart(QuickstartArgs),
    /// All stages: weaken, inject, pair, train. Run it again to go on after any interruption
    #[cfg(feature = "model")]
    Run(RunArgs),
    /// Have the model answer about weakened images
    #[cfg(feature = "model")]
    Weaken(WeakenCommand),
    /// Put errors into annotated answers
    Inject(InjectCommand),
    /// Make preference pairs of the answers
    Pair(PairCommand),
    /// Train an adapter on preference pairs
    #[cfg(feature = "model")]
    Train(TrainCommand),
    /// Print the log-probabilities of the answers of pairs, one JSON line a pair
    #[cfg(feature = "model")]
    Score(ScoreCommand),
    /// Print the model's answers to questions about images, one JSON line an answer
    #[cfg(feature = "model")]
    Generate(GenerateCommand),
    /// Weaken an image, or all of a folder, to PNG files; or draw a sheet of ways to weaken one
    Distort(DistortCommand),
    /// Fold an adapter into its checkpoint
    #[cfg(feature = "model")]
    Merge(MergeCommand),
    /// Measure hallucination in answers
    #[command(subcommand)]
    Eval(EvalCommand),
    #[cfg(not(feature = "model"))]
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

/// Commands that this build does not have.
#[cfg(not(feature = "model"))]
const OF_MODELS: [&str; 7] = ["quickstart", "run", "weaken", "train", "score", "generate", "merge"];

/// The error of a command that this build does not have.
#[cfg(not(feature = "model"))]
fn unknown(words: &[OsString]) -> clap::Error {
    let name = words.first().map(|name| name.to_string_lossy()).unwrap_or_default();
    let message = if OF_MODELS.contains(&&*name) {
        format!("`bpo {name}` needs a program built with `--features model`")
    } else {
        format!("unrecognized subcommand {name:?}")
    };
    Cli::command().error(ErrorKind::InvalidSubcommand, message)
}

/// The settings' file, which flags override.
#[derive(Debug, Args)]
pub struct Config {
    /// Settings, as TOML; flags override them
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The authors' recipe, for what neither the file nor a flag sets: script (rank 32) or paper (rank 64)
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,
    /// Seed of everything random [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Hugging Face LLaVA-1.5 directory
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
}

#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Model {
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    /// f32, bf16 or f16 [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// PEFT adapter of the model; `train` and `run` continue from it, and their reference is the model with it
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Data {
    /// Conversations: LLaVA's visual-instruction JSON, or `messages`
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
}

#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Images {
    /// Directory that image paths are relative to
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}

#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Weaken {
    /// How images are weakened, as blur:sigma=4+diffusion-noise:step=500; may be repeated, for an answer each; `bpo help
    /// distort` lists the families [default: diffusion-noise:step=900]
    #[arg(long, value_name = "TEXT", conflicts_with = "noise_step")]
    pub distortion: Vec<Distortion>,
    /// Short for --distortion diffusion-noise:step=N
    #[arg(long, value_name = "N", value_parser = noise)]
    pub noise_step: Option<Distortion>,
    /// Answers for each distortion of an image [default: 1]
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
    /// Longest answer about a weakened image, in tokens [default: 1024]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Inject {
    /// OpenAI-compatible server that rewrites answers; without one, words that are common in the data are swapped in
    #[cfg(feature = "server")]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Name of the server's model [default: default]
    #[cfg(feature = "server")]
    #[arg(long, value_name = "NAME", requires = "server")]
    pub server_model: Option<String>,
}

#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct Train {
    /// Peak learning rate [default: 2e-6]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Passes through the pairs [default: 2]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Optimizer steps, instead of --epochs
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub max_steps: Option<usize>,
    /// Pairs in one forward pass [default: 4]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Forward passes in one optimizer step [default: 1]
    #[arg(long, value_name = "N")]
    pub gradient_accumulation_steps: Option<usize>,
    /// What is minimized: sigmoid, hinge, ipo, ..., or mpo, mdpo: see the guide's page of losses [default: sigmoid]
    #[arg(long, value_name = "NAME")]
    pub loss: Option<Loss>,
    /// How strongly the policy is held to the reference [default: 0.1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta: Option<f64>,
    /// Another model to be held to [default: the model itself, without its adapter]
    #[arg(long, value_name = "DIR")]
    pub reference: Option<PathBuf>,
    /// PEFT adapter of the reference
    #[arg(long, value_name = "DIR")]
    pub reference_adapter: Option<PathBuf>,
    /// The reference is meant to differ from the model at the start; without this, that is an error
    #[arg(long)]
    pub reference_differs: bool,
    /// File for the reference's log-probabilities: computed before training where they are not in it yet
    #[arg(long, value_name = "FILE")]
    pub reference_cache: Option<PathBuf>,
    /// Pairs to evaluate on
    #[arg(long, value_name = "FILE")]
    pub eval_pairs: Option<PathBuf>,
    /// Part of the pairs to evaluate on instead of training on them [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub eval_fraction: Option<f64>,
    /// Steps between evaluations [default: 100]
    #[arg(long, value_name = "N")]
    pub eval_every: Option<usize>,
    /// Steps between answers to a few of the questions, in samples.jsonl [default: none]
    #[arg(long, value_name = "N")]
    pub sample_every: Option<usize>,
    /// Rank of the adapter [default: 32]
    #[arg(long, value_name = "N")]
    pub lora_r: Option<usize>,
    /// Scale of the adapter, times its rank [default: 256]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lora_alpha: Option<f64>,
    /// Train the language model and the projector in full instead of adapters; [full_finetune] in the settings has more
    #[arg(long, conflicts_with_all = ["lora_r", "lora_alpha"])]
    pub full_finetune: bool,
    /// Longest sequence, image features included [default: 2048]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// Compute each layer again in the backward pass: less memory, more time, the same results
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Steps between checkpoints [default: 100]
    #[arg(long, value_name = "N")]
    pub save_every: Option<usize>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(feature = "model")]
fn noise(step: &str) -> Result<Distortion, bpo::distort::DistortError> {
    format!("diffusion-noise:step={step}").parse()
}

/// `bpo quickstart`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Directory of the run; what was made and trained in it is not made again, the models are asked again
    #[arg(long, value_name = "DIR", default_value = "target/quickstart")]
    pub out: PathBuf,
    /// flex, libtorch, libtorch:cuda:N, cuda, cuda:N or wgpu [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceSpec>,
    /// Seed of everything random but the pictures that are evaluated on
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = clap::value_parser!(u64).range(..1 << 62))]
    pub seed: u64,
    /// Another base model of this world, as the example `world_model` makes them; in an ablation, one for each seed may be given
    #[arg(long, value_name = "DIR")]
    pub base: Vec<PathBuf>,
    /// Part of the images, to try it: too little is trained then to show an effect
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = part, allow_negative_numbers = true)]
    pub scale: f64,
    /// Evaluate on the validation splits: for those who change the recipe
    #[arg(long)]
    pub validation: bool,
    /// Train on each kind of rejected answer alone, too
    #[arg(long)]
    pub ablation: bool,
    /// Runs of the ablation, with seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 3, requires = "ablation",
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
}

#[cfg(feature = "model")]
fn part(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value > 0.0 && value <= 10.0 { Ok(value) } else { Err("above 0 and at most 10".to_owned()) }
}

/// `bpo run`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub weaken: Weaken,
    #[command(flatten)]
    pub inject: Inject,
    #[command(flatten)]
    pub train: Train,
    /// Directory of the run; an unfinished run in it goes on
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `bpo weaken`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct WeakenCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub weaken: Weaken,
    /// Answers, one JSON line a sample; an unfinished file is gone on with
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `bpo inject`
#[derive(Debug, Args)]
pub struct InjectCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub data: Data,
    #[command(flatten)]
    pub inject: Inject,
    /// Answers, one JSON line a sample; an unfinished file is gone on with
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `bpo pair`
#[derive(Debug, Args)]
pub struct PairCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub data: Data,
    /// Answers from `weaken` or `inject`; may be given several times
    #[arg(long, value_name = "FILE")]
    pub answers: Vec<PathBuf>,
    /// Pairs, one JSON line a pair
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `bpo train`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct TrainCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    #[command(flatten)]
    pub train: Train,
    /// Pairs, as JSON lines or in the authors' JSON
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Directory for checkpoints, metrics and the adapter or model; unfinished training in it goes on
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Make three steps, keep nothing of them, and print what training will take: memory, steps, time
    #[arg(long)]
    pub dry_run: bool,
}

/// `bpo score`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct ScoreCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    /// Pairs, as JSON lines or in the authors' JSON
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Pairs in one forward pass
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    pub batch_size: usize,
    /// Keep the log-probabilities in a file, for `train --reference-cache`
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
}

/// `bpo generate`
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct GenerateCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub model: Model,
    #[command(flatten)]
    pub images: Images,
    /// Questions {"id", "image", "prompt"}, as a JSON array or JSON lines
    #[arg(long, value_name = "FILE")]
    pub questions: Option<PathBuf>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive)]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Nucleus mass
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f64,
    /// Questions answered at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    pub batch_size: usize,
}

/// `bpo distort`
#[derive(Debug, Args)]
#[command(after_long_help = families(), after_help = "`bpo help distort` lists the families of distortions.")]
pub struct DistortCommand {
    /// Image, or a folder whose images are all taken
    #[arg(value_name = "IN")]
    pub images: PathBuf,
    /// How, as crop:keep=0.2 or blur:sigma=2..8+diffusion-noise:step=500; given once
    #[arg(long, value_name = "TEXT", required_unless_present = "sheet", requires = "out")]
    pub distortion: Vec<Distortion>,
    /// PNG file, or for a folder a folder; what was made in it is not made again
    #[arg(long, value_name = "PATH", requires = "distortion")]
    pub out: Option<PathBuf>,
    /// Draw the image by families and severities to a PNG file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["distortion", "out"])]
    pub sheet: Option<PathBuf>,
    /// Image for `mix` and `swap`, which need another one [default: for each image of a folder another one of it]
    #[arg(long, value_name = "IMAGE")]
    pub other: Option<PathBuf>,
    /// Longest side of the images on a sheet, in pixels
    #[arg(long, value_name = "N", default_value_t = 112, conflicts_with = "distortion",
          value_parser = clap::value_parser!(u32).range(16..=i64::from(MAX_THUMBNAIL)))]
    pub thumbnail: u32,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Images of a folder that are worked on at a time [default: the number of cores]
    #[arg(long, value_name = "N", conflicts_with = "sheet")]
    pub threads: Option<NonZero<usize>>,
    /// Longest side that an image may have, in pixels [default: 16384]
    #[arg(long, value_name = "N")]
    pub max_side: Option<u32>,
    /// Pixels that an image may have [default: 100000000]
    #[arg(long, value_name = "N")]
    pub max_pixels: Option<u64>,
    /// Bytes that an image file may have [default: 268435456]
    #[arg(long, value_name = "N")]
    pub max_file_bytes: Option<u64>,
    /// Scans that a JPEG file may have [default: 32]
    #[arg(long, value_name = "N")]
    pub max_scans: Option<u32>,
    /// Milliseconds that decoding may take, other than of JPEG files [default: 60000]
    #[arg(long, value_name = "N")]
    pub max_millis: Option<u64>,
}

/// What there is to know about `--distortion`.
fn families() -> String {
    let mut text = "\
TEXT is FAMILY:PARAMETER=VALUE,... with stages joined by `+`. A number may be a range, as sigma=2..8, from which each image \
gets its own; severity=1 to 5 stands for the parameters where a family has a strength, and is never a range.\n\nFamilies:\n"
        .to_owned();
    for family in Family::all() {
        let parameters: Vec<_> = family.parameters().iter().map(|parameter| parameter.name()).collect();
        let name = [family.name(), &parameters.join(",")].join(if parameters.is_empty() { "" } else { ":" });
        let note = if family.needs_model() { " (not for files)" } else { "" };
        // a text takes all that is written to it
        let _ = writeln!(text, "  {name:<25} {}{note}", family.about());
    }
    text
}

/// `bpo eval`
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// CHAIR and recall of descriptions: a table on standard error, the figures as one JSON line
    Chair(ChairCommand),
    /// Accuracy and F1 of yes-or-no answers: a table on standard error, the figures as one JSON line
    Pope(PopeCommand),
    /// Print yes-or-no questions as POPE makes them, one JSON line a question, for `generate` and `eval pope`
    Questions(QuestionsCommand),
}

/// `bpo eval chair`
#[derive(Debug, Args)]
pub struct ChairCommand {
    /// Answers {"image", "text"}, as a JSON array or JSON lines, as `bpo generate` prints them; the answer may also be under
    /// answer, response, caption or output, which come before text
    #[arg(long, value_name = "FILE")]
    pub answers: PathBuf,
    #[command(flatten)]
    pub shown: Shown,
    /// Find objects in texts exactly as the published scorer of CHAIR does; --objects is its synonyms.txt
    #[arg(long, requires = "objects")]
    pub as_published: bool,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval questions`
#[derive(Debug, Args)]
pub struct QuestionsCommand {
    #[command(flatten)]
    pub shown: Shown,
    /// Objects that are not there: random, popular or adversarial
    #[arg(long, value_name = "WHICH", default_value = "adversarial", value_parser = negatives)]
    pub negatives: Negatives,
    /// Objects that are there, and that are not, to ask for in each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    pub per_image: usize,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}

fn negatives(text: &str) -> Result<Negatives, String> {
    let known = Negatives::ALL.into_iter().find(|negatives| negatives.name() == text);
    known.ok_or_else(|| "expected random, popular or adversarial".to_owned())
}

/// Ground truth.
#[derive(Debug, Args)]
pub struct Shown {
    /// What images show {"image", "objects"}, as a JSON array or JSON lines
    #[arg(long, value_name = "FILE", required_unless_present = "coco")]
    pub truth: Option<PathBuf>,
    /// The same as COCO has it: instances and, with --objects, captions; may be repeated
    #[arg(long, value_name = "FILE")]
    pub coco: Vec<PathBuf>,
    /// Objects and synonyms, a line an object, commas between, as CHAIR's synonyms.txt [default: the names in the truth]
    #[arg(long, value_name = "FILE")]
    pub objects: Option<PathBuf>,
}

/// `bpo eval pope`
#[derive(Debug, Args)]
pub struct PopeCommand {
    /// Questions {"question_id", "image", "text", "label"}, as JSON lines or a JSON array
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Answers {"question_id", "text"}, or in the order of the questions {"answer"}; image and prompt are compared where
    /// answers have them
    #[arg(long, value_name = "FILE")]
    pub answers: PathBuf,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Draws behind an interval
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub resamples: usize,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}

/// `bpo merge`; each weight keeps its type
#[cfg(feature = "model")]
#[derive(Debug, Args)]
pub struct MergeCommand {
    #[command(flatten)]
    pub config: Config,
    #[command(flatten)]
    pub checkpoint: Checkpoint,
    /// PEFT adapter
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Directory for the merged checkpoint
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
