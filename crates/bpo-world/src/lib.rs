#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod dataset;
mod draw;
mod example;
mod kind;
mod scene;
mod statistics;
mod text;

pub use dataset::{SplitFiles, WorldError, write_split};
pub use draw::{CELL_SIDE, PICTURE_SIDE};
pub use example::{Example, QuestionMix, Split};
pub use kind::{Colour, Kind, Place};
pub use scene::{Group, MAX_THINGS, Scene, Thing};
pub use statistics::Statistics;
pub use text::{
    Claim, NUMBER_WORDS, QuestionAnswer, Topic, list_groups, presence_kinds, read_claims, tokens, vocabulary,
};
