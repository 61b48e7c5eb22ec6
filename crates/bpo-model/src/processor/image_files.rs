//! The files that have the settings of an image processor, for all families.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ProcessorError;
use super::sources::{IMAGES, PROCESSOR, warn_of};
use crate::json::{JsonError, from_value, optional, read_json};

/// A file with settings of an image processor.
#[derive(Clone, Debug)]
pub(crate) struct ImageFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// The key of the settings, or nothing where they are the whole file.
    pub(crate) at: &'static str,
}

impl ImageFile {
    /// Returns a key of the settings as the file has it.
    pub(crate) fn key(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    /// Returns the error for the value of a key that cannot be used.
    pub(crate) fn wrong(&self, key: &str, expected: &str, found: impl ToString) -> ProcessorError {
        let (path, key) = (self.path.clone(), self.key(key));
        JsonError::Value { path, key, expected: expected.to_owned(), found: found.to_string() }.into()
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }
}

/// Returns the settings in each file that has some, in the order of precedence:
/// `processor_config.json` (`image_processor`), `preprocessor_config.json`. Keys that are `null` are
/// left out, because some versions of transformers write `null` for the default.
///
/// # Errors
/// [`ProcessorError::Json`].
pub(crate) fn image_settings(dir: &Path) -> Result<Vec<(ImageFile, Value)>, ProcessorError> {
    const KEY: &str = "image_processor";
    let mut found = Vec::new();
    let mut add = |path: PathBuf, at, mut settings: Map<String, Value>| {
        settings.retain(|_, value| !value.is_null());
        found.push((ImageFile { path, at }, settings.into()));
    };
    let path = dir.join(PROCESSOR);
    let nested = optional(read_json::<Map<String, Value>>(&path))?.and_then(|mut all| all.remove(KEY));
    if let Some(nested) = nested.filter(|nested| !nested.is_null()) {
        let settings = from_value(&nested, &path, KEY)?;
        add(path, KEY, settings);
    }
    let path = dir.join(IMAGES);
    if let Some(settings) = optional(read_json(&path))? {
        add(path, "", settings);
    }
    Ok(found)
}

/// Reads the settings of the first file that has some. A warning names the keys whose values differ
/// in another file.
///
/// # Errors
/// [`ProcessorError::NoImageProcessor`] if no file has settings, and the errors of `read`.
pub(crate) fn first_settings<T>(
    dir: &Path,
    read: impl Fn(Value, &ImageFile) -> Result<T, JsonError>,
    differences: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Result<(T, ImageFile), ProcessorError> {
    let mut all = Vec::new();
    for (file, settings) in image_settings(dir)? {
        all.push((read(settings, &file)?, file));
    }
    let mut all = all.into_iter();
    let Some((first, file)) = all.next() else {
        return Err(ProcessorError::NoImageProcessor { dir: dir.to_owned() });
    };
    for (other, other_file) in all {
        let keys = differences(&first, &other);
        if !keys.is_empty() {
            warn_of(dir, &format!("`{}`", keys.join("`, `")), &file.name(), &other_file.name());
        }
    }
    Ok((first, file))
}

/// Checks that a processor writes as many image tokens as a tile has features. The number is under
/// `key` in `processor_config.json`, and without it `default`.
///
/// # Errors
/// [`ProcessorError::Json`].
pub(crate) fn check_tile_tokens(
    dir: &Path,
    key: &str,
    default: usize,
    tokens: usize,
) -> Result<(), ProcessorError> {
    let path = dir.join(PROCESSOR);
    let settings: Map<String, Value> = optional(read_json(&path))?.unwrap_or_default();
    let value = settings.get(key).filter(|value| !value.is_null());
    let found = value.map(|value| from_value::<usize>(value, &path, key)).transpose()?;
    if found.unwrap_or(default) == tokens {
        return Ok(());
    }
    let expected = format!("{tokens}, the features of a tile");
    let found =
        found.map_or_else(|| format!("no value, which stands for {default}"), |found| found.to_string());
    Err(JsonError::Value { path, key: key.to_owned(), expected, found }.into())
}

/// Checks the standard deviations by which values are divided.
///
/// # Errors
/// [`ProcessorError::Json`] if one is 0.
pub(crate) fn check_std(file: &ImageFile, std: &[f64]) -> Result<(), ProcessorError> {
    if std.contains(&0.0) {
        return Err(file.wrong("image_std", "numbers other than 0", Value::from(std.to_vec())));
    }
    Ok(())
}
