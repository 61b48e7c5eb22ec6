//! The images of the weaken stage.

use bpo_pairs::{SftSample, SkipReason, Skipped};

use crate::error::{BpoError, chain};
use crate::image_cache::{ImageCache, LazyImage};
use crate::images::ImageError;

/// The image of another sample.
pub(super) struct OtherImage {
    pub(super) name: String,
    pub(super) image: LazyImage,
}

/// Checks that a sample has images and that all of them can be loaded. The inner error is the reason
/// to skip the sample.
///
/// # Errors
/// Returns an error if the failure is not caused by an image.
pub(super) fn check(
    cache: &ImageCache,
    sample: &SftSample,
) -> Result<Result<Vec<LazyImage>, Skipped>, BpoError> {
    if sample.images.is_empty() {
        let skipped = Skipped::new(&sample.id, SkipReason::NoImage);
        return Ok(Err(skipped.with_detail("no image: a text without an image has nothing to weaken")));
    }
    let mut images = Vec::with_capacity(sample.images.len());
    for name in &sample.images {
        match usable(cache, name)? {
            Ok(image) => images.push(image),
            Err(error) => {
                let reason = error.reason().unwrap_or(SkipReason::ImageUnreadable);
                return Ok(Err(Skipped::new(&sample.id, reason).with_detail(chain(&error))));
            }
        }
    }
    Ok(Ok(images))
}

/// Returns an image of another sample, chosen by `seed`. If that image is one of the sample's own or
/// cannot be used, the following images are tried. Returns `None` if no sample has another image.
///
/// # Errors
/// Returns an error if a failure is not caused by an image.
pub(super) fn other(
    cache: &ImageCache,
    samples: &[SftSample],
    own: &SftSample,
    seed: u64,
) -> Result<Option<OtherImage>, BpoError> {
    let first = seed % samples.len().max(1) as u64;
    let (before, after) = samples.split_at(first as usize);
    let names = after.iter().chain(before).flat_map(|sample| &sample.images);
    for name in names.filter(|name| !own.images.contains(name)) {
        if let Ok(image) = usable(cache, name)? {
            return Ok(Some(OtherImage { name: name.clone(), image }));
        }
    }
    Ok(None)
}

/// Loads an image to check it. The cache may keep it.
fn usable(cache: &ImageCache, name: &str) -> Result<Result<LazyImage, ImageError>, BpoError> {
    match cache.load(name) {
        Ok(_) => Ok(Ok(cache.image(name))),
        Err(error) if error.reason().is_none() => Err(error.into()),
        Err(error) => Ok(Err(error)),
    }
}
