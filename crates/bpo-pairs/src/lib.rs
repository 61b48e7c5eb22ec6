//! Preference data for vision-language models.
pub mod record;
pub mod sft;
