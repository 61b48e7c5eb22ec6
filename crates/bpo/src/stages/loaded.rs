//! The images of the weaken stage.

use bpo_pairs::{SftSample, SkipReason, Skipped};

use crate::error::{BpoError, chain};
use crate::image_cache::{ImageCache, LazyImage};
use crate::images::ImageError;

/// Another sample's image.
pub(super) struct OtherImage {
    pub(super) name: String,
    pub(super) image: LazyImage,
}

/// Checks that the image of a sample can be loaded. The inner error says why it is skipped.
///
/// # Errors
/// If the failure is not the image's fault.
pub(super) fn check(cache: &ImageCache, sample: &SftSample) -> Result<Result<LazyImage, Skipped>, BpoError> {
    Ok(usable(cache, &sample.image)?.map_err(|error| {
        let reason = error.reason().unwrap_or(SkipReason::ImageUnreadable);
        Skipped::new(&sample.id, reason).with_detail(chain(&error))
    }))
}

/// The image of another sample, chosen by `seed`; the next one after it where that is the same
/// or cannot be used. `None` if there is none.
///
/// # Errors
/// If the failure is not an image's fault.
pub(super) fn other(
    cache: &ImageCache,
    samples: &[SftSample],
    own: &SftSample,
    seed: u64,
) -> Result<Option<OtherImage>, BpoError> {
    let first = seed % samples.len().max(1) as u64;
    let (before, after) = samples.split_at(first as usize);
    for sample in after.iter().chain(before).filter(|sample| sample.image != own.image) {
        if let Ok(image) = usable(cache, &sample.image)? {
            return Ok(Some(OtherImage { name: sample.image.clone(), image }));
        }
    }
    Ok(None)
}

/// Loads an image, which the cache may keep, and drops it.
fn usable(cache: &ImageCache, name: &str) -> Result<Result<LazyImage, ImageError>, BpoError> {
    match cache.load(name) {
        Ok(_) => Ok(Ok(cache.image(name))),
        Err(error) if error.reason().is_none() => Err(error.into()),
        Err(error) => Ok(Err(error)),
    }
}
