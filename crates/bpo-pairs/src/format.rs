//! File formats of preference data.

pub mod bpo;
mod conversation;
pub(crate) mod fields;
mod images_field;
pub mod json;
pub mod jsonl;
pub mod llava;
mod question_fields;
pub mod questions;
