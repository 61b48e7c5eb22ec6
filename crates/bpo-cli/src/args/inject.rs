//! `bpo inject`

use std::path::PathBuf;

use bpo::inject::{ErrorKind, Fallback};
use bpo::stages::Shard;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

#[cfg(feature = "model")]
use super::Model;
use super::{Config, Data, Images, PresetArg, SeedArg};

/// Flags of error injection.
#[derive(Debug, Args)]
pub struct Inject {
    /// OpenAI-compatible server with a language model that rewrites the answers. Without one, frequent
    /// words of the data replace words of the answers
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Model name on the server [default: the one in the settings file, else "default"]
    #[arg(long, value_name = "NAME")]
    pub server_model: Option<String>,
    /// The model rewrites the answers, as a text model without their images, as in the authors' code
    #[cfg(feature = "model")]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", conflicts_with_all = ["server", "inject_model"])]
    pub inject_with_model: Option<bool>,
    /// Language model on this machine that rewrites the answers: a directory or a name on the Hugging
    /// Face Hub of a Llama, Mistral, Qwen2 or Qwen3 model that follows instructions
    #[cfg(feature = "model")]
    #[arg(long, value_name = "MODEL", conflicts_with = "server")]
    pub inject_model: Option<PathBuf>,
    /// Kind of error that the language model injects: object-added, object-removed, object-swapped,
    /// attribute, count, position, text or free (any error). Repeat it for several kinds, with weights
    /// if their shares differ [default: free]
    #[arg(long, value_name = "KIND[=WEIGHT]", value_parser = kind)]
    pub kind: Vec<(ErrorKind, f64)>,
    /// What happens to an answer if all replies of the language model are rejected: skip it, or swap
    /// words as without one [default: skip]
    #[arg(long, value_parser = fallback_parser())]
    pub fallback: Option<Fallback>,
}

/// Reads `KIND` or `KIND=WEIGHT`.
fn kind(text: &str) -> Result<(ErrorKind, f64), String> {
    let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
    let kind = ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    let kind =
        kind.ok_or_else(|| format!("expected one of {}", ErrorKind::ALL.map(ErrorKind::as_str).join(", ")))?;
    let weight = weight.parse().map_err(|_| "expected KIND or KIND=WEIGHT, such as count=2".to_owned())?;
    Ok((kind, weight))
}

fn fallback_parser() -> impl TypedValueParser<Value = Fallback> {
    PossibleValuesParser::new(Fallback::ALL.map(Fallback::as_str))
        .map(|name| Fallback::ALL.into_iter().find(|known| known.as_str() == name).unwrap_or_default())
}

/// `bpo inject`
#[derive(Debug, Args)]
pub struct InjectCommand {
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
    #[command(flatten)]
    pub inject: Inject,
    /// Finished files of `bpo weaken`. Samples whose answers were all skipped there are left out,
    /// because they make no pair. Repeat it for several files
    #[arg(long, value_name = "FILE")]
    pub weakened: Vec<PathBuf>,
    /// Use answer files although their manifests say that they are unfinished, changed, or made from
    /// other data or with different settings, or that shards are missing
    #[arg(long)]
    pub allow_mismatch: bool,
    /// Process only shard I of N, such as 2/3; `bpo pair` takes the files of all shards
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Try the answers again that an earlier command skipped for a reason that can change: an image
    /// that was missing or unreadable, or a request that the server refused. All other lines of the
    /// file are kept
    #[arg(long)]
    pub retry_skipped: bool,
    /// Output: answers as JSON lines. An unfinished file is continued
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}
