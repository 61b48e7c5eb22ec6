//! File formats of preference data.
//!
//! A [`Format`] is the form of a record: its keys and their meaning. Its container is separate: a JSON
//! array, JSON Lines or Parquet, where JSON may be compressed with gzip or zstd. [`for_each_item`]
//! detects both from the content of a file, and [`convert`](fn@convert) writes another format.
//!
//! Each format has one file here, with its reader and its writer.

mod array;
pub mod bpo;
mod container;
mod conversation;
mod convert;
mod dataset_info;
mod detect;
pub(crate) mod fields;
mod images_field;
mod input;
pub mod json;
pub mod jsonl;
mod kind;
mod llama_factory;
pub mod llava;
mod messages;
mod misspelt;
mod ms_swift;
mod output;
mod pair_keys;
mod pairs;
#[cfg(feature = "parquet")]
mod parquet;
mod povid;
mod question_fields;
pub mod questions;
mod rlaif_v;
mod rlhf_v;
mod trl;
mod value;

use std::fmt;
use std::str::FromStr;

pub use container::Container;
pub use convert::{Conversion, ConvertOptions, convert};
pub use dataset_info::dataset_info_beside;
pub use input::{Answers, Item, ReadOptions, for_each_item};
pub use kind::FileKind;
#[cfg(feature = "parquet")]
pub(crate) use parquet::OpenFiles;

/// The form of the records of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Annotated answers: LLaVA's `conversations`, or `messages`. Reading also `question` and `answer`, the
    /// Alpaca form, and those of ms-swift.
    Llava,
    /// The BPO authors' records of scored completions.
    Bpo,
    /// Pairs of `bpo pair`: `pairs.jsonl`.
    Pairs,
    /// TRL's conversational preference format, and reading also its standard format.
    Trl,
    /// TRL's standard preference format, in which the prompt is text.
    TrlPlain,
    /// LLaMA-Factory's ShareGPT preference format, and reading also its Alpaca preference format.
    LlamaFactory,
    /// ms-swift's `messages` with `rejected_response` or `rejected_messages`.
    MsSwift,
    /// POVID's `conversations` and `rejected_conversations`.
    Povid,
    /// The columns of RLHF-V-Dataset.
    RlhfV,
    /// The columns of RLAIF-V-Dataset.
    RlaifV,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 10] = [
        Self::Llava,
        Self::Bpo,
        Self::Pairs,
        Self::Trl,
        Self::TrlPlain,
        Self::LlamaFactory,
        Self::MsSwift,
        Self::Povid,
        Self::RlhfV,
        Self::RlaifV,
    ];

    /// Returns the name in settings and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llava => "llava",
            Self::Bpo => "bpo",
            Self::Pairs => "pairs",
            Self::Trl => "trl",
            Self::TrlPlain => "trl-plain",
            Self::LlamaFactory => "llama-factory",
            Self::MsSwift => "ms-swift",
            Self::Povid => "povid",
            Self::RlhfV => "rlhf-v",
            Self::RlaifV => "rlaif-v",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}, not {found:?}", Format::ALL.map(Format::as_str).join(", "))]
pub struct UnknownFormatName {
    found: String,
}

impl FromStr for Format {
    type Err = UnknownFormatName;

    fn from_str(name: &str) -> Result<Self, UnknownFormatName> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == name);
        found.ok_or_else(|| UnknownFormatName { found: name.to_owned() })
    }
}
