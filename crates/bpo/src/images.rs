//! The image root: the only directory that images are read from.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpo_distort::{
    DistortError, ImageLimits, check_header, decode_header, decode_rgb, frame_durations, load_frames,
    load_rgb,
};
#[cfg(feature = "model")]
use bpo_model::OnImage;
#[cfg(feature = "model")]
use bpo_pairs::SkipError;
use bpo_pairs::files::{FileError, read_bytes};
use bpo_pairs::{
    Fingerprint, ImageBytes, RowImage, RowImageError, RowImages, SkipCause, SkipReason, TextHasher,
    Untrusted, UntrustedPath, chain, fingerprint_file,
};
use image::RgbImage;

use crate::frame_names::{FramePlace, frame_of};
use crate::paths::with_suffix;

/// Errors of reading an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The image root is not a readable directory. This affects all images.
    #[error("image root {} is not a readable directory", UntrustedPath(root))]
    Root {
        /// The image root.
        root: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path leads out of the image root.
    #[error("image {:?} is outside the image root {}: {escape}", Untrusted(name), UntrustedPath(root))]
    Outside {
        /// Path in the data.
        name: String,
        /// The image root.
        root: PathBuf,
        /// How the path leads out.
        escape: Escape,
    },
    /// The file does not exist.
    #[error("no image {:?} in the image root {}", Untrusted(name), UntrustedPath(root))]
    Missing {
        /// Path in the data.
        name: String,
        /// The image root.
        root: PathBuf,
    },
    /// The operating system cannot follow the path.
    #[error("cannot follow image {:?} in the image root {}", Untrusted(name), UntrustedPath(root))]
    Path {
        /// Path in the data.
        name: String,
        /// The image root.
        root: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not an image, or the image cannot be used.
    #[error("cannot load image {:?}", Untrusted(name))]
    Load {
        /// Path in the data.
        name: String,
        /// The cause.
        source: DistortError,
    },
    /// The image in a row of a Parquet file cannot be read.
    #[error("cannot read image {:?}", Untrusted(name))]
    Row {
        /// Path in the data.
        name: String,
        /// The cause.
        source: RowImageError,
    },
}

/// How a path leads out of the image root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Escape {
    /// The path is absolute.
    Absolute,
    /// The path contains `..`.
    Parent,
    /// A symbolic link in the path leads outside.
    Link,
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "the path is absolute",
            Self::Parent => "the path has `..`",
            Self::Link => "a link leads out",
        })
    }
}

impl ImageError {
    /// Returns the reason to skip a sample with this image, or `None` if all images would fail.
    pub fn reason(&self) -> Option<SkipReason> {
        match self {
            Self::Root { .. } => None,
            Self::Outside { .. } => Some(SkipReason::ImageOutside),
            Self::Missing { .. } => Some(SkipReason::ImageMissing),
            Self::Path { .. } => Some(SkipReason::ImageUnreadable),
            Self::Load { source, .. } => Some(skip_reason(source)),
            Self::Row { source, .. } => Some(source.reason()),
        }
    }
}

/// Returns the reason to skip an image that cannot be loaded or distorted.
pub(crate) fn skip_reason(error: &DistortError) -> SkipReason {
    use DistortError as D;
    match error {
        D::Missing { .. } => SkipReason::ImageMissing,
        D::FileTooLarge { .. }
        | D::SideTooLong { .. }
        | D::TooManyPixels { .. }
        | D::TooManyScans { .. }
        | D::TooSlow { .. } => SkipReason::ImageTooLarge,
        _ => SkipReason::ImageUnreadable,
    }
}

/// A directory of images.
///
/// Image names come from data and are not trusted. Names are rejected if they are absolute, contain
/// `..`, or follow a symbolic link out of the directory.
#[derive(Clone, Debug)]
pub struct ImageRoot {
    /// Canonical path, which is a prefix of the canonical paths of all files in it.
    root: PathBuf,
    limits: ImageLimits,
    /// How long each frame of an animated file is shown. Clones share them.
    durations: Arc<Mutex<HashMap<PathBuf, Arc<[Duration]>>>>,
    /// The Parquet files whose images were read last. Clones share them.
    rows: Arc<RowImages>,
}

/// Where an image is.
enum Located<'a> {
    /// In its own file.
    File(PathBuf),
    /// A frame of an animated file, counted from 0.
    Frame(PathBuf, usize),
    /// In a row of a Parquet file.
    Row(PathBuf, RowImage<'a>),
}

impl Located<'_> {
    /// The file that holds the image.
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Frame(path, _) | Self::Row(path, _) => path,
        }
    }
}

impl ImageRoot {
    /// Opens a directory with the default [`ImageLimits`].
    ///
    /// # Errors
    /// Returns [`ImageError::Root`] if the directory cannot be listed.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self, ImageError> {
        let dir = dir.as_ref();
        let fail = |source| ImageError::Root { root: dir.to_owned(), source };
        let root = dir.canonicalize().map_err(fail)?;
        root.read_dir().map_err(fail)?;
        Ok(Self { root, limits: ImageLimits::default(), durations: Arc::default(), rows: Arc::default() })
    }

    /// Sets the limits on image files.
    pub fn with_limits(mut self, limits: ImageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Returns the canonical path of the directory.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Returns the canonical path of the file with this name.
    ///
    /// # Errors
    /// Returns an error if the file does not exist or is outside the directory.
    pub fn resolve(&self, name: &str) -> Result<PathBuf, ImageError> {
        let outside = |escape| ImageError::Outside { name: name.to_owned(), root: self.root.clone(), escape };
        for component in Path::new(name).components() {
            match component {
                Component::Prefix(_) | Component::RootDir => return Err(outside(Escape::Absolute)),
                Component::ParentDir => return Err(outside(Escape::Parent)),
                Component::CurDir | Component::Normal(_) => {}
            }
        }
        let path = self.root.join(name).canonicalize().map_err(|source| self.lost(name, source))?;
        if path.starts_with(&self.root) { Ok(path) } else { Err(outside(Escape::Link)) }
    }

    /// Computes the fingerprint of images from their names and the sizes of their files. The content
    /// of image files is not read, because that would take as long as a stage. Parquet files with
    /// images in their rows are read, because other rows can have the same size. A name without a
    /// file counts, too.
    pub fn fingerprint<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Fingerprint {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut hasher = TextHasher::default();
        let mut contents: HashMap<PathBuf, String> = HashMap::new();
        for name in names {
            hasher.add(name);
            match self.locate(name) {
                Ok(Located::Row(file, _)) => {
                    let content = contents.entry(file).or_insert_with_key(|file| {
                        fingerprint_file(file).map_or_else(|_| String::new(), |content| content.to_string())
                    });
                    hasher.add(content);
                }
                found => {
                    let size = found.ok().and_then(|found| fs::metadata(found.path()).ok());
                    hasher.add(&size.map_or_else(String::new, |file| file.len().to_string()));
                }
            }
        }
        hasher.fingerprint()
    }

    /// Returns the limits on image files.
    pub fn limits(&self) -> &ImageLimits {
        &self.limits
    }

    /// Finds an image. A file of exactly this name comes before a [frame or row](Self::load).
    fn locate<'a>(&self, name: &'a str) -> Result<Located<'a>, ImageError> {
        let missing = match self.resolve(name) {
            Err(error @ ImageError::Missing { .. }) => error,
            found => return Ok(Located::File(found?)),
        };
        if let Some((file, row)) = RowImage::of_name(name) {
            return Ok(Located::Row(self.resolve(file)?, row));
        }
        match frame_of(name) {
            Some((video, FramePlace::Number(frame))) => Ok(Located::Frame(self.resolve(video)?, frame)),
            Some((video, FramePlace::File(file))) => {
                Ok(Located::File(self.resolve(&format!("{video}/{file}"))?))
            }
            None => Err(missing),
        }
    }

    /// Reads the bytes of an image in a row, at most as many as the limits allow.
    fn row_bytes(&self, name: &str, file: &Path, row: &RowImage<'_>) -> Result<Vec<u8>, ImageError> {
        let read = self.rows.read(file, row, self.limits.max_file_bytes);
        read.map_err(|source| ImageError::Row { name: name.to_owned(), source })
    }

    /// Returns whether a name is that of a [frame](Self::load) of a video.
    pub fn is_frame(&self, name: &str) -> bool {
        frame_of(name).is_some() && matches!(self.resolve(name), Err(ImageError::Missing { .. }))
    }

    /// Returns how long each frame of an image file is shown; see [`frame_durations`]. Each file is
    /// read once.
    pub(crate) fn frame_durations(&self, path: &Path) -> Result<Arc<[Duration]>, DistortError> {
        let known = || self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(durations) = known().get(path) {
            return Ok(Arc::clone(durations));
        }
        let durations: Arc<[Duration]> = frame_durations(path, &self.limits)?.into();
        known().insert(path.to_owned(), Arc::clone(&durations));
        Ok(durations)
    }

    /// Loads an image as upright RGB; see [`load_rgb`]. The name `FILE#N`, where no such file
    /// exists, is that of frame `N` of an animated image, counted from 0, and `FOLDER#NAME` that of
    /// the file `NAME` in a folder of frames. [`RowImage`] describes the names of images in Parquet
    /// files.
    ///
    /// # Errors
    /// Returns the errors of [`resolve`](Self::resolve), [`ImageError::Row`] if a Parquet file has no
    /// such image or cannot be read, and [`ImageError::Load`] if the file is not an image within the
    /// limits.
    pub fn load(&self, name: &str) -> Result<RgbImage, ImageError> {
        let mut loaded = Err(ImageError::Missing { name: name.to_owned(), root: self.root.clone() });
        self.load_each(&[name], &mut |_, image| loaded = image);
        loaded
    }

    /// Loads images as [`load`](Self::load) does, and passes each with its place in `names` to
    /// `each`. Frames of one animated file that follow each other in `names` are decoded in one
    /// pass.
    pub fn load_each(&self, names: &[&str], each: &mut dyn FnMut(usize, Result<RgbImage, ImageError>)) {
        let mut at = 0;
        while let Some(&name) = names.get(at) {
            let path = match self.locate(name) {
                Ok(Located::Frame(path, _)) => path,
                found => {
                    each(at, found.and_then(|found| self.load_located(name, &found)));
                    at += 1;
                    continue;
                }
            };
            let same = |name: &&str| match self.locate(name) {
                Ok(Located::Frame(file, frame)) if file == path => Some(frame),
                _ => None,
            };
            let frames: Vec<usize> = names[at..].iter().map_while(same).collect();
            let mut left: BTreeSet<usize> = (0..frames.len()).collect();
            let end = load_frames(&path, &frames, &self.limits, &mut |place, image| {
                left.remove(&place);
                each(at + place, Ok(image));
            });
            // each frame that was not passed on has its own error
            for place in left.into_iter().filter(|_| end.is_err()) {
                let frame = Located::Frame(path.clone(), frames[place]);
                each(at + place, self.load_located(names[at + place], &frame));
            }
            at += frames.len();
        }
    }

    fn load_located(&self, name: &str, found: &Located<'_>) -> Result<RgbImage, ImageError> {
        let failed = |source| ImageError::Load { name: name.to_owned(), source };
        match found {
            Located::File(path) => load_rgb(path, &self.limits).map_err(failed),
            Located::Row(path, row) => {
                let bytes = self.row_bytes(name, path, row)?;
                decode_rgb(&bytes, shown(path, row), &self.limits).map_err(failed)
            }
            Located::Frame(path, frame) => {
                let mut found = Err(ImageError::Missing { name: name.to_owned(), root: self.root.clone() });
                let end = load_frames(path, &[*frame], &self.limits, &mut |_, image| found = Ok(image));
                end.map_err(failed).and(found)
            }
        }
    }

    /// Checks that a name leads to an image file within the limits, without decoding it. Returns
    /// the width and height of the image, in pixels; see [`check_header`]. The frames of an animated
    /// file are decoded once to be counted.
    ///
    /// # Errors
    /// Returns the errors of [`load`](Self::load), except for damaged pixels, which are not read.
    pub fn check(&self, name: &str) -> Result<(u32, u32), ImageError> {
        let failed = |source| ImageError::Load { name: name.to_owned(), source };
        match self.locate(name)? {
            Located::File(path) => check_header(path, &self.limits),
            Located::Row(path, row) => {
                let bytes = self.row_bytes(name, &path, &row)?;
                decode_header(&bytes, shown(&path, &row), &self.limits)
            }
            Located::Frame(path, index) => {
                let frames = self.frame_durations(&path).map_err(failed)?.len();
                if index >= frames {
                    return Err(failed(DistortError::NoFrame { path, index, frames }));
                }
                check_header(path, &self.limits)
            }
        }
        .map_err(failed)
    }

    /// Returns the error for a path that cannot be followed. If the image root itself is gone, for
    /// example because a disk was unmounted, the error is [`ImageError::Root`].
    fn lost(&self, name: &str, source: io::Error) -> ImageError {
        let (name, root) = (name.to_owned(), self.root.clone());
        match self.root.read_dir() {
            Err(source) => ImageError::Root { root, source },
            Ok(_) if source.kind() == io::ErrorKind::NotFound => ImageError::Missing { name, root },
            Ok(_) => ImageError::Path { name, root, source },
        }
    }
}

/// Returns what errors show as the path of an image in a row.
fn shown(path: &Path, row: &RowImage<'_>) -> PathBuf {
    with_suffix(path, &format!("#{row}"))
}

/// Reads images for files that hold their bytes.
impl ImageBytes for ImageRoot {
    fn bytes(&self, name: &str) -> Result<Vec<u8>, SkipCause> {
        let cause = |error: ImageError| {
            SkipCause::new(error.reason().unwrap_or(SkipReason::ImageMissing), chain(&error))
        };
        let path = match self.locate(name).map_err(cause)? {
            Located::File(path) => path,
            Located::Row(path, row) => return self.row_bytes(name, &path, &row).map_err(cause),
            Located::Frame(..) => {
                let name = Untrusted(name);
                let found = format_args!("expected the file of an image, found a frame of a video: {name:?}");
                return Err(SkipCause::new(SkipReason::NotInFormat, found));
            }
        };
        read_bytes(&path, self.limits.max_file_bytes).map_err(|error| {
            let reason = match error {
                FileError::TooLarge { .. } => SkipReason::ImageTooLarge,
                _ => SkipReason::ImageUnreadable,
            };
            SkipCause::new(reason, chain(&error))
        })
    }
}

/// Loads images for training. Errors carry the [`reason`](ImageError::reason) for which a pair with
/// the image is skipped.
#[cfg(feature = "model")]
impl bpo_model::ImageSource for ImageRoot {
    fn load(&mut self, name: &str) -> Result<RgbImage, bpo_model::ImageError> {
        Self::load(self, name).map_err(with_reason)
    }

    fn load_each(&mut self, names: &[&str], each: &mut OnImage<'_>) {
        Self::load_each(self, names, &mut |place, image| each(place, image.map_err(with_reason)));
    }

    fn size(&mut self, name: &str) -> Result<(u32, u32), bpo_model::ImageError> {
        self.check(name).map_err(with_reason)
    }

    fn is_frame(&self, name: &str) -> bool {
        Self::is_frame(self, name)
    }
}

#[cfg(feature = "model")]
fn with_reason(error: ImageError) -> bpo_model::ImageError {
    match error.reason() {
        Some(reason) => SkipError::new(reason, error).into(),
        None => error.into(),
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
