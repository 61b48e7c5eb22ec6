//! Comparison of a recorded stage with the current settings and inputs.

use std::path::Path;

use super::inputs::IMAGES;
use super::manifest::StageEntry;
use crate::config::{CHOSEN, Change, REFUSALS, may_change_until_finished};
use crate::error::BpoError;

/// The setting with the path of the images.
pub(super) const IMAGES_KEY: &str = "data.images";

/// The differences between the recorded entry of a stage and its current one.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) settings: Vec<Change>,
    pub(super) inputs: Vec<Change>,
}

impl Differences {
    /// Compares two entries. Everything differs if `recorded` is `None`.
    ///
    /// Settings that may change until a stage is finished make no difference before.
    pub(super) fn find(recorded: Option<&StageEntry>, current: &StageEntry) -> Self {
        let empty = StageEntry::default();
        let is_new = recorded.is_none();
        let recorded = recorded.unwrap_or(&empty);
        let mut found = Self::between(recorded, current);
        if recorded.finished.is_none() {
            found.settings.retain(|change| !may_change_until_finished(&change.key));
        }
        if is_new && found.is_empty() {
            // a stage without settings and inputs still needs an entry
            found.inputs.push(Change { key: "manifest".into(), old: None, new: None });
        }
        found
    }

    /// Compares the settings and inputs of two entries.
    ///
    /// The paths of the images make no difference if the names and sizes of the images are the
    /// same. The images at one path make none, because a missing image may be added.
    pub(super) fn between(one: &StageEntry, other: &StageEntry) -> Self {
        let mut found = Self {
            settings: Change::between(&one.settings, &other.settings),
            inputs: Change::between(&one.inputs, &other.inputs),
        };
        let print = one.inputs.get(IMAGES);
        if print.is_some() && print == other.inputs.get(IMAGES) {
            found.settings.retain(|change| change.key != IMAGES_KEY);
        }
        found.inputs.retain(|change| change.key != IMAGES);
        // with other chosen answers, other settings and inputs belong to the pairs
        if found.settings.iter().any(|change| change.key == CHOSEN) {
            found.settings.retain(|change| change.key != REFUSALS);
            found.inputs.retain(|change| !change.key.starts_with("truth."));
        }
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.inputs.is_empty()
    }

    /// Adds the differences of another stage, without duplicates.
    pub(super) fn add(&mut self, other: Self) {
        for (all, new) in [(&mut self.settings, other.settings), (&mut self.inputs, other.inputs)] {
            for change in new {
                if !all.contains(&change) {
                    all.push(change);
                }
            }
        }
    }

    pub(super) fn into_error(self, path: &Path) -> BpoError {
        BpoError::Changed { path: path.to_owned(), settings: self.settings, inputs: self.inputs }
    }
}
