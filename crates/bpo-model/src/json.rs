//! JSON files, with errors that name the key in JSON's own words.

mod strict;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bpo_pairs::files::{FileError, read_text};
use bpo_pairs::{Limits, MessageTerms, Untrusted, UntrustedPath};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use strict::Strict;

/// Longest text of a value in an error, in characters.
const SHOWN: usize = 80;

/// Why a JSON file of a checkpoint or an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The file cannot be read, is not a regular file or is too large.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is a pointer of Git LFS in place of the file.
    #[error(
        "{} is a pointer of Git LFS, and not the file itself: fetch the files with `git lfs pull`",
        UntrustedPath(path)
    )]
    GitLfs {
        /// The file.
        path: PathBuf,
    },
    /// The file is not JSON, or is cut off.
    #[error("{} is not JSON: {source}{}", UntrustedPath(path), InCache(path))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and problem.
        source: serde_json::Error,
    },
    /// A value has another type than is expected, is missing, or cannot be used.
    #[error(
        "{}: {}expected {}, found {}",
        UntrustedPath(path),
        At(key),
        Untrusted(expected),
        Untrusted(found)
    )]
    Value {
        /// The file.
        path: PathBuf,
        /// The key and its place in the file: `text_config.eos_token_id[1]`. Empty for the whole
        /// file.
        key: String,
        /// The expected value.
        expected: String,
        /// The value in the file, as JSON.
        found: String,
    },
}

/// Advice for a broken file in a cache of the Hugging Face Hub, which has
/// `models--ORG--NAME/snapshots/COMMIT/FILE` and no longer compares the file with the hub.
struct InCache<'a>(&'a Path);

impl std::fmt::Display for InCache<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let snapshots = self.0.parent().and_then(Path::parent).filter(|dir| dir.ends_with("snapshots"));
        if snapshots.is_none() {
            return Ok(());
        }
        f.write_str("; to download it again, delete it")?;
        match self.0.canonicalize() {
            Ok(blob) if blob != self.0 => write!(f, " and {}, which it is a link to", UntrustedPath(&blob)),
            _ => Ok(()),
        }
    }
}

/// Refuses the content of a file that is a pointer of Git LFS: what is there after `git clone`
/// without `git lfs`.
///
/// # Errors
/// [`JsonError::GitLfs`].
pub(crate) fn check_lfs(bytes: &[u8], path: &Path) -> Result<(), JsonError> {
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(JsonError::GitLfs { path: path.to_owned() });
    }
    Ok(())
}

/// The key of an error, where there is one.
struct At<'a>(&'a str);

impl std::fmt::Display for At<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", Untrusted(self.0)) }
    }
}

/// Reads a text file without its byte order mark.
///
/// # Errors
/// [`JsonError::File`].
pub(crate) fn read_plain(path: &Path) -> Result<String, JsonError> {
    let text = read_text(path, Limits::DEFAULT.settings_bytes)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Returns `None` where the file does not exist.
///
/// # Errors
/// Every other error of `read`.
pub(crate) fn optional<T>(read: Result<T, JsonError>) -> Result<Option<T>, JsonError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(JsonError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a JSON file whose top level is an object. The entries of maps keep the order of the file
/// where `T` keeps it.
///
/// # Errors
/// [`JsonError`].
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, JsonError> {
    let text = read_plain(path)?;
    check_lfs(text.as_bytes(), path)?;
    let syntax = |source| JsonError::Syntax { path: path.to_owned(), source };
    // errors of a value name the key, but a value does not keep the order of keys
    let value = serde_json::from_str(&text).map_err(syntax)?;
    check_object(&value, path)?;
    check::<T>(&value, path)?;
    serde_json::from_str(&text).map_err(syntax)
}

/// As [`read_json`], for files that write `null` at their top level where they mean the default.
///
/// # Errors
/// [`JsonError`].
pub(crate) fn read_without_nulls<T: DeserializeOwned>(path: &Path) -> Result<T, JsonError> {
    let mut settings: Map<String, Value> = read_json(path)?;
    settings.retain(|_, value| !value.is_null());
    from_value(&Value::Object(settings), path, "")
}

/// Reads `value`, which `path` has at the key `at` (at its top level where that is empty), as a
/// `T`.
///
/// # Errors
/// [`JsonError::Value`].
pub(crate) fn from_value<T: DeserializeOwned>(value: &Value, path: &Path, at: &str) -> Result<T, JsonError> {
    typed(value).map_err(|misfit| {
        let dot = if at.is_empty() || misfit.key.is_empty() { "" } else { "." };
        JsonError::Value {
            path: path.to_owned(),
            key: format!("{at}{dot}{}", misfit.key),
            expected: misfit.expected,
            found: misfit.found,
        }
    })
}

fn check<T: DeserializeOwned>(value: &Value, path: &Path) -> Result<(), JsonError> {
    from_value::<T>(value, path, "").map(drop)
}

/// serde would read a list as the fields of a struct.
fn check_object(value: &Value, path: &Path) -> Result<(), JsonError> {
    if value.is_object() {
        return Ok(());
    }
    let (path, expected) = (path.to_owned(), "an object".to_owned());
    Err(JsonError::Value { path, key: String::new(), expected, found: shown(value) })
}

/// A value that does not have the expected form.
#[derive(Debug, PartialEq, Eq)]
struct UnexpectedValue {
    /// The key: `text_config.eos_token_id[1]`.
    key: String,
    /// The expected value.
    expected: String,
    /// The value, as JSON.
    found: String,
}

/// Reads `value` as a `T`.
///
/// # Errors
/// [`UnexpectedValue`] for the first value that a `T` cannot have.
fn typed<T: DeserializeOwned>(value: &Value) -> Result<T, UnexpectedValue> {
    serde_path_to_error::deserialize(Strict(value)).map_err(|error| {
        let message = error.inner().to_string();
        let mut key = written(error.path());
        let found = at(value, error.path());
        if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(field);
            return UnexpectedValue { key, expected: "a value".to_owned(), found: "nothing".to_owned() };
        }
        let expected = message.split_once("expected ").map_or(message.as_str(), |(_, expected)| expected);
        UnexpectedValue {
            key,
            expected: MessageTerms::Json.expected(expected),
            found: found.map_or_else(|| "nothing".to_owned(), shown),
        }
    })
}

/// Writes `value` as JSON and cuts it where it is long.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

fn written(path: &serde_path_to_error::Path) -> String {
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

fn at<'a>(value: &'a Value, path: &serde_path_to_error::Path) -> Option<&'a Value> {
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
            (
                json!({ "_inner": [1.0, [1, 2], true, null] }),
                ["_inner", "an object", "[1.0,[1,2],true,null]"],
            ),
            (
                json!({ "_inner": { "_sizes": [1, 2, 3] } }),
                ["_inner._sizes", "fewer elements in array", "[1,2,3]"],
            ),
            (json!({ "_inner": { "_colour": "blue" } }), ["_inner._colour", "`red`", "\"blue\""]),
        ] {
            let misfit = typed::<Outer>(&value).unwrap_err();
            assert_eq!([misfit.key, misfit.expected, misfit.found], expected, "{value}");
        }
        assert_eq!(shown(&json!("a".repeat(200))).len(), SHOWN + 3);
    }

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object")]
    struct Settings {
        #[allow(dead_code)]
        alpha: f64,
        layers: Option<Vec<u32>>,
    }

    #[test]
    fn files_are_named_with_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        for (text, expected) in [
            (r#"{"alpha": "16"}"#, r#"`alpha`: expected a number, found "16""#),
            (
                r#"{"alpha": 1, "layers": [3, -2.5]}"#,
                "`layers[1]`: expected a whole number, at least 0, found -2.5",
            ),
            (r#"{"layers": []}"#, "`alpha`: expected a value, found nothing"),
            ("[1]", "expected an object, found [1]"),
        ] {
            std::fs::write(&path, text).unwrap();
            for error in [read_json::<Settings>(&path), read_without_nulls(&path)] {
                assert_eq!(error.unwrap_err().to_string(), format!("{}: {expected}", path.display()));
            }
        }
        for text in ["{\n \"alpha\": ", "{\"alpha\": 1}\n}"] {
            std::fs::write(&path, text).unwrap();
            let error = read_without_nulls::<Settings>(&path).unwrap_err().to_string();
            assert!(error.contains("is not JSON") && error.contains("line 2"), "{error}");
        }
        std::fs::write(&path, "\u{feff}{\"alpha\": 1, \"layers\": null}").unwrap();
        assert!(read_without_nulls::<Settings>(&path).unwrap().layers.is_none());
        assert!(optional(read_json::<Settings>(&dir.path().join("absent.json"))).unwrap().is_none());
        assert!(matches!(optional(read_json::<Settings>(dir.path())), Err(JsonError::File(_))));
    }
}
