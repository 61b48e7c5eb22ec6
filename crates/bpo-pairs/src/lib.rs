//! Preference data for vision-language models: samples, completions, pairs, generated answers and
//! skipped items, and readers and writers of their file formats.
//!
//! The crate depends on no tensor library and decodes no images.
//!
//! ```text
//! format::llava -> SftSample
//! format::bpo   -> Record --(make_pairs with a PairFilter)--> PreferencePair -> format::jsonl
//! ```
//!
//! Readers never drop data silently. Each sample, record or pair that cannot be used becomes a
//! [`Skipped`] with a [`SkipReason`], which [`SkipCounts`] counts.
//!
//! ```
//! use bpo_pairs::format::{bpo, jsonl};
//! use bpo_pairs::{PairFilter, make_all_pairs};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (input, output) = (dir.path().join("preferences.json"), dir.path().join("pairs.jsonl"));
//! let records = r#"[{
//!     "prompt": "<image>\nWhat is on the table?",
//!     "image": "coffee.jpg",
//!     "completions": [
//!         {"score": 1, "response": "A red cup of espresso.", "type": "gt"},
//!         {"score": 0, "response": "A red cup and a croissant.", "type": "mllm-hal"}
//!     ]
//! }]"#;
//! std::fs::write(&input, records)?;
//! let data = bpo::read(&input)?;
//! let set = make_all_pairs(&data.records, &PairFilter::default());
//! jsonl::write_pairs(&output, &set.pairs)?;
//!
//! assert_eq!(set.pairs[0].rejected, "A red cup and a croissant.");
//! assert_eq!(jsonl::read_pairs(&output)?, set);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod caught;
mod contrast;
mod error;
pub mod files;
mod filter;
mod fingerprint;
pub mod format;
mod generated;
mod history;
mod ids;
mod image_paths;
mod image_store;
mod image_token;
mod limits;
mod log;
mod nearest;
mod pair_ref;
mod pairs;
mod pipeline;
mod placeholders;
mod provenance;
mod queue;
mod record;
mod row_images;
mod seed;
mod selection;
mod serde_message;
mod sft;
mod skipped;
mod store;
mod system;
mod untrusted;
mod usage;
mod video;
mod words;

pub use caught::{catch_panic, is_panic_caught};
pub use contrast::has_same_words;
pub use error::{PairsError, chain};
pub use filter::{PairFilter, count_words};
pub use fingerprint::{Fingerprint, FingerprintReader, TextHasher, fingerprint_file};
pub use generated::{FinishReason, Generated, RequestFailure, Sampling};
pub use history::History;
pub use ids::Id;
pub use image_store::{ImageBytes, ImageDir, ImagePlace, ImageSink};
pub use image_token::{place_in_conversation, strip_image_tokens};
pub use limits::{Limits, OverLimit};
pub use log::JsonlLog;
pub use nearest::nearest_name;
pub use pairs::{PairSet, all_pairs, make_all_pairs, make_pairs};
pub use provenance::{Contrast, ContrastMode, Provenance};
pub use queue::{RequestQueue, RequestSlice, answer_in_batches};
pub use record::{Completion, CompletionKind, PreferencePair, Record};
pub use row_images::{RowImage, RowImageError, RowImages};
pub use seed::{image_seed, item_seed, stage_seed, unit_interval};
pub use selection::{
    ContrastChoice, ImageGroups, PairRule, PairSelection, SelectedPairs, SelectionError, Subset, source_of,
};
pub use serde_message::MessageTerms;
pub use sft::{IMAGE_TOKEN, SftSample, Turn};
pub use skipped::{SkipCause, SkipCounts, SkipError, SkipReason, Skipped, is_zero};
pub use store::{JsonlStore, Keyed, RecordKey};
pub use system::warn_left_out;
pub use untrusted::{TerminalText, Untrusted, UntrustedPath};
pub use usage::{AttemptFailure, RequestUsage, TokenPrices, UsageMeter};
pub use video::{NoVideos, VideoFrames};
pub use words::{lower_words, word_edits, words};
