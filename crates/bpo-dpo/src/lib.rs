//! Direct preference optimization on burn.
pub mod policy;
