//! `bpo eval`

use std::path::PathBuf;

use bpo::eval::PopeNegatives;
use bpo::pairs::Limits;
use clap::{Args, Subcommand};

use super::{MmVetCommand, MmhalCommand, at_most, positive, whole};

/// `bpo eval`
#[derive(Debug, Subcommand)]
pub enum EvalCommand {
    /// Compute CHAIR and recall of descriptions: a table on standard error, one JSON line for each
    /// file on standard output. Several files are compared
    Chair(ChairCommand),
    /// Compute accuracy and F1 of yes-or-no answers: a table on standard error, one JSON line for each
    /// file on standard output. Several files are compared
    Pope(PopeCommand),
    /// Compute the metrics of AMBER's discriminative task or, with --relation, of its generative task: a
    /// table on standard error, one JSON line for each file on standard output. Several files are compared
    Amber(AmberCommand),
    /// Grade answers to MM-Vet by a language model behind a server, or read grades: scores in total and by
    /// capability as a table on standard error, one JSON line for each file on standard output
    MmVet(MmVetCommand),
    /// Rate answers to MMHal-Bench by a language model behind a server, or read its replies: the mean
    /// rating and the hallucination rate as a table on standard error, one JSON line for each file on
    /// standard output
    Mmhal(MmhalCommand),
    /// Compute HR@k and NDCG@k of lists with one relevant item, such as recommendations: a table on
    /// standard error, one JSON line for each file on standard output. Several files are compared
    Ranking(RankingCommand),
    /// Compute the AUC of yes-or-no answers or of scores: a table on standard error, one JSON line for
    /// each file on standard output. Several files are compared
    Auc(AucCommand),
    /// Print yes-or-no questions in POPE's form as JSON lines, for `generate` and `eval pope`
    Questions(QuestionsCommand),
}

/// `bpo eval chair`
#[derive(Debug, Args)]
pub struct ChairCommand {
    /// Answers {"image", "text"}, as JSON lines or a JSON array, such as `bpo generate` prints. The
    /// keys answer, response, caption and output come before text. Repeat it to compare files: the
    /// others with the first
    #[arg(long, value_name = "FILE", required = true)]
    pub answers: Vec<PathBuf>,
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Match objects exactly as CHAIR's published scorer does; --objects is its synonyms.txt. With
    /// --extracted, look up names unchanged
    #[arg(long, requires = "objects")]
    pub as_published: bool,
    /// Score the objects that a language model extracted, as Object HalBench does: a list of names
    /// under `objects` in each answer
    #[arg(long)]
    pub extracted: bool,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval questions`
#[derive(Debug, Args)]
pub struct QuestionsCommand {
    #[command(flatten)]
    pub truth: TruthArgs,
    /// Objects of the questions with the answer no: random, popular or adversarial
    #[arg(long, value_name = "KIND", default_value = "adversarial", value_parser = negatives)]
    pub negatives: PopeNegatives,
    /// Number of questions with the answer yes, and of those with no, about each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = positive)]
    pub per_image: usize,
    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = whole::<u64>)]
    pub seed: u64,
}

fn negatives(text: &str) -> Result<PopeNegatives, String> {
    let known = PopeNegatives::ALL.into_iter().find(|negatives| negatives.name() == text);
    known.ok_or_else(|| "expected random, popular or adversarial".to_owned())
}

/// The ground truth: which objects images show.
#[derive(Clone, Debug, Args)]
pub struct TruthArgs {
    /// Objects of each image {"image", "objects"}, as JSON lines or a JSON array
    #[arg(long, value_name = "FILE", required_unless_present = "coco")]
    pub truth: Option<PathBuf>,
    /// COCO annotations: instances and, with --objects, captions. Repeat it for several files
    #[arg(long, value_name = "FILE")]
    pub coco: Vec<PathBuf>,
    /// Objects and their synonyms: one object per line, separated by commas, as CHAIR's
    /// synonyms.txt [default: the names in the truth]
    #[arg(long, value_name = "FILE")]
    pub objects: Option<PathBuf>,
}

/// `bpo eval pope`
#[derive(Debug, Args)]
pub struct PopeCommand {
    /// Questions {"question_id", "image", "text", "label"}, as JSON lines or a JSON array
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Answers {"question_id", "text"}, or {"answer"} in the order of the questions. Their images
    /// and prompts, if any, must be those of the questions. Repeat it to compare files: the others
    /// with the first
    #[arg(long, value_name = "FILE", required = true)]
    pub answers: Vec<PathBuf>,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval amber`
#[derive(Debug, Args)]
pub struct AmberCommand {
    /// AMBER's query_discriminative.json, or its part for existence, attribute or relation, or
    /// query_all.json; for the generative task query_generative.json
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// AMBER's annotations.json, the correct answers
    #[arg(long, value_name = "FILE")]
    pub annotations: PathBuf,
    /// Answers {"id", "response"}, as JSON lines or a JSON array, or those of `bpo generate`; for the
    /// generative task each with a list of its `nouns`. Their images and prompts, if any, must be those of
    /// the questions. Repeat it to compare files: the others with the first
    #[arg(long, value_name = "FILE", required = true)]
    pub answers: Vec<PathBuf>,
    /// Read an answer by its first word, yes or no. Without it only exactly Yes and No count, as in
    /// the published script
    #[arg(long)]
    pub first_word: bool,
    /// Score the generative task, by AMBER's relation.json
    #[arg(long, value_name = "FILE", requires_all = ["safe_words", "vectors"], conflicts_with = "first_word")]
    pub relation: Option<PathBuf>,
    /// AMBER's safe_words.txt, for the generative task
    #[arg(long, value_name = "FILE", requires = "relation")]
    pub safe_words: Option<PathBuf>,
    /// Vectors of the words in relation.json, for the generative task: a word and its numbers per line, as
    /// GloVe and word2vec write them
    #[arg(long, value_name = "FILE", requires = "relation")]
    pub vectors: Option<PathBuf>,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval ranking`
#[derive(Debug, Args)]
pub struct RankingCommand {
    /// Questions {"id", "images", "prompt", "label"}, as JSON lines or a JSON array. The label is the
    /// relevant item; of several lines, the first
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Answers {"id", "text"} with one item per line, the best first, or {"answer"} in the order of the
    /// questions, as JSON lines or a JSON array, or those of `bpo generate`. Repeat it to compare
    /// files: the others with the first
    #[arg(long, value_name = "FILE", required = true)]
    pub answers: Vec<PathBuf>,
    /// Number of items of each list that count
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = positive)]
    pub k: usize,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// `bpo eval auc`
#[derive(Debug, Args)]
pub struct AucCommand {
    /// Questions {"id", "images", "prompt", "label"}, as JSON lines or a JSON array. The label is yes or
    /// no
    #[arg(long, value_name = "FILE")]
    pub questions: PathBuf,
    /// Answers {"id", "text"}, or {"answer"} in the order of the questions, as JSON lines or a JSON
    /// array, or those of `bpo generate`. If all have a number under `score`, higher for yes, it
    /// replaces the text. Repeat it to compare files: the others with the first
    #[arg(long, value_name = "FILE", required = true)]
    pub answers: Vec<PathBuf>,
    /// Read an answer by its first word, yes or no. Without it only yes and no in any case count, as in
    /// HaNoRec's published script
    #[arg(long)]
    pub first_word: bool,
    #[command(flatten)]
    pub bootstrap: BootstrapArgs,
}

/// Settings of the bootstrap confidence intervals.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// Number of bootstrap resamples
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = resamples)]
    pub resamples: usize,
    /// Random seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 42, value_parser = whole::<u64>)]
    pub seed: u64,
}

/// Parses the number of resamples, each of which takes memory and time.
fn resamples(text: &str) -> Result<usize, String> {
    at_most("--resamples", whole(text)?, Limits::DEFAULT.resamples)
}
