#![doc = include_str!("../README.md")]

mod as_published;
pub mod bootstrap;
pub mod chair;
mod error;
pub mod files;
pub mod objects;
mod pairing;
pub mod pope;
mod records;
pub mod singular;
pub mod table;
pub mod truth;

pub use bootstrap::{Bootstrap, Estimate};
pub use chair::{ChairItem, ChairReport};
pub use error::{Difference, EvalError};
pub use objects::ObjectTable;
pub use pope::{PopeItem, PopeReport};
pub use truth::Truth;
