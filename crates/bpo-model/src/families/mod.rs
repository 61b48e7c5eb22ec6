//! The supported model families.

pub(crate) mod detect;
pub(crate) mod llava;
