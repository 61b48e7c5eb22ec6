//! Settings of generation: which tokens end an answer, and which the model may not draw.

use std::path::Path;

use bpo_pairs::{Limits, UntrustedPath};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::sources::GENERATION;
use crate::json::{JsonError, optional, read_json, read_without_nulls, shown};

/// The settings of `generation_config.json` that change the logits of an answer, and the tokens
/// that end it.
///
/// They are applied in the order of transformers' `generate`: first the penalty, then the
/// exclusions, then temperature and sampling. The default changes nothing and ends no answer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationSettings {
    /// Ids that end an answer.
    pub stop: Vec<u32>,
    /// Divides the positive logits, and multiplies the negative ones, of all tokens that the prompt
    /// or the answer has, image tokens included. 1 changes nothing.
    pub repetition_penalty: f64,
    /// Excludes tokens that would repeat this many tokens of the prompt or the answer. 0 excludes
    /// nothing.
    pub no_repeat_ngram_size: usize,
    /// Least tokens of prompt and answer together: no answer ends before.
    pub min_length: usize,
    /// Least tokens of an answer.
    pub min_new_tokens: usize,
    /// Ids that are never drawn.
    pub suppress_tokens: Vec<u32>,
    /// Ids that no answer begins with.
    pub begin_suppress_tokens: Vec<u32>,
    /// Sequences of ids that never occur. Sequences that are a single end token are not excluded.
    pub bad_words_ids: Vec<Vec<u32>>,
}

impl Default for GenerationSettings {
    fn default() -> Self {
        Self {
            stop: Vec::new(),
            repetition_penalty: 1.0,
            no_repeat_ngram_size: 0,
            min_length: 0,
            min_new_tokens: 0,
            suppress_tokens: Vec::new(),
            begin_suppress_tokens: Vec::new(),
            bad_words_ids: Vec::new(),
        }
    }
}

/// The keys of `generation_config.json` that are applied.
#[derive(Deserialize)]
#[serde(default)]
struct File {
    repetition_penalty: f64,
    no_repeat_ngram_size: usize,
    min_length: usize,
    min_new_tokens: usize,
    suppress_tokens: Vec<u32>,
    begin_suppress_tokens: Vec<u32>,
    bad_words_ids: Vec<Vec<u32>>,
}

impl Default for File {
    fn default() -> Self {
        let GenerationSettings {
            stop: _,
            repetition_penalty,
            no_repeat_ngram_size,
            min_length,
            min_new_tokens,
            suppress_tokens,
            begin_suppress_tokens,
            bad_words_ids,
        } = GenerationSettings::default();
        Self {
            repetition_penalty,
            no_repeat_ngram_size,
            min_length,
            min_new_tokens,
            suppress_tokens,
            begin_suppress_tokens,
            bad_words_ids,
        }
    }
}

/// Keys that change greedy answers in transformers 4 or 5 and are not applied here, with the values
/// that change nothing, as JSON.
const NOT_APPLIED: [(&str, &[&str]); 20] = [
    // the other caches hold keys and values as they are
    (
        "cache_implementation",
        &[
            "\"dynamic\"",
            "\"hybrid\"",
            "\"hybrid_chunked\"",
            "\"offloaded\"",
            "\"offloaded_hybrid\"",
            "\"offloaded_hybrid_chunked\"",
            "\"offloaded_static\"",
            "\"paged\"",
            "\"sliding_window\"",
            "\"static\"",
        ],
    ),
    ("constraints", &[]),
    ("diversity_penalty", &["0", "0.0"]),
    ("dola_layers", &[]),
    ("encoder_no_repeat_ngram_size", &["0"]),
    ("encoder_repetition_penalty", &["1", "1.0"]),
    ("exponential_decay_length_penalty", &[]),
    ("force_words_ids", &["[]"]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("guidance_scale", &["1", "1.0"]),
    // with `assistant_confidence_threshold`, it ends answers
    ("is_assistant", &["false"]),
    ("max_time", &[]),
    ("num_beam_groups", &["1"]),
    ("num_beams", &["1"]),
    ("penalty_alpha", &["0", "0.0"]),
    ("sequence_bias", &["[]", "{}"]),
    ("stop_strings", &["[]"]),
    ("token_healing", &["false"]),
    ("watermarking_config", &[]),
];

impl GenerationSettings {
    /// Returns settings that end answers at `stop` and change nothing else.
    pub fn ending_at(stop: impl Into<Vec<u32>>) -> Self {
        Self { stop: stop.into(), ..Self::default() }
    }

    /// Reads `generation_config.json`, which may be missing, and warns of settings that change
    /// answers and are not applied.
    pub(super) fn from_dir(dir: &Path, stop: &[u32]) -> Result<Self, JsonError> {
        let path = dir.join(GENERATION);
        let all: Map<String, Value> = optional(read_json(&path))?.unwrap_or_default();
        for (key, neutral) in NOT_APPLIED {
            let value = all.get(key).filter(|value| !value.is_null());
            if let Some(value) = value.filter(|value| !neutral.contains(&value.to_string().as_str())) {
                let (dir, value) = (UntrustedPath(dir), shown(value));
                tracing::warn!("{dir}: {GENERATION} has `{key}` {value}, which is not applied");
            }
        }
        let file: File = optional(read_without_nulls(&path))?.unwrap_or_default();
        let wrong = |key: &str, expected: &str, found: String| {
            let (path, key, expected) = (path.clone(), key.to_owned(), expected.to_owned());
            Err(JsonError::Value { path, key, expected, found })
        };
        let penalty = file.repetition_penalty;
        if !(penalty.is_finite() && penalty > 0.0) {
            return wrong("repetition_penalty", "a number above 0", penalty.to_string());
        }
        let words = &file.bad_words_ids;
        if let Some(empty) = words.iter().position(Vec::is_empty) {
            return wrong(&format!("bad_words_ids[{empty}]"), "at least one id", "[]".to_owned());
        }
        let most = Limits::DEFAULT.ids;
        for (key, ids) in [
            ("suppress_tokens", file.suppress_tokens.len()),
            ("begin_suppress_tokens", file.begin_suppress_tokens.len()),
            ("bad_words_ids", words.iter().map(Vec::len).sum()),
        ] {
            if ids > most {
                return wrong(key, &format!("at most {most} ids"), format!("{ids} of them"));
            }
        }
        Ok(Self {
            stop: stop.to_vec(),
            repetition_penalty: file.repetition_penalty,
            no_repeat_ngram_size: file.no_repeat_ngram_size,
            min_length: file.min_length,
            min_new_tokens: file.min_new_tokens,
            suppress_tokens: file.suppress_tokens,
            begin_suppress_tokens: file.begin_suppress_tokens,
            bad_words_ids: file.bad_words_ids,
        })
    }

    /// Whether the logits stay as they are.
    pub(crate) fn keep_logits(&self) -> bool {
        let stop = self.stop.clone();
        *self == Self { stop, ..Self::default() }
    }
}
