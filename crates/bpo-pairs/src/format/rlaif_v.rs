//! The columns of RLAIF-V-Dataset (arXiv 2405.17220).
//!
//! `ds_name`, `image` (bytes and path), `question`, `chosen`, `rejected`, `origin_dataset`,
//! `origin_split`, `idx` (the id) and `image_path`. A pair has one image and one question, without an
//! image token.

use serde::Serialize;

use super::fields::Fields;
use super::pair_keys::{PairKeys, PairKeysOut, not_in_format};
use super::question_fields::QuestionFields;
use super::trl::only_question;
use crate::image_token::strip_image_tokens;
use crate::pair_ref::PairRef;
use crate::record::PreferencePair;
use crate::sft::IMAGE_TOKEN;
use crate::skipped::SkipCause;
use crate::video::VideoFrames;

/// Name of the data set in files that bpo writes (`ds_name`).
pub(super) const DATA_SET: &str = "bpo";

/// Reads a pair, without its id.
pub(super) fn read(mut fields: Fields, videos: &dyn VideoFrames) -> Result<PreferencePair, SkipCause> {
    take_image_path(&mut fields);
    let keys = PairKeys::take(&mut fields)?;
    let question = QuestionFields::take(&mut fields, "question", videos)?;
    let (chosen, rejected) = (fields.text("", "chosen")?, fields.text("", "rejected")?);
    keys.pair_of(question, chosen, rejected)
}

/// Uses `image_path` for a record without an `image`.
pub(super) fn take_image_path(fields: &mut Fields) {
    let path = fields.take_some("image_path");
    if let Some(path) = path.filter(|_| !fields.has("image")) {
        fields.put("image", path);
    }
}

/// A record.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    #[serde(flatten)]
    keys: PairKeysOut<'a>,
    ds_name: &'static str,
    image: &'a str,
    question: String,
    chosen: &'a str,
    rejected: &'a str,
    origin_dataset: &'static str,
    origin_split: &'static str,
    idx: &'a str,
    image_path: &'a str,
}

impl<'a> Row<'a> {
    /// Makes the record of a pair with one image and one question.
    pub(super) fn new(pair: &'a PairRef<'a>) -> Result<Self, SkipCause> {
        let (image, question) = image_and_question(pair)?;
        Ok(Self {
            keys: PairKeysOut::new(pair),
            ds_name: DATA_SET,
            image,
            question,
            chosen: pair.chosen,
            rejected: pair.rejected,
            origin_dataset: "",
            origin_split: "",
            idx: &pair.id,
            image_path: image,
        })
    }
}

/// Returns the image of a pair, and its question without the image token.
pub(super) fn image_and_question<'a>(pair: &PairRef<'a>) -> Result<(&'a str, String), SkipCause> {
    only_question(pair)?;
    match pair.images {
        [image] => {
            let question = pair.prompt.strip_prefix(IMAGE_TOKEN).and_then(|rest| rest.strip_prefix('\n'));
            let question = question.filter(|rest| !rest.contains(IMAGE_TOKEN));
            Ok((image, question.map_or_else(|| strip_image_tokens(pair.prompt), str::to_owned)))
        }
        images => Err(not_in_format("one image", images.len())),
    }
}
