#![doc = include_str!("../README.md")]

pub mod dataset;
pub mod draw;
pub mod kind;
pub mod scene;
pub mod text;

pub use dataset::{Example, Mix, Split, WorldError};
pub use kind::{Colour, Kind, Place};
pub use scene::{Group, Scene, Statistics, Thing};
pub use text::{Topic, Turn};
