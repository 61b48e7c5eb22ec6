//! Text forms of the built-in losses, for command lines, settings and messages.

use std::fmt;
use std::str::FromStr;

use bpo_pairs::nearest_name;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Loss, LossError, sum};

/// All names. A loss that is parsed from its name has its default settings.
const NAMES: &str = "sigmoid (DPO), sigmoid_norm, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, \
                     aot_unpaired, apo_zero, apo_down, discopop, simpo, conditional, anchor, chip, symmpo, sft, mpo or mdpo";

impl FromStr for Loss {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        match name {
            "mpo" => Ok(Self::mpo()),
            "mdpo" => Ok(Self::mdpo()),
            name => serde_json::from_value(serde_json::json!({ "type": name })).map_err(|_| {
                let found = match meant(name) {
                    Some(meant) => format!("{name}: did you mean `{meant}`?"),
                    None => name.to_owned(),
                };
                LossError::Setting { key: "loss", expected: NAMES, found }
            }),
        }
    }
}

/// Returns the name of a loss that a misspelt one may mean.
fn meant(name: &str) -> Option<&'static str> {
    if name.eq_ignore_ascii_case("dpo") {
        return Some("sigmoid");
    }
    let is_name = |word: &&str| word.len() > 2 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let names: Vec<&'static str> = NAMES.split([' ', ',']).filter(is_name).collect();
    nearest_name(name, &names)
}

impl fmt::Display for Loss {
    /// Writes the name that [`FromStr`] parses, or the terms of a sum.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum { .. } if *self == Self::mpo() => f.write_str("mpo"),
            Self::Sum { .. } if *self == Self::mdpo() => f.write_str("mdpo"),
            Self::Sum { terms } => f.write_str(&sum::name(terms)),
            loss => f.write_str(loss.type_name()),
        }
    }
}

impl Serialize for Loss {
    /// Writes a table with the key `type`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // the derived function, which is not that of the trait
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Loss {
    /// Reads a table with the key `type`, or the name that [`FromStr`] parses.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Loss;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a loss, or a table with its `type` and settings")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Loss, E> {
                name.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Loss, A::Error> {
                Loss::deserialize(MapAccessDeserializer::new(table))
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}
