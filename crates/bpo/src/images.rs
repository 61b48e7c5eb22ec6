//! The image root: the only directory that images are read from.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpo_distort::{DistortError, ImageLimits, check_header, frame_durations, load_frames, load_rgb};
#[cfg(feature = "model")]
use bpo_model::OnImage;
#[cfg(feature = "model")]
use bpo_pairs::SkipError;
use bpo_pairs::{Fingerprint, SkipReason, TextHasher, Untrusted, UntrustedPath};
use image::RgbImage;

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
        Ok(Self { root, limits: ImageLimits::default(), durations: Arc::default() })
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

    /// Computes the fingerprint of images from their names and the sizes of their files. Their
    /// content is not read, because that would take as long as a stage. A name without a file
    /// counts, too.
    pub fn fingerprint<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Fingerprint {
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut hasher = TextHasher::default();
        for name in names {
            let size =
                self.locate(name).ok().and_then(|(path, _)| fs::metadata(path).ok()).map(|file| file.len());
            hasher.add(name);
            hasher.add(&size.map_or_else(String::new, |size| size.to_string()));
        }
        hasher.fingerprint()
    }

    /// Returns the limits on image files.
    pub fn limits(&self) -> &ImageLimits {
        &self.limits
    }

    /// Returns the path of an image, and the frame in the file if the name is that of a
    /// [frame](Self::load) of an animated file.
    fn locate(&self, name: &str) -> Result<(PathBuf, Option<usize>), ImageError> {
        match (self.resolve(name), frame_of(name)) {
            (Err(ImageError::Missing { .. }), Some((video, FramePlace::Number(frame)))) => {
                Ok((self.resolve(video)?, Some(frame)))
            }
            (Err(ImageError::Missing { .. }), Some((video, FramePlace::File(file)))) => {
                Ok((self.resolve(&format!("{video}/{file}"))?, None))
            }
            (path, _) => Ok((path?, None)),
        }
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
    /// the file `NAME` in a folder of frames.
    ///
    /// # Errors
    /// Returns the errors of [`resolve`](Self::resolve), and [`ImageError::Load`] if the file is
    /// not an image within the limits.
    pub fn load(&self, name: &str) -> Result<RgbImage, ImageError> {
        let mut loaded = Err(ImageError::Missing { name: name.to_owned(), root: self.root.clone() });
        self.load_each(&[name], &mut |_, image| loaded = image);
        loaded
    }

    /// Loads images as [`load`](Self::load) does, and passes each with its place in `names` to
    /// `each`. Frames of one animated file that follow each other in `names` are decoded in one
    /// pass.
    pub fn load_each(&self, names: &[&str], each: &mut dyn FnMut(usize, Result<RgbImage, ImageError>)) {
        let failed = |name: &str, source| ImageError::Load { name: name.to_owned(), source };
        let mut at = 0;
        while let Some(&name) = names.get(at) {
            let path = match self.locate(name) {
                Err(error) => {
                    each(at, Err(error));
                    at += 1;
                    continue;
                }
                Ok((path, None)) => {
                    each(at, load_rgb(path, &self.limits).map_err(|source| failed(name, source)));
                    at += 1;
                    continue;
                }
                Ok((path, Some(_))) => path,
            };
            let same = |name: &&str| match self.locate(name) {
                Ok((file, Some(frame))) if file == path => Some(frame),
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
                let (name, frame) = (names[at + place], &frames[place..=place]);
                let mut found = Err(ImageError::Missing { name: name.to_owned(), root: self.root.clone() });
                let end = load_frames(&path, frame, &self.limits, &mut |_, image| found = Ok(image));
                each(at + place, end.map_err(|source| failed(name, source)).and(found));
            }
            at += frames.len();
        }
    }

    /// Checks that a name leads to an image file within the limits, without decoding it. Returns
    /// the width and height of the image, in pixels; see [`check_header`]. The frames of an animated
    /// file are decoded once to be counted.
    ///
    /// # Errors
    /// Returns the errors of [`load`](Self::load), except for damaged pixels, which are not read.
    pub fn check(&self, name: &str) -> Result<(u32, u32), ImageError> {
        let (path, frame) = self.locate(name)?;
        let failed = |source| ImageError::Load { name: name.to_owned(), source };
        if let Some(index) = frame {
            let frames = self.frame_durations(&path).map_err(failed)?.len();
            if index >= frames {
                return Err(failed(DistortError::NoFrame { path, index, frames }));
            }
        }
        check_header(path, &self.limits).map_err(failed)
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

/// A frame in its video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FramePlace<'a> {
    /// A frame of an animated file, counted from 0.
    Number(usize),
    /// A file in a folder.
    File(&'a str),
}

/// Returns the name of a frame of a video: `FILE#N` or `FOLDER#FILE`.
pub(crate) fn frame_name(video: &str, frame: impl fmt::Display) -> String {
    format!("{video}#{frame}")
}

/// Splits the name of a frame into the video and the frame.
fn frame_of(name: &str) -> Option<(&str, FramePlace<'_>)> {
    let (video, frame) = name.rsplit_once('#')?;
    let is_number = !frame.is_empty() && frame.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        return Some((video, FramePlace::Number(frame.parse().ok()?)));
    }
    let is_file = is_image_file(frame) && !frame.contains(['/', '\\']);
    (is_file && !video.is_empty()).then_some((video, FramePlace::File(frame)))
}

/// Returns whether a file in a folder of frames is one, by the end of its name.
pub(crate) fn is_image_file(name: &str) -> bool {
    /// Ends of the names of files that are frames in a folder.
    const FRAME_FILES: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];
    let end = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, end)| end);
    end.is_some_and(|end| FRAME_FILES.iter().any(|known| end.eq_ignore_ascii_case(known)))
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
