//! Subsets of the samples of each source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::is_within;
use crate::record::Record;
use crate::row_images::RowImage;

/// Name of the source of images without a directory.
const NO_DIRECTORY: &str = ".";
/// Name of the source of texts without an image.
const NO_IMAGE: &str = "text-only";
/// Name that stands for all sources that are not named.
const OTHERS: &str = "*";

/// Returns the source of a sample: the first directory in the path of its first image, such as
/// `coco` for `coco/train2017/000000000009.jpg`. An image without a directory has the source `.`,
/// and a text without an image the source `text-only`. The path of an image in a row is that of its
/// Parquet file.
pub fn source_of(images: &[String]) -> &str {
    let Some(path) = images.first() else { return NO_IMAGE };
    let path = RowImage::of_name(path).map_or(path.as_str(), |(file, _)| file);
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    match (parts.next(), parts.next()) {
        (Some(first), Some(_)) => first,
        _ => NO_DIRECTORY,
    }
}

/// The share of the samples of each [source](source_of) that make pairs, in percent. `*` stands for
/// all sources that are not named; without it they make all their pairs.
///
/// The seed and the id of a sample decide, so 10 % of a source are a part of its 20 %, and the number
/// of samples is only on average that of the percentage: 500 of 1,000 samples are 468 to 532.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subset(BTreeMap<String, f64>);

impl Subset {
    /// Sets the share of a source in percent.
    #[must_use]
    pub fn with(mut self, source: impl Into<String>, percent: f64) -> Self {
        self.0.insert(source.into(), percent);
        self
    }

    /// Returns whether all samples make pairs.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the named sources and their shares in percent.
    pub fn percents(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(source, &percent)| (source.as_str(), percent))
    }

    /// Iterates over the named sources, without the name for all others.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|source| *source != OTHERS)
    }

    /// Returns whether a record makes pairs.
    pub(super) fn has(&self, record: &Record, seed: u64) -> bool {
        let percent = self.0.get(source_of(&record.images)).or_else(|| self.0.get(OTHERS));
        percent.is_none_or(|&percent| is_within(percent, "subset", seed, &record.id))
    }
}
