//! Files that preference data comes from and goes to.

pub mod bpo;
mod conversation;
pub(crate) mod fields;
mod images_field;
pub mod json;
pub mod jsonl;
pub mod llava;
