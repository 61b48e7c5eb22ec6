//! Files and folders to distort.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::{iter, thread};

use bpo_distort::{DistortError, Distortion, ImageLimits};
use bpo_pairs::{SkipReason, Skipped, item_seed};

use super::budget::PixelBudget;
use super::error::DistortFilesError;
use super::image_set::{ImageSet, Task};
use super::job::{CopyState, Failure, Job, LoadedImage, Others, needs_other};
use super::origin::is_png;
use crate::error::chain;
use crate::images::skip_reason;

/// Pixels of all images in memory at the same time, with some ten bytes for each pixel.
const MAX_PIXELS: u64 = 100_000_000;

/// Writes distorted copies of image files and folders, as `bpo distort` does.
///
/// ```no_run
/// use bpo::DistortFiles;
///
/// let distortion = "blur:sigma=2..8".parse()?;
/// let files = DistortFiles::new(distortion).with_seed(42).with_threads(4.try_into()?);
/// let outcome = files.folder("photos", "weak", |_| {})?;
/// println!("{} written, {} existed", outcome.written, outcome.existing);
/// for skipped in &outcome.skipped {
///     println!("{}: {}", skipped.id, skipped.detail);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Copies of a folder
///
/// Every image below the folder gets a PNG file at the same place below the output folder:
/// `a/cat.jpg` becomes `a/cat.png`. If two copies would have the same name, in any case, images
/// that are not PNG files keep their extension: `cat.jpg.png`. Images are found by extension or
/// content. Hidden files and folders are ignored. Links are followed only to files in the folder.
/// An image that cannot be used is skipped with the reason, and the others are processed.
///
/// # Seeds
///
/// The seed of an image is [`item_seed`] of the seed and its path in the folder, with `/` between
/// names, or of its name for a single file. So a copy depends neither on other images nor on the
/// number of threads. [`Mix`](bpo_distort::Mix) and [`Swap`](bpo_distort::Swap) take another image
/// of the folder, chosen by this seed, so their copies depend on the images in the folder.
///
/// # Existing copies
///
/// Each copy records its distortion, seed and the digest of its image in the PNG text
/// `bpo-distort`. Copies are written atomically. So an interrupted call can be repeated: existing
/// copies are checked and kept, even if the [`ImageLimits`] have changed, and missing ones are
/// written. A PNG file in the output folder that is not the copy of one of the images, with this
/// distortion and seed, is an error before anything is written. No file is ever replaced.
///
/// # Memory
///
/// The images that are decoded at the same time have at most 100 million pixels together, whatever
/// the number of threads; a larger image is processed alone.
#[derive(Debug, Clone)]
pub struct DistortFiles {
    distortion: Distortion,
    seed: u64,
    threads: NonZeroUsize,
    limits: ImageLimits,
    other: Option<PathBuf>,
}

/// The result of [`DistortFiles::folder`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct DistortOutcome {
    /// Number of copies written now.
    pub written: usize,
    /// Number of copies that existed before.
    pub existing: usize,
    /// Images without a copy, sorted by path. The id is the path in the folder.
    pub skipped: Vec<Skipped>,
}

/// Progress of [`DistortFiles::folder`].
#[derive(Debug)]
#[non_exhaustive]
pub enum DistortEvent<'a> {
    /// The images were listed. All of them follow, those with existing copies first.
    Started {
        /// Number of images.
        total: usize,
    },
    /// A copy was written, or an existing copy was checked.
    Finished {
        /// Path of the image in the folder.
        image: &'a Path,
        /// Whether the copy existed before.
        state: CopyState,
    },
    /// An image was skipped.
    Skipped(&'a Skipped),
}

impl DistortFiles {
    /// Applies a distortion on one thread, with seed 0 and the default limits.
    pub fn new(distortion: Distortion) -> Self {
        Self { distortion, seed: 0, threads: NonZeroUsize::MIN, limits: ImageLimits::default(), other: None }
    }

    /// Sets the seed, from which the seed of each image is derived.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets the number of threads.
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the limits on image files.
    pub fn with_limits(mut self, limits: ImageLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the second image for the families that need one. It is loaded once.
    pub fn with_other(mut self, other: impl Into<PathBuf>) -> Self {
        self.other = Some(other.into());
        self
    }

    /// Writes a distorted copy of one image, unless it exists.
    ///
    /// # Errors
    /// - [`DistortFilesError::Distort`] if the distortion or the image cannot be used.
    /// - [`DistortFilesError::OnlyImage`] if a second image is needed and not set.
    /// - [`DistortFilesError::NotPng`] if `out` does not end in `.png`.
    /// - [`DistortFilesError::NotOurs`], [`Damaged`](DistortFilesError::Damaged),
    ///   [`OtherOrigin`](DistortFilesError::OtherOrigin) if another file exists at `out`.
    /// - [`DistortFilesError::File`] if a file cannot be read or written.
    pub fn file(
        &self,
        image: impl AsRef<Path>,
        out: impl AsRef<Path>,
    ) -> Result<CopyState, DistortFilesError> {
        let (image, out) = (image.as_ref(), out.as_ref());
        let given = self.check()?;
        if !is_png(out) {
            return Err(DistortFilesError::NotPng { path: out.to_owned() });
        }
        if let (Some(family), None) = (needs_other(&self.distortion), &given) {
            return Err(DistortFilesError::OnlyImage { family: family.name(), path: image.to_owned() });
        }
        let others = given.as_ref().map_or(Others::First(iter::empty()), Others::Given);
        let seed = item_seed(self.seed, key(image.file_name().unwrap_or_default().as_ref()));
        let budget = PixelBudget::new(MAX_PIXELS);
        self.job(&budget).run(image, out, seed, others).map_err(|failure| match failure {
            Failure::Image(error) | Failure::NoOther { source: error, .. } => error.into(),
            Failure::Name(error) => error.into(),
            Failure::Fatal(error) => error,
        })
    }

    /// Writes distorted copies of all images of a folder that have none yet. `on_progress` is
    /// called on this thread.
    ///
    /// # Errors
    /// Before anything is written:
    ///
    /// - [`DistortFilesError::Distort`] if the distortion or the second image that was set cannot
    ///   be used.
    /// - [`DistortFilesError::NoImages`], [`OnlyImage`](DistortFilesError::OnlyImage) for the
    ///   folder of images.
    /// - [`DistortFilesError::Inside`], [`Orphan`](DistortFilesError::Orphan),
    ///   [`NotOurs`](DistortFilesError::NotOurs), [`Damaged`](DistortFilesError::Damaged),
    ///   [`OtherOrigin`](DistortFilesError::OtherOrigin) for the output folder.
    ///
    /// At any time [`DistortFilesError::File`]. Copies that were written stay.
    pub fn folder(
        &self,
        images: impl AsRef<Path>,
        out: impl AsRef<Path>,
        mut on_progress: impl FnMut(DistortEvent<'_>),
    ) -> Result<DistortOutcome, DistortFilesError> {
        let (images, out) = (images.as_ref(), out.as_ref());
        let given = self.check()?;
        let set = ImageSet::new(images, out)?;
        if let (Some(family), None, [only]) = (needs_other(&self.distortion), &given, &set.images[..]) {
            return Err(DistortFilesError::OnlyImage { family: family.name(), path: images.join(only) });
        }
        set.check_orphans(out, images)?;

        on_progress(DistortEvent::Started { total: set.tasks.len() + set.skipped.len() });
        set.skipped.iter().for_each(|skipped| on_progress(DistortEvent::Skipped(skipped)));
        let mut outcome = DistortOutcome { skipped: set.skipped.clone(), ..DistortOutcome::default() };
        let (existing, missing): (Vec<&Task>, Vec<&Task>) =
            set.tasks.iter().partition(|task| task.out.exists());
        // Existing copies first, so that nothing is written if one of them is an error.
        for tasks in [existing, missing] {
            self.run(&set, &tasks, given.as_ref(), |image, result| {
                on_progress(outcome.add(image, result)?);
                Ok(())
            })?;
        }
        outcome.skipped.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(outcome)
    }

    fn job<'a>(&'a self, budget: &'a PixelBudget) -> Job<'a> {
        Job { distortion: &self.distortion, limits: &self.limits, budget }
    }

    /// Checks what would fail for all images, and loads the second image that was set.
    fn check(&self) -> Result<Option<LoadedImage>, DistortError> {
        self.distortion.validate()?;
        let families = || self.distortion.stages().filter_map(Distortion::family);
        if let Some(family) = families().find(|family| family.needs_model()) {
            return Err(DistortError::NeedsModel { family: family.name() });
        }
        self.other.as_ref().map(|other| LoadedImage::read(other, &self.limits)).transpose()
    }

    /// Processes tasks on the threads, and calls `on_result` on this thread in the order of
    /// completion. An error of `on_result` stops the threads after their current task.
    fn run(
        &self,
        set: &ImageSet,
        tasks: &[&Task],
        given: Option<&LoadedImage>,
        mut on_result: impl FnMut(&Path, Result<CopyState, Failure>) -> Result<(), DistortFilesError>,
    ) -> Result<(), DistortFilesError> {
        let budget = PixelBudget::new(MAX_PIXELS);
        let job = self.job(&budget);
        let run = |task: &Task| {
            let image = &set.images[task.image];
            let seed = item_seed(self.seed, key(image));
            let of_folder = || Others::First(set.others(task.image, seed));
            let others = given.map_or_else(of_folder, Others::Given);
            job.run(&set.root.join(image), &task.out, seed, others)
        };
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (sender, results) = mpsc::sync_channel(1);
            for _ in 0..self.threads.get().min(tasks.len()) {
                let (sender, next, run) = (sender.clone(), &next, &run);
                scope.spawn(move || {
                    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // Sending fails when the receiver has stopped.
                        if sender.send((task.image, run(task))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            results.into_iter().try_for_each(|(image, result)| on_result(&set.images[image], result))
        })
    }
}

impl DistortOutcome {
    fn add<'a>(
        &'a mut self,
        image: &'a Path,
        result: Result<CopyState, Failure>,
    ) -> Result<DistortEvent<'a>, DistortFilesError> {
        let (reason, detail) = match result {
            Ok(state) => {
                match state {
                    CopyState::Written => self.written += 1,
                    CopyState::Existing => self.existing += 1,
                }
                return Ok(DistortEvent::Finished { image, state });
            }
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Image(error)) => (skip_reason(&error), chain(&error)),
            Err(Failure::NoOther { family, source }) => {
                let detail =
                    format!("{family} needs a second image, but no other can be used: {}", chain(&source));
                (skip_reason(&source), detail)
            }
            Err(Failure::Name(error)) => (SkipReason::OutputName, chain(&error)),
        };
        let skipped = Skipped::new(image.to_string_lossy(), reason).with_detail(detail);
        self.skipped.push(skipped);
        Ok(DistortEvent::Skipped(&self.skipped[self.skipped.len() - 1]))
    }
}

/// Returns the bytes that the seed of an image is derived from: the components of its path, joined
/// by `/`.
fn key(path: &Path) -> Vec<u8> {
    path.iter().map(OsStr::as_encoded_bytes).collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_with_slashes() {
        let path: PathBuf = ["a", "b", "c.jpg"].iter().collect();
        assert_eq!(key(&path), b"a/b/c.jpg");
    }
}
