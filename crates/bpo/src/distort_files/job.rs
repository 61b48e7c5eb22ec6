//! One image and its copy.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bpo_distort::{
    DistortError, Distortion, Family, ImageLimits, Input, PngCompression, decode_rgb, image_size,
};
use bpo_pairs::Fingerprint;
use bpo_pairs::files::FileError;
use image::RgbImage;

use super::budget::PixelBudget;
use super::error::DistortFilesError;
use super::origin::{self, Source, digest_of, origin};

/// Whether a copy was written or existed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyState {
    /// The copy was written now.
    Written,
    /// The copy existed, and is the same as would be written.
    Existing,
}

/// The reason why an image has no copy.
pub(super) enum Failure {
    /// The image cannot be used.
    Image(DistortError),
    /// No second image can be used.
    NoOther { family: &'static str, source: DistortError },
    /// The file system does not accept the name of the copy.
    Name(FileError),
    /// Other images would fail too.
    Fatal(DistortFilesError),
}

impl From<DistortError> for Failure {
    fn from(error: DistortError) -> Self {
        Self::Image(error)
    }
}

impl From<DistortFilesError> for Failure {
    fn from(error: DistortFilesError) -> Self {
        match error {
            DistortFilesError::File(error) => error.into(),
            error => Self::Fatal(error),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        // File systems that refuse some characters report invalid input.
        let is_name = matches!(&error, FileError::Io { source, .. }
            if matches!(source.kind(), ErrorKind::InvalidFilename | ErrorKind::InvalidInput));
        if is_name { Self::Name(error) } else { Self::Fatal(error.into()) }
    }
}

/// The candidates for the second image.
pub(super) enum Others<'a, I> {
    /// This image, loaded once for all jobs.
    Given(&'a LoadedImage),
    /// The first of these images that can be used.
    First(I),
}

/// A decoded image with the digest of its file.
pub(super) struct LoadedImage {
    pub digest: Fingerprint,
    pub image: RgbImage,
}

impl LoadedImage {
    pub(super) fn read(path: &Path, limits: &ImageLimits) -> Result<Self, DistortError> {
        let source = Source::read(path, limits)?;
        let image = decode_rgb(&source.bytes, &source.path, limits)?;
        Ok(Self { digest: source.digest, image })
    }
}

/// The parameters that all jobs share.
pub(super) struct Job<'a> {
    pub distortion: &'a Distortion,
    pub limits: &'a ImageLimits,
    pub budget: &'a PixelBudget,
}

impl Job<'_> {
    /// Writes the copy of an image, or checks an existing one.
    pub(super) fn run(
        &self,
        image: &Path,
        out: &Path,
        seed: u64,
        others: Others<'_, impl Iterator<Item = PathBuf>>,
    ) -> Result<CopyState, Failure> {
        if let Some(found) = origin::read(out)? {
            self.check(image, out, seed, others, found)?;
            return Ok(CopyState::Existing);
        }
        self.write(image, out, seed, others)?;
        Ok(CopyState::Written)
    }

    /// Compares the origin of an existing copy. [`ImageLimits`] apply only to second images.
    fn check(
        &self,
        image: &Path,
        out: &Path,
        seed: u64,
        others: Others<'_, impl Iterator<Item = PathBuf>>,
        found: String,
    ) -> Result<(), Failure> {
        let digest = digest_of(image).map_err(|error| match error {
            FileError::Io { source, .. } => DistortError::Unreadable { path: image.to_owned(), source },
            _ => DistortError::NotAFile { path: image.to_owned() },
        })?;
        let expected = |other: Option<&Fingerprint>| origin(self.distortion, seed, &digest, other);
        let compare = |now: String| {
            if found == now {
                return Ok(());
            }
            let path = out.to_owned();
            Err(DistortFilesError::OtherOrigin { path, found: found.clone(), now }.into())
        };
        let Some(family) = needs_other(self.distortion) else { return compare(expected(None)) };
        let others = match others {
            Others::Given(other) => return compare(expected(Some(&other.digest))),
            Others::First(others) => others,
        };
        let mut last = DistortError::NeedsOther { family: family.name() };
        for other in others {
            // A copy stays valid if its second image is over the limits now.
            if digest_of(&other).is_ok_and(|other| found == expected(Some(&other))) {
                return Ok(());
            }
            match self.load(&other) {
                Ok(other) => return compare(expected(Some(&other.digest))),
                Err(error) => last = error,
            }
        }
        Err(Failure::NoOther { family: family.name(), source: last })
    }

    fn load(&self, path: &Path) -> Result<LoadedImage, DistortError> {
        let source = Source::read(path, self.limits)?;
        let _held = self.budget.acquire(pixels(&source, self.limits)?);
        let image = decode_rgb(&source.bytes, &source.path, self.limits)?;
        Ok(LoadedImage { digest: source.digest, image })
    }

    fn write(
        &self,
        image: &Path,
        out: &Path,
        seed: u64,
        others: Others<'_, impl Iterator<Item = PathBuf>>,
    ) -> Result<(), Failure> {
        let source = Source::read(image, self.limits)?;
        let own_pixels = pixels(&source, self.limits)?;
        let Some(family) = needs_other(self.distortion) else {
            let _held = self.budget.acquire(own_pixels);
            return self.distort(&source, out, seed, None);
        };
        let others = match others {
            Others::Given(other) => {
                let _held = self.budget.acquire(own_pixels);
                return self.distort(&source, out, seed, Some(other));
            }
            Others::First(others) => others,
        };
        let mut last = DistortError::NeedsOther { family: family.name() };
        for path in others {
            let decoded = Source::read(&path, self.limits).and_then(|other| {
                // Acquired at once for both images: a thread that waits must not hold a part.
                let held = self.budget.acquire(own_pixels + pixels(&other, self.limits)?);
                let image = decode_rgb(&other.bytes, &other.path, self.limits)?;
                Ok((LoadedImage { digest: other.digest, image }, held))
            });
            match decoded {
                Ok((other, _held)) => return self.distort(&source, out, seed, Some(&other)),
                Err(error) => last = error,
            }
        }
        // The image itself may be the one that cannot be used.
        let _held = self.budget.acquire(own_pixels);
        decode_rgb(&source.bytes, &source.path, self.limits)?;
        Err(Failure::NoOther { family: family.name(), source: last })
    }

    fn distort(
        &self,
        source: &Source,
        out: &Path,
        seed: u64,
        other: Option<&LoadedImage>,
    ) -> Result<(), Failure> {
        let image = decode_rgb(&source.bytes, &source.path, self.limits)?;
        let mut input = Input::new(&image);
        input.other = other.map(|other| &other.image);
        let distorted = self.distortion.apply(input, seed)?;
        drop(image);
        let text = origin(self.distortion, seed, &source.digest, other.map(|other| &other.digest));
        Ok(origin::write(out, &distorted, &text, PngCompression::Fast)?)
    }
}

fn pixels(source: &Source, limits: &ImageLimits) -> Result<u64, DistortError> {
    let (width, height) = image_size(&source.bytes, &source.path, limits)?;
    Ok(u64::from(width) * u64::from(height))
}

/// The first family of a distortion that needs a second image.
pub(super) fn needs_other(distortion: &Distortion) -> Option<&'static Family> {
    distortion.stages().filter_map(Distortion::family).find(|family| family.needs_other())
}
