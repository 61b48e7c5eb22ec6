//! Error injection.
pub mod generator;
pub use generator::*;
