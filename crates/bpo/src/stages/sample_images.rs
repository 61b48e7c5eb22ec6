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

/// Checks that the image of a sample can be loaded. The inner error is the reason to skip the
/// sample.
///
/// # Errors
/// Returns an error if the failure is not caused by the image.
pub(super) fn check(cache: &ImageCache, sample: &SftSample) -> Result<Result<LazyImage, Skipped>, BpoError> {
    Ok(usable(cache, &sample.image)?.map_err(|error| {
        let reason = error.reason().unwrap_or(SkipReason::ImageUnreadable);
        Skipped::new(&sample.id, reason).with_detail(chain(&error))
    }))
}

/// Returns the image of another sample, chosen by `seed`. If that image is the sample's own or
/// cannot be used, the following samples are tried. Returns `None` if no sample has another image.
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
    for sample in after.iter().chain(before).filter(|sample| sample.image != own.image) {
        if let Ok(image) = usable(cache, &sample.image)? {
            return Ok(Some(OtherImage { name: sample.image.clone(), image }));
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
