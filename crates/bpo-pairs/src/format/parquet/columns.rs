//! The columns of each format.

use crate::format::Format;
use crate::format::ms_swift::MARGIN;

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
    /// A list, and the number of its primitive columns.
    List(&'static Column, usize),
    /// A struct with named parts, and the number of its primitive columns.
    Struct(&'static [Named], usize),
}

/// A column and its name.
pub(in crate::format) type Named = (&'static str, Column);

use Column::{Image, Json, List, Number, Struct, Text};

/// Returns the column of a list.
const fn list(element: &'static Column) -> Column {
    List(element, element.leaves())
}

/// Returns the column of a struct.
const fn fields(parts: &'static [Named]) -> Column {
    let (mut leaves, mut at) = (0, 0);
    while at < parts.len() {
        leaves += parts[at].1.leaves();
        at += 1;
    }
    Struct(parts, leaves)
}

const MESSAGES: Column = list(&fields(&[("role", Text), ("content", Text)]));
const TURNS: Column = list(&fields(&[("from", Text), ("value", Text)]));
const ANSWER: Column = fields(&[("from", Text), ("value", Text)]);
const PARTS: Column =
    list(&fields(&[("role", Text), ("content", list(&fields(&[("type", Text), ("text", Text)])))]));
const HISTORY: Column = list(&fields(&[("prompt", Text), ("answer", Text)]));
const COMPLETIONS: Column =
    list(&fields(&[("score", Number), ("response", Text), ("type", Text), (Column::PROVENANCE, Json)]));

/// The columns of a format of pairs: its own, and those of
/// [`PairKeysOut`](crate::format::pair_keys::PairKeysOut) after the id. `margin: NAME` is another name
/// of the margin.
macro_rules! columns_of_pairs {
    (margin: $margin:expr; $($own:expr),* $(,)?) => {
        &[
            $($own,)*
            ("kind", Text),
            ("chosen_kind", Text),
            (Column::PROVENANCE, Json),
            ($margin, Number),
            ("beta", Number),
            ("contrast_images", list(&Image)),
            ("contrast_answer", Text),
        ]
    };
    ($($own:expr),* $(,)?) => { columns_of_pairs![margin: "margin"; $($own),*] };
}

const LLAVA: &[Named] =
    &[("id", Text), ("image", Image), ("images", list(&Image)), ("system", Text), ("conversations", TURNS)];
const BPO: &[Named] = &[
    ("id", Text),
    ("prompt", Text),
    ("image", Image),
    ("images", list(&Image)),
    ("system", Text),
    ("history", HISTORY),
    ("completions", COMPLETIONS),
];
const PAIRS: &[Named] = columns_of_pairs![
    ("id", Text),
    ("images", list(&Image)),
    ("system", Text),
    ("history", HISTORY),
    ("prompt", Text),
    ("chosen", Text),
    ("rejected", Text),
];
const TRL: &[Named] = columns_of_pairs![
    ("id", Text),
    ("images", list(&Image)),
    ("prompt", PARTS),
    ("chosen", PARTS),
    ("rejected", PARTS)
];
const TRL_PLAIN: &[Named] = columns_of_pairs![
    ("id", Text),
    ("images", list(&Image)),
    ("prompt", Text),
    ("chosen", Text),
    ("rejected", Text)
];
const LLAMA_FACTORY: &[Named] = columns_of_pairs![
    ("id", Text),
    ("images", list(&Image)),
    ("system", Text),
    ("conversations", TURNS),
    ("chosen", ANSWER),
    ("rejected", ANSWER),
];
const MS_SWIFT: &[Named] = columns_of_pairs![
    margin: MARGIN;
    ("id", Text),
    ("images", list(&Image)),
    ("messages", MESSAGES),
    ("rejected_response", Text),
];
const POVID: &[Named] = columns_of_pairs![
    ("id", Text),
    ("image", Image),
    ("images", list(&Image)),
    ("system", Text),
    ("conversations", TURNS),
    ("rejected_conversations", TURNS),
];
const RLHF_V: &[Named] = columns_of_pairs![
    ("ds_name", Text),
    ("image", Image),
    ("text", Text),
    ("origin_dataset", Text),
    ("origin_split", Text),
    ("idx", Text),
    ("image_path", Text),
];
const RLAIF_V: &[Named] = columns_of_pairs![
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

/// Returns the columns of a format, in order.
pub(in crate::format) fn columns(format: Format) -> &'static [Named] {
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
    pub(super) const fn leaves(&self) -> usize {
        match self {
            Text | Json | Number => 1,
            Image => Self::IMAGE_PARTS.len(),
            List(_, leaves) | Struct(_, leaves) => *leaves,
        }
    }
}
