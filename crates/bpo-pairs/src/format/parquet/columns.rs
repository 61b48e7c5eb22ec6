//! The columns of each format.

use crate::format::Format;

/// The type of a column or of a part of one. Every value can be null.
#[derive(Debug)]
pub(in crate::format) enum Column {
    /// Text.
    Text,
    /// Any JSON value, as JSON text.
    Json,
    /// A 64-bit float.
    Number,
    /// An image: a struct of `bytes` and `path`.
    Image,
    /// A list.
    List(&'static Column),
    /// A struct with named parts.
    Struct(&'static [Named]),
}

/// A column and its name.
pub(in crate::format) type Named = (&'static str, Column);

use Column::{Image, Json, List, Number, Struct, Text};

const MESSAGES: Column = List(&Struct(&[("role", Text), ("content", Text)]));
const TURNS: Column = List(&Struct(&[("from", Text), ("value", Text)]));
const ANSWER: Column = Struct(&[("from", Text), ("value", Text)]);
const PARTS: Column =
    List(&Struct(&[("role", Text), ("content", List(&Struct(&[("type", Text), ("text", Text)])))]));
const HISTORY: Column = List(&Struct(&[("prompt", Text), ("answer", Text)]));
const COMPLETIONS: Column =
    List(&Struct(&[("score", Number), ("response", Text), ("type", Text), (Column::PROVENANCE, Json)]));

const LLAVA: &[Named] =
    &[("id", Text), ("image", Image), ("images", List(&Image)), ("system", Text), ("conversations", TURNS)];
const BPO: &[Named] = &[
    ("id", Text),
    ("prompt", Text),
    ("image", Image),
    ("images", List(&Image)),
    ("system", Text),
    ("history", HISTORY),
    ("completions", COMPLETIONS),
];
const PAIRS: &[Named] = &[
    ("id", Text),
    ("images", List(&Image)),
    ("system", Text),
    ("history", HISTORY),
    ("prompt", Text),
    ("chosen", Text),
    ("rejected", Text),
];
const TRL: &[Named] =
    &[("id", Text), ("images", List(&Image)), ("prompt", PARTS), ("chosen", PARTS), ("rejected", PARTS)];
const TRL_PLAIN: &[Named] =
    &[("id", Text), ("images", List(&Image)), ("prompt", Text), ("chosen", Text), ("rejected", Text)];
const LLAMA_FACTORY: &[Named] = &[
    ("id", Text),
    ("images", List(&Image)),
    ("system", Text),
    ("conversations", TURNS),
    ("chosen", ANSWER),
    ("rejected", ANSWER),
];
const MS_SWIFT: &[Named] =
    &[("id", Text), ("images", List(&Image)), ("messages", MESSAGES), ("rejected_response", Text)];
const POVID: &[Named] = &[
    ("id", Text),
    ("image", Image),
    ("images", List(&Image)),
    ("system", Text),
    ("conversations", TURNS),
    ("rejected_conversations", TURNS),
];
const RLHF_V: &[Named] = &[
    ("ds_name", Text),
    ("image", Image),
    ("text", Text),
    ("origin_dataset", Text),
    ("origin_split", Text),
    ("idx", Text),
    ("image_path", Text),
];
const RLAIF_V: &[Named] = &[
    ("ds_name", Text),
    ("image", Image),
    ("question", Text),
    ("chosen", Text),
    ("rejected", Text),
    ("origin_dataset", Text),
    ("origin_split", Text),
    ("idx", Text),
    ("image_path", Text),
];

/// The columns of [`PairKeysOut`](crate::format::pair_keys::PairKeysOut) after the id, which come last in
/// every format of pairs.
const PAIR_KEYS: &[Named] =
    &[("kind", Text), (Column::PROVENANCE, Json), ("margin", Number), ("beta", Number)];

/// Returns the columns of a format, in order.
pub(in crate::format) fn columns(format: Format) -> Vec<&'static Named> {
    let keys = if matches!(format, Format::Llava | Format::Bpo) { &[] } else { PAIR_KEYS };
    own_columns(format).iter().chain(keys).collect()
}

/// Returns the columns of a format without those of [`PAIR_KEYS`].
fn own_columns(format: Format) -> &'static [Named] {
    match format {
        Format::Llava => LLAVA,
        Format::Bpo => BPO,
        Format::Pairs => PAIRS,
        Format::Trl => TRL,
        Format::TrlPlain => TRL_PLAIN,
        Format::LlamaFactory => LLAMA_FACTORY,
        Format::MsSwift => MS_SWIFT,
        Format::Povid => POVID,
        Format::RlhfV => RLHF_V,
        Format::RlaifV => RLAIF_V,
    }
}

impl Column {
    /// The name of columns with JSON text.
    pub(super) const PROVENANCE: &'static str = "provenance";
    /// The parts of an image.
    pub(super) const IMAGE_PARTS: [&'static str; 2] = ["bytes", "path"];

    /// Returns the number of primitive columns.
    pub(super) fn leaves(&self) -> usize {
        match self {
            Text | Json | Number => 1,
            Image => Self::IMAGE_PARTS.len(),
            List(element) => element.leaves(),
            Struct(parts) => parts.iter().map(|(_, part)| part.leaves()).sum(),
        }
    }
}
