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
        match self.cached(name) {
            Some(image) => Ok(image),
            // The lock is released, so other threads can use the cache while the image is read.
            None => self.0.root.load(name).map(|image| self.keep(name, image)),
        }
    }

    /// Loads images as [`load`](Self::load) does, the frames of an animated file in one pass.
    fn load_all(&self, names: &[&str]) -> Result<Vec<Arc<RgbImage>>, ImageError> {
        let mut images: Vec<_> = names.iter().map(|name| self.cached(name)).collect();
        let places: Vec<usize> = (0..names.len()).filter(|place| images[*place].is_none()).collect();
        let new: Vec<&str> = places.iter().map(|place| names[*place]).collect();
        let mut failure = None;
        self.0.root.load_each(&new, &mut |at, image| match image {
            Ok(image) => images[places[at]] = Some(self.keep(new[at], image)),
            Err(error) => drop(failure.get_or_insert(error)),
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(images.into_iter().flatten().collect()),
        }
    }

    /// Returns an image that is in the cache.
    fn cached(&self, name: &str) -> Option<Arc<RgbImage>> {
        let mut recent = self.recent();
        let index = recent.iter().position(|(known, _)| **known == *name)?;
        let entry = recent.remove(index)?;
        let image = Arc::clone(&entry.1);
        recent.push_back(entry);
        Some(image)
    }

    /// Keeps an image unless it is too large.
    fn keep(&self, name: &str, image: RgbImage) -> Arc<RgbImage> {
        let image = Arc::new(image);
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
        image
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

    /// Returns decoded images as [`load`](Self::load) does. Frames of an animated file that follow
    /// each other are decoded in one pass.
    ///
    /// # Errors
    /// Returns the first error of an image.
    pub fn load_all(images: &[Self]) -> Result<Vec<Arc<RgbImage>>, ImageError> {
        let mut loaded = Vec::with_capacity(images.len());
        while let Some(first) = images.get(loaded.len()) {
            let Source::File { cache, .. } = &first.0 else {
                loaded.push(first.load()?);
                continue;
            };
            let of_cache = |image: &'_ Self| match &image.0 {
                Source::File { cache: other, name } if Arc::ptr_eq(&cache.0, &other.0) => {
                    Some(Arc::clone(name))
                }
                _ => None,
            };
            let names: Vec<Arc<str>> = images[loaded.len()..].iter().map_while(of_cache).collect();
            loaded.extend(cache.load_all(&names.iter().map(AsRef::as_ref).collect::<Vec<_>>())?);
        }
        Ok(loaded)
    }

    /// Returns whether the image is a frame of a video; see [`ImageRoot::is_frame`].
    pub fn is_frame(&self) -> bool {
        match &self.0 {
            Source::Memory(_) => false,
            Source::File { cache, name } => cache.0.root.is_frame(name),
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
    fn several_images_are_loaded_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ImageCache::new(root(dir.path()));
        let other = ImageCache::new(root(dir.path()));
        cache.load("1.png").unwrap();
        let mut images: Vec<_> = ["3.png", "1.png", "0.png"].iter().map(|name| cache.image(name)).collect();
        images.push(RgbImage::from_pixel(1, 1, image::Rgb([9; 3])).into());
        images.push(other.image("2.png"));
        let loaded = LazyImage::load_all(&images).unwrap();
        assert_eq!(loaded.iter().map(|image| image.get_pixel(0, 0)[0]).collect::<Vec<_>>(), [3, 1, 0, 9, 2]);
        images.insert(1, cache.image("no.png"));
        assert!(matches!(LazyImage::load_all(&images), Err(ImageError::Missing { .. })));
        assert!(LazyImage::load_all(&[]).unwrap().is_empty());
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
