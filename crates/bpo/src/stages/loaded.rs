//! The images of a batch, each read once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bpo_pairs::{SftSample, SkipReason, Skipped};
use image::RgbImage;

use crate::error::{BpoError, chain};
use crate::images::{ImageError, ImageRoot};

/// The images of a batch by their names.
pub(super) struct LoadedImages<'a> {
    root: &'a ImageRoot,
    images: HashMap<&'a str, Result<Arc<RgbImage>, ImageError>>,
}

/// Another sample's image.
pub(super) struct OtherImage {
    pub(super) name: String,
    pub(super) image: Arc<RgbImage>,
}

impl<'a> LoadedImages<'a> {
    /// No image yet.
    pub(super) fn new(root: &'a ImageRoot) -> Self {
        Self { root, images: HashMap::new() }
    }

    /// The image of a sample, or why it is skipped.
    ///
    /// # Errors
    /// If the failure is not the image's fault.
    pub(super) fn load(&mut self, sample: &'a SftSample) -> Result<Result<Arc<RgbImage>, Skipped>, BpoError> {
        Ok(match self.get(&sample.image)? {
            Ok(image) => Ok(Arc::clone(image)),
            Err(error) => {
                let reason = error.reason().unwrap_or(SkipReason::ImageUnreadable);
                Err(Skipped::new(&sample.id, reason).with_detail(chain(error)))
            }
        })
    }

    /// The image of another sample, chosen by `seed`; the next one after it where that is the same
    /// or cannot be used. `None` if there is none.
    ///
    /// # Errors
    /// If the failure is not an image's fault.
    pub(super) fn other(
        &mut self,
        samples: &'a [SftSample],
        own: &SftSample,
        seed: u64,
    ) -> Result<Option<OtherImage>, BpoError> {
        let first = seed % samples.len().max(1) as u64;
        let (before, after) = samples.split_at(first as usize);
        for sample in after.iter().chain(before).filter(|sample| sample.image != own.image) {
            if let Ok(image) = self.get(&sample.image)? {
                return Ok(Some(OtherImage { name: sample.image.clone(), image: Arc::clone(image) }));
            }
        }
        Ok(None)
    }

    fn get(&mut self, name: &'a str) -> Result<&Result<Arc<RgbImage>, ImageError>, BpoError> {
        match self.images.entry(name) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => match self.root.load(name) {
                Err(error) if error.reason().is_none() => Err(error.into()),
                loaded => Ok(entry.insert(loaded.map(Arc::new))),
            },
        }
    }
}
