//! JSON files, with errors that name the key.

use std::path::Path;

use bpo_pairs::files::read_text;
use bpo_pairs::{Limits, Words};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::ModelError;

/// The text of a file, without a byte order mark.
pub(crate) fn read_to_string(path: &Path) -> Result<String, ModelError> {
    let text = read_text(path, Limits::DEFAULT.settings_bytes)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// Reads a JSON file.
///
/// # Errors
/// [`ModelError::Io`]; [`ModelError::Json`] with line and column for what is not JSON; [`ModelError::Value`] with the key
/// of a value that has another type than is expected.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let text = read_to_string(path)?;
    let mut file = serde_json::Deserializer::from_str(&text);
    let value = serde_path_to_error::deserialize(&mut file).map_err(|error| broken(path, error))?;
    file.end().map_err(|source| ModelError::Json { path: path.into(), source })?;
    Ok(value)
}

/// As [`read_json`] for files that write `null` where they mean the default.
pub(crate) fn read_settings<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let mut settings: Map<String, Value> = read_json(path)?;
    settings.retain(|_, value| !value.is_null());
    serde_path_to_error::deserialize(Value::Object(settings)).map_err(|error| broken(path, error))
}

fn broken(path: &Path, error: serde_path_to_error::Error<serde_json::Error>) -> ModelError {
    let key = error.path().to_string();
    let source = error.into_inner();
    if !source.is_data() {
        return ModelError::Json { path: path.into(), source };
    }
    let message = source.to_string();
    let place = format!(" at line {} column {}", source.line(), source.column());
    let key = if key == "." { String::new() } else { format!("`{key}`: ") };
    ModelError::Value {
        path: path.into(),
        problem: key + &Words::Json.message(message.trim_end_matches(&place)),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object")]
    #[allow(dead_code)]
    struct Settings {
        alpha: f64,
        layers: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object")]
    #[allow(dead_code)]
    struct Inner {
        size: usize,
    }

    #[test]
    fn a_value_of_another_type_is_named_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        for (text, expected) in [
            (r#"{"alpha": "16"}"#, r#"`alpha`: expected a number, found the text "16""#),
            (
                r#"{"alpha": 1, "layers": [{"size": 1}, {"size": -2.5}]}"#,
                "`layers[1].size`: expected a whole number, at least 0, found -2.5",
            ),
            (r#"{"alpha": 1, "layers": {}}"#, "`layers`: expected a list, found an object"),
            (r#"{"alpha": 1, "layers": [3]}"#, "`layers[0]`: expected an object, found 3"),
            (r#"{"layers": []}"#, "missing field `alpha`"),
        ] {
            std::fs::write(&path, text).unwrap();
            for error in [read_json::<Settings>(&path), read_settings(&path)] {
                let error = error.unwrap_err().to_string();
                assert_eq!(error, format!("{}: {expected}", path.display()));
            }
        }
        for text in ["{\n \"alpha\": ", "{\"alpha\": 1}\n}"] {
            std::fs::write(&path, text).unwrap();
            let error = read_settings::<Settings>(&path).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
        std::fs::write(&path, r#"{"alpha": 1, "layers": null}"#).unwrap();
        read_settings::<Settings>(&path).unwrap();
    }
}
