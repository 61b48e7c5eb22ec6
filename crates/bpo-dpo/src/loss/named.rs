//! Losses by name, as a command line has them.

use std::fmt;
use std::str::FromStr;

use super::Loss;
use crate::error::DpoError;

/// Every name; settings that a loss has besides are its defaults.
const NAMES: &str = "sigmoid (DPO's own), sigmoid_norm, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, \
                     aot_unpaired, apo_zero, apo_down, discopop, simpo, conditional, anchor, sft, mpo or mdpo";

impl FromStr for Loss {
    type Err = DpoError;

    fn from_str(name: &str) -> Result<Self, DpoError> {
        match name {
            "mpo" => Ok(Self::mpo()),
            "mdpo" => Ok(Self::mdpo()),
            name => serde_json::from_value(serde_json::json!({ "type": name }))
                .map_err(|_| DpoError::Setting { key: "loss", expected: NAMES, found: name.to_owned() }),
        }
    }
}

impl fmt::Display for Loss {
    /// The name that [`FromStr`] reads, or what a sum is of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sum { .. } if *self == Self::mpo() => f.write_str("mpo"),
            Self::Sum { .. } if *self == Self::mdpo() => f.write_str("mdpo"),
            Self::Sum { terms } => {
                let terms: Vec<String> =
                    terms.iter().map(|term| format!("{} {}", term.weight, term.loss)).collect();
                write!(f, "sum ({})", terms.join(", "))
            }
            loss => f.write_str(loss.name()),
        }
    }
}
