#![doc = include_str!("../README.md")]

pub mod bootstrap;
pub mod chair;
mod error;
pub mod files;
pub mod objects;
pub mod pope;
pub mod singular;
pub mod table;
pub mod truth;

pub use bootstrap::{Bootstrap, Estimate};
pub use chair::{ChairItem, ChairReport};
pub use error::EvalError;
pub use objects::ObjectTable;
pub use pope::{PopeItem, PopeReport};
pub use truth::Truth;
