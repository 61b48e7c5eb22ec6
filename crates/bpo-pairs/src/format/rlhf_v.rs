//! The columns of RLHF-V-Dataset (arXiv 2312.00849).
//!
//! `ds_name`, `image` (bytes and path), `text`, `origin_dataset`, `origin_split`, `idx` (the id) and
//! `image_path`. `text` is JSON text: an object with `question`, `chosen` and `rejected`. A pair has
//! one image and one question, without an image token.

use serde::Serialize;

use super::fields::{Fields, object, wrong};
use super::pair_keys::PairKeysOut;
use super::rlaif_v::{self, DATA_SET, image_and_question};
use super::value::Value;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    let value = match fields.take("text") {
        Some(Value::String(json)) => match serde_json::from_str(&json) {
            Ok(value @ Value::Object(_)) => Some(value),
            _ => {
                let expected = "JSON text of an object with `question`, `chosen` and `rejected`";
                return Err(wrong("text", expected, Some(&Value::from(json))));
            }
        },
        value => value,
    };
    let mut text = object("text", value)?;
    for key in ["question", "chosen", "rejected"] {
        let value = text.text("text.", key)?;
        fields.put(key, Value::from(value));
    }
    rlaif_v::read(fields, videos)
}

/// A record.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    ds_name: &'static str,
    image: &'a str,
    text: String,
    origin_dataset: &'static str,
    origin_split: &'static str,
    idx: &'a str,
    image_path: &'a str,
}

/// The content of `text`.
#[derive(Serialize)]
struct Text<'a> {
    question: String,
    chosen: &'a str,
    rejected: &'a str,
}

impl<'a> Row<'a> {
    /// Makes the record of a pair with one image and one question.
    pub(super) fn new(pair: &'a PairRef<'a>) -> Result<Self, SkipCause> {
        let (image, question) = image_and_question(pair)?;
        let text = Text { question, chosen: pair.chosen, rejected: pair.rejected };
        // text is always valid JSON
        let text = serde_json::to_string(&text).unwrap_or_default();
        Ok(Self {
            keys: PairKeysOut::new(pair),
            ds_name: DATA_SET,
            image,
            text,
            origin_dataset: "",
            origin_split: "",
            idx: &pair.id,
            image_path: image,
        })
    }
}
