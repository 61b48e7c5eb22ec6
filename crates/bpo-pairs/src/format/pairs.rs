//! Pairs of `bpo pair`: `pairs.jsonl`.
//!
//! A record is a [`PreferencePair`]: `id`, `images`, `prompt`, `chosen`, `rejected`, `kind`, and
//! optionally `chosen_kind`, `system`, `history`, `provenance`, `margin`, `beta`, and
//! `contrast_images` with `contrast_answer`.

use super::fields::{Fields, describe, object};
use super::pair_keys::{PairKeys, take_contrast};
use super::question_fields::QuestionFields;
use super::value::Value;
use crate::provenance::Provenance;
use crate::record::{CompletionKind, PreferencePair};
use crate::skipped::{SkipCause, SkipReason};
use crate::video::VideoFrames;

/// Reads all of a pair except its id, which is required. Unknown keys are an error, because they
/// may be misspelled.
pub(super) fn read(
    mut fields: Fields,
    named: bool,
    videos: &dyn VideoFrames,
) -> Result<PreferencePair, SkipCause> {
    if !named {
        return Err(SkipCause::new(
            SkipReason::Malformed,
            "`id`: expected text or an integer, found no such key",
        ));
    }
    let question = QuestionFields::take(&mut fields, "prompt", videos)?;
    let (chosen, rejected) = (fields.text("", "chosen")?, fields.text("", "rejected")?);
    let kind = CompletionKind::from(fields.text("", "kind")?);
    let chosen_kind = fields.optional_text("chosen_kind")?.map(CompletionKind::from);
    let provenance = fields.take_some("provenance").map(provenance).transpose()?;
    let (margin, beta) = (fields.optional_number("margin")?, fields.optional_number("beta")?);
    let (contrast_images, contrast_answer) = take_contrast(&mut fields)?;
    if let Some((key, value)) = fields.first_left() {
        let found = describe(Some(value));
        return Err(SkipCause::new(
            SkipReason::Malformed,
            format_args!("{key:?} is not a key of a pair, found {found}"),
        ));
    }
    let keys = PairKeys { kind, chosen_kind, provenance, margin, beta, contrast_images, contrast_answer };
    keys.pair_of(question, chosen, rejected)
}

fn provenance(value: Value) -> Result<Provenance, SkipCause> {
    // serde would also accept a list as the fields in order
    object("provenance", Some(value.clone()))?;
    serde_json::from_value(value.into())
        .map_err(|error| SkipCause::new(SkipReason::Malformed, format_args!("`provenance`: {error}")))
}
