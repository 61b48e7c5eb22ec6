//! Detects the format of a file from the keys of a record.

use super::Format;
use super::fields::Fields;
use super::messages::has_messages;
use super::value::Value;

/// Returns the format of a record, or `None` if it has the keys of none.
pub(super) fn detect(fields: &Fields) -> Option<Format> {
    let has = |key: &str| fields.has(key);
    let any = |keys: &[&str]| keys.iter().any(|key| has(key));
    if has("completions") {
        Some(Format::Bpo)
    } else if has("rejected_conversations") {
        Some(Format::Povid)
    } else if any(&["rejected_response", "rejected_messages", "rejected_images"]) {
        Some(Format::MsSwift)
    } else if has("chosen") && has("rejected") {
        pair(fields)
    } else if has("text") && any(&["ds_name", "origin_dataset", "image_path"]) {
        Some(Format::RlhfV)
    } else if has_messages(fields) {
        Some(Format::Llava)
    } else {
        None
    }
}

/// Returns the format of a record with `chosen` and `rejected`.
fn pair(fields: &Fields) -> Option<Format> {
    let has = |key: &str| fields.has(key);
    if ["conversations", "messages", "instruction"].into_iter().any(has) {
        Some(Format::LlamaFactory)
    } else if matches!(fields.get("chosen"), Some(Value::Array(_))) {
        Some(Format::Trl)
    } else if has("question") && !has("prompt") {
        Some(Format::RlaifV)
    } else if has("prompt") {
        Some(if has("kind") { Format::Pairs } else { Format::TrlPlain })
    } else {
        None
    }
}
