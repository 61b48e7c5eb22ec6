//! Values of a JSON file as Rust types, with errors that name the key in JSON's own words.

use std::fmt::Write as _;

use bpo_pairs::Words;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// Longest text of a value in an error.
const SHOWN: usize = 80;

/// A value that is not of the form that is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Where it is: `text_config.eos_token_id[1]`.
    pub key: String,
    /// What would be right.
    pub expected: String,
    /// What is there, as JSON.
    pub found: String,
}

/// Reads `value` as a `T`.
///
/// # Errors
/// [`Misfit`] for the first value that a `T` cannot have.
pub(crate) fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let message = error.inner().to_string();
        let mut key = written(error.path());
        let found = at(value, error.path());
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(field);
            return Misfit { key, expected: "a value".to_owned(), found: "nothing".to_owned() };
        }
        let expected = message.split_once("expected ").map_or(message.as_str(), |(_, expected)| expected);
        Misfit {
            key,
            expected: Words::Json.expected(expected),
            found: found.map_or_else(|| "nothing".to_owned(), shown),
        }
    })
}

/// `value` as JSON, cut where it is long.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

fn written(path: &Path) -> String {
    let mut key = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                // writing to a string never fails
                let _ = write!(key, "[{index}]");
            }
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                if !key.is_empty() {
                    key.push('.');
                }
                key.push_str(name);
            }
            Segment::Unknown => {}
        }
    }
    key
}

fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        _rate: Option<f64>,
        _sizes: Option<[u32; 2]>,
        _flag: Option<bool>,
        _colour: Option<Colour>,
    }

    #[derive(Debug, Deserialize)]
    struct Outer {
        _inner: Inner,
        _map: Option<BTreeMap<String, u32>>,
    }

    #[test]
    fn misfits_name_the_key_and_use_jsons_words() {
        for (value, expected) in [
            (json!({ "_inner": { "_rate": "16" } }), ["_inner._rate", "a number", "\"16\""]),
            (
                json!({ "_inner": { "_sizes": [1, -1] } }),
                ["_inner._sizes[1]", "a whole number, at least 0", "-1"],
            ),
            (json!({ "_inner": { "_sizes": [1] } }), ["_inner._sizes", "a list of length 2", "[1]"]),
            (json!({ "_inner": { "_flag": 1 } }), ["_inner._flag", "true or false", "1"]),
            (json!({ "_inner": 3 }), ["_inner", "an object", "3"]),
            (json!({ "_inner": {}, "_map": { "a": 1.5 } }), ["_map.a", "a whole number, at least 0", "1.5"]),
            (json!({ "_map": {} }), ["_inner", "a value", "nothing"]),
            (json!({ "_inner": { "_colour": "blue" } }), ["_inner._colour", "`red`", "\"blue\""]),
        ] {
            let misfit = typed::<Outer>(&value).unwrap_err();
            assert_eq!([misfit.key, misfit.expected, misfit.found], expected, "{value}");
        }
        assert_eq!(shown(&json!("a".repeat(200))).len(), SHOWN + 3);
    }
}
