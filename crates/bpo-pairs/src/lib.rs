//! Preference data for vision-language models: formats, filters, and the making of chosen/rejected pairs by Bootstrapped
//! Preference Optimization ([arXiv 2403.08730](https://arxiv.org/abs/2403.08730)).
//!
//! ```text
//! format::llava -> SftSample --(build::weaken, build::inject)--> StageRecord --(build::assemble)--> Record
//! format::bpo   -> Record    --(pairs::make_pairs with a PairFilter)--> PreferencePair -> format::jsonl
//! ```
//!
//! What cannot be used is never dropped in silence: it becomes a [`Skipped`](skipped::Skipped) with a
//! [`SkipReason`](skipped::SkipReason) that is counted.
//!
//! ```
//! use bpo_pairs::filter::PairFilter;
//! use bpo_pairs::format::{bpo, jsonl};
//! use bpo_pairs::pairs::make_all_pairs;
//! use bpo_pairs::stats::PairStats;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (input, output) = (dir.path().join("preferences.json"), dir.path().join("pairs.jsonl"));
//! std::fs::write(&input, r#"[{"prompt": "<image>\nWhat is on the table?", "image": "coffee.jpg", "completions": [
//!     {"score": 1, "response": "A red cup of espresso.", "type": "gt"},
//!     {"score": 0, "response": "A red cup and a croissant.", "type": "mllm-hal"}
//! ]}]"#)?;
//!
//! let data = bpo::read(&input)?;
//! let set = make_all_pairs(&data.records, &PairFilter::default());
//! jsonl::write_pairs(&output, &set.pairs)?;
//!
//! assert_eq!(set.pairs[0].id, "0:0>1");
//! assert_eq!(set.pairs[0].rejected, "A red cup and a croissant.");
//! assert_eq!(PairStats::of(&set).skipped.total(), 0);
//! assert_eq!(jsonl::read_pairs(&output)?, set);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `build` (default): the module `build` with its model traits, and images. Without it the crate is data and formats only.

pub mod atomic;
#[cfg(feature = "build")]
pub mod build;
pub mod error;
pub mod files;
pub mod filter;
pub mod format;
pub mod ids;
pub mod image_token;
#[cfg(feature = "build")]
pub mod images;
mod limits;
pub mod manifest;
pub mod pairs;
mod placeholders;
pub mod provenance;
pub mod record;
#[cfg(feature = "build")]
pub mod responder;
pub mod seed;
pub mod serde_words;
pub mod sft;
pub mod skipped;
pub mod stats;
pub mod store;
pub mod system;
mod untrusted;

pub use limits::{Limits, OverLimit};
pub use untrusted::{TerminalText, Untrusted, UntrustedPath};
