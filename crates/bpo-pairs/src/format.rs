//! File formats of preference data.

mod asked;
pub mod bpo;
mod conversation;
pub(crate) mod fields;
mod images_field;
pub mod json;
pub mod jsonl;
pub mod llava;
pub mod questions;
