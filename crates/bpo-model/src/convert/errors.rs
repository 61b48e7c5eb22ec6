//! Errors of the converted checkpoint, with the files, keys and weights of the original.

use std::path::{Path, PathBuf};

use super::names;
use super::weights::Plan;
use crate::error::{ModelError, WeightProblems};
use crate::json::JsonError;
use crate::processor::ProcessorError;

/// The files that a conversion reads and writes.
pub(super) struct Files<'a> {
    /// The original checkpoint.
    pub(super) dir: &'a Path,
    /// The vision tower's checkpoint.
    pub(super) tower: &'a Path,
    /// Whether the tower's `config.json` has the tower in `vision_config`.
    pub(super) tower_is_nested: bool,
    /// The directory that the converted checkpoint is made in.
    pub(super) made: &'a Path,
}

impl Files<'_> {
    /// The error of the converted checkpoint as one of the files that it was made of.
    pub(super) fn of_original(&self, error: ModelError, plan: &Plan) -> ModelError {
        match error {
            ModelError::Json(error) => self.of_json(error).into(),
            ModelError::Unsupported { path, key, found, supported } => {
                let (path, key) = self.place(path, key);
                ModelError::Unsupported { path, key, found, supported }
            }
            ModelError::OverLimit { path, key, found, limit } => {
                let (path, key) = self.place(path, key);
                ModelError::OverLimit { path, key, found, limit }
            }
            ModelError::Family { path, found, supported } => {
                ModelError::Family { path: self.file(path), found, supported }
            }
            ModelError::Weights { problems, .. } => self.of_weights(*problems, plan),
            ModelError::Processor(error) => self.of_processor(error).into(),
            error => error,
        }
    }

    fn of_json(&self, error: JsonError) -> JsonError {
        match error {
            JsonError::Value { path, key, expected, found } => {
                let (path, key) = self.place(path, key);
                JsonError::Value { path, key, expected, found }
            }
            JsonError::GitLfs { path } => JsonError::GitLfs { path: self.file(path) },
            JsonError::Syntax { path, source } => JsonError::Syntax { path: self.file(path), source },
            error => error,
        }
    }

    fn of_processor(&self, error: ProcessorError) -> ProcessorError {
        match error {
            ProcessorError::Json(error) => self.of_json(error).into(),
            ProcessorError::NoImageProcessor { .. } => {
                ProcessorError::NoImageProcessor { dir: self.tower.into() }
            }
            ProcessorError::NoTokenizer { path } => ProcessorError::NoTokenizer { path: self.file(path) },
            ProcessorError::Tokenizer { path, source } => {
                ProcessorError::Tokenizer { path: self.file(path), source }
            }
            ProcessorError::NoToken { token, hint, .. } => {
                ProcessorError::NoToken { dir: self.dir.into(), token, hint }
            }
            error => error,
        }
    }

    fn of_weights(&self, mut problems: WeightProblems, plan: &Plan) -> ModelError {
        let mut of_tower = !plan.has_tower();
        for name in problems.names_mut() {
            of_tower &= names::is_of_tower(name);
            *name = plan.original(name);
        }
        let dir = if of_tower { self.tower } else { self.dir };
        ModelError::Weights { dir: dir.into(), problems: problems.into() }
    }

    /// The file that a file of the converted checkpoint was made of.
    fn file(&self, path: PathBuf) -> PathBuf {
        self.place(path, String::new()).0
    }

    /// The file and key that a key of the converted checkpoint was made of.
    fn place(&self, path: PathBuf, key: String) -> (PathBuf, String) {
        let Ok(name) = path.strip_prefix(self.made) else { return (path, key) };
        match name.to_str() {
            Some("preprocessor_config.json") => (self.tower.join(name), key),
            // its only size
            Some("processor_config.json") => self.of_vision(key),
            Some("config.json") => {
                if let Some(rest) = key.strip_prefix("vision_config") {
                    return self.of_vision(rest.trim_start_matches('.').to_owned());
                }
                (self.dir.join(name), of_config(&key))
            }
            _ => (self.dir.join(name), key),
        }
    }

    fn of_vision(&self, key: String) -> (PathBuf, String) {
        let inner = if key.is_empty() { "vision_config".to_owned() } else { format!("vision_config.{key}") };
        (self.tower.join("config.json"), if self.tower_is_nested { inner } else { key })
    }
}

/// The key of the original `config.json` for one of the converted file.
fn of_config(key: &str) -> String {
    const RENAMED: [(&str, &str); 3] = [
        ("vision_feature_layer", "mm_vision_select_layer"),
        ("vision_feature_select_strategy", "mm_vision_select_feature"),
        ("text_config.", ""),
    ];
    let renamed = RENAMED.iter().find_map(|(new, old)| Some(format!("{old}{}", key.strip_prefix(new)?)));
    renamed.unwrap_or_else(|| key.to_owned())
}
