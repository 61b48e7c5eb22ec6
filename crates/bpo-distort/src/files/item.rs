//! One image to its file.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use image::RgbImage;
use png::Compression;

use super::error::FilesError;
use super::origin::{Source, digest_of, origin};
use super::png::Found;
use super::{atomic_write, png as text_png};
use crate::{DistortError, Distortion, Family, Input, Limits};

/// Whether a file was made, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was made.
    Now,
    /// It was there, as it would be made.
    Before,
}

/// Why an image has no file.
pub(crate) enum Stop {
    /// The image cannot be used; others can.
    Image(DistortError),
    /// None of the other images can be used.
    NoOther { family: &'static str, source: DistortError },
    /// The system does not take the name of its file.
    BadName { out: PathBuf, source: io::Error },
    /// Nothing more is to be made.
    Failed(FilesError),
}

impl From<DistortError> for Stop {
    fn from(error: DistortError) -> Self {
        Self::Image(error)
    }
}

impl From<FilesError> for Stop {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Io { path, source, .. } if is_of_the_name(&source) => {
                Self::BadName { out: path, source }
            }
            error => Self::Failed(error),
        }
    }
}

/// Whether an error speaks against a file's name, and so against no other file.
fn is_of_the_name(error: &io::Error) -> bool {
    // file systems that do not take some characters say the latter
    matches!(error.kind(), ErrorKind::InvalidFilename | ErrorKind::InvalidInput)
}

/// The place where a file is to be.
enum Place {
    /// It is there, and says this of how it was made.
    Taken(String),
    /// It is to be made of this image.
    Free(RgbImage),
}

/// Images that may be brought in.
pub(crate) enum Others<'a, I> {
    /// This one, read once for all.
    Given(&'a Given),
    /// The first of these that can be read.
    First(I),
}

/// The image that was given to be brought in.
pub(crate) struct Given {
    digest: String,
    image: RgbImage,
}

impl Given {
    pub(crate) fn read(path: &Path, limits: &Limits) -> Result<Self, DistortError> {
        let source = Source::read(path, limits)?;
        Ok(Self { image: source.decode(limits)?, digest: source.digest })
    }
}

/// What makes an image's file.
pub(crate) struct Maker<'a> {
    pub distortion: &'a Distortion,
    pub limits: &'a Limits,
}

impl Maker<'_> {
    /// Makes `out`, unless it is there. Limits are for what is made: of what is there the image is read for its digest alone.
    pub(crate) fn make(
        &self,
        image: &Path,
        out: &Path,
        seed: u64,
        others: Others<'_, impl Iterator<Item = PathBuf>>,
    ) -> Result<Made, Stop> {
        let (place, digest) = match self.look(out)? {
            Some(text) => {
                atomic_write::tidy(out);
                (Place::Taken(text), digest_of(image)?)
            }
            None => {
                let source = Source::read(image, self.limits)?;
                (Place::Free(source.decode(self.limits)?), source.digest)
            }
        };
        let origin = |other: Option<&str>| origin(self.distortion, seed, &digest, other);
        let Some(family) = needing_other(self.distortion) else {
            return self.fill(place, out, &origin(None), seed, None);
        };
        let others = match others {
            Others::Given(other) => {
                return self.fill(place, out, &origin(Some(&other.digest)), seed, Some(&other.image));
            }
            Others::First(others) => others,
        };
        let mut failed = DistortError::NeedsOther { family: family.name() };
        for path in others {
            if let Place::Taken(there) = &place
                && digest_of(&path).is_ok_and(|other| *there == origin(Some(&other)))
            {
                return Ok(Made::Before);
            }
            match Given::read(&path, self.limits) {
                Ok(other) => {
                    return self.fill(place, out, &origin(Some(&other.digest)), seed, Some(&other.image));
                }
                Err(error) => failed = error,
            }
        }
        Err(Stop::NoOther { family: family.name(), source: failed })
    }

    /// What a whole file says of how it was made; `None` where there is no file.
    fn look(&self, out: &Path) -> Result<Option<String>, FilesError> {
        let path = || out.to_owned();
        let io = || FilesError::io("read", out);
        match text_png::look(out) {
            Ok(Found::Made(text)) if text_png::is_whole(out).map_err(io())? => Ok(Some(text)),
            Ok(Found::Made(_) | Found::Damaged) => Err(FilesError::Damaged { path: path() }),
            Ok(Found::Other) => Err(FilesError::Exists { path: path() }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io()(error)),
        }
    }

    fn fill(
        &self,
        place: Place,
        out: &Path,
        origin: &str,
        seed: u64,
        other: Option<&RgbImage>,
    ) -> Result<Made, Stop> {
        let image = match place {
            Place::Taken(there) if there == origin => return Ok(Made::Before),
            Place::Taken(there) => {
                let (path, now) = (out.to_owned(), origin.to_owned());
                return Err(FilesError::OtherOrigin { path, there, now }.into());
            }
            Place::Free(image) => image,
        };
        let mut input = Input::new(&image);
        input.other = other;
        let distorted = self.distortion.apply(input, seed)?;
        let bytes = text_png::encode(&distorted, origin, Compression::Fast);
        atomic_write::write(out, &bytes.map_err(FilesError::io("encode", out))?)?;
        Ok(Made::Now)
    }
}

/// The first family of a distortion that brings in another image.
pub(crate) fn needing_other(distortion: &Distortion) -> Option<&'static Family> {
    distortion.families().find(|family| family.needs_other())
}
