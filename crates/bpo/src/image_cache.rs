//! A cache of decoded images that are loaded on first use.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::RgbImage;

use crate::images::{ImageError, ImageRoot};

/// Loads the images of an image root, and keeps the recent ones up to a number of bytes.
///
/// Clones share their images.
///
/// ```no_run
/// use bpo::{ImageCache, ImageRoot};
///
/// let cache = ImageCache::new(ImageRoot::new("images")?);
/// let image = cache.image("cat.jpg"); // nothing is read yet
/// println!("{:?}", image.load()?.dimensions());
/// # Ok::<(), bpo::ImageError>(())
/// ```
#[derive(Clone)]
pub struct ImageCache(Arc<Cache>);

struct Cache {
    root: ImageRoot,
    max_bytes: usize,
    /// The most recent image is the last.
    recent: Mutex<VecDeque<(Arc<str>, Arc<RgbImage>)>>,
}

impl ImageCache {
    /// Bytes of the decoded images that [`new`](Self::new) keeps: 512 MiB.
    pub const DEFAULT_BYTES: usize = 512 << 20;

    /// Creates a cache of [`DEFAULT_BYTES`](Self::DEFAULT_BYTES).
    pub fn new(root: ImageRoot) -> Self {
        Self::with_max_bytes(root, Self::DEFAULT_BYTES)
    }

    /// Creates a cache of `max_bytes` bytes of decoded images. A larger image is not kept.
    pub fn with_max_bytes(root: ImageRoot, max_bytes: usize) -> Self {
        Self(Arc::new(Cache { root, max_bytes, recent: Mutex::default() }))
    }

    /// Returns the image with this name without loading it.
    pub fn image(&self, name: &str) -> LazyImage {
        LazyImage(Source::File { cache: self.clone(), name: name.into() })
    }

    /// Loads an image, or returns the cached one.
    ///
    /// # Errors
    /// Returns the errors of [`ImageRoot::load`].
    pub fn load(&self, name: &str) -> Result<Arc<RgbImage>, ImageError> {
        {
            let mut recent = self.recent();
            if let Some(index) = recent.iter().position(|(known, _)| **known == *name)
                && let Some(entry) = recent.remove(index)
            {
                let image = Arc::clone(&entry.1);
                recent.push_back(entry);
                return Ok(image);
            }
        }
        // The lock is released, so other threads can use the cache while the image is read.
        let image = Arc::new(self.0.root.load(name)?);
        if image.as_raw().len() <= self.0.max_bytes {
            let mut recent = self.recent();
            recent.push_back((name.into(), Arc::clone(&image)));
            let bytes = |recent: &VecDeque<(Arc<str>, Arc<RgbImage>)>| -> usize {
                recent.iter().map(|(_, image)| image.as_raw().len()).sum()
            };
            while bytes(&recent) > self.0.max_bytes {
                recent.pop_front();
            }
        }
        Ok(image)
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Arc<str>, Arc<RgbImage>)>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageCache").field("root", &self.0.root).finish_non_exhaustive()
    }
}

/// An image in memory, or an image file that is loaded when it is needed.
///
/// A batch of requests holds file names instead of decoded images, so its memory does not depend on
/// the size of the images. [`From`] converts an image in memory.
#[derive(Clone, Debug)]
pub struct LazyImage(Source);

#[derive(Clone, Debug)]
enum Source {
    Memory(Arc<RgbImage>),
    File { cache: ImageCache, name: Arc<str> },
}

impl LazyImage {
    /// Returns the decoded image. Drop it as soon as it is processed.
    ///
    /// # Errors
    /// Returns the errors of [`ImageRoot::load`] for an image file.
    pub fn load(&self) -> Result<Arc<RgbImage>, ImageError> {
        match &self.0 {
            Source::Memory(image) => Ok(Arc::clone(image)),
            Source::File { cache, name } => cache.load(name),
        }
    }
}

impl From<RgbImage> for LazyImage {
    fn from(image: RgbImage) -> Self {
        Self(Source::Memory(Arc::new(image)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    /// Creates five images of 300 bytes each.
    fn root(dir: &std::path::Path) -> ImageRoot {
        for index in 0..5 {
            RgbImage::from_pixel(10, 10, image::Rgb([index; 3]))
                .save(dir.join(format!("{index}.png")))
                .unwrap();
        }
        ImageRoot::new(dir).unwrap()
    }

    #[test]
    fn cache_does_not_exceed_its_size() {
        let dir = tempfile::tempdir().unwrap();
        for (max_bytes, kept) in [(0, 0), (299, 0), (300, 1), (899, 2), (10_000, 5)] {
            let cache = ImageCache::with_max_bytes(root(dir.path()), max_bytes);
            let loaded: Vec<Weak<RgbImage>> = (0..5)
                .map(|index| Arc::downgrade(&cache.image(&format!("{index}.png")).load().unwrap()))
                .collect();
            let alive: Vec<bool> = loaded.iter().map(|image| image.upgrade().is_some()).collect();
            // the most recent images
            let expected: Vec<bool> = (0..5).map(|index| index >= 5 - kept).collect();
            assert_eq!(alive, expected, "{max_bytes}");
        }
    }

    #[test]
    fn cached_images_are_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ImageCache::with_max_bytes(root(dir.path()), 600);
        let first = cache.image("0.png");
        first.load().unwrap();
        cache.load("1.png").unwrap();
        tempfile::TempPath::try_from_path(dir.path().join("0.png")).unwrap().close().unwrap();
        // loading a cached image makes it the most recent again
        assert_eq!(first.load().unwrap().get_pixel(0, 0)[0], 0);
        cache.load("2.png").unwrap();
        first.load().unwrap();
        cache.load("3.png").unwrap();
        cache.load("4.png").unwrap();
        assert!(matches!(first.load(), Err(ImageError::Missing { .. })));
    }
}
