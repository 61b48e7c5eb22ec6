//! Text forms of the built-in losses, for command lines and messages.

use std::fmt;
use std::str::FromStr;

use super::{Loss, LossError, sum};

/// All names. A loss that is parsed from its name has its default settings.
const NAMES: &str = "sigmoid (DPO), sigmoid_norm, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, \
                     aot_unpaired, apo_zero, apo_down, discopop, simpo, conditional, anchor, chip, sft, mpo or mdpo";

impl FromStr for Loss {
    type Err = LossError;

    fn from_str(name: &str) -> Result<Self, LossError> {
        match name {
            "mpo" => Ok(Self::mpo()),
            "mdpo" => Ok(Self::mdpo()),
            name => serde_json::from_value(serde_json::json!({ "type": name }))
                .map_err(|_| LossError::Setting { key: "loss", expected: NAMES, found: name.to_owned() }),
        }
    }
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
