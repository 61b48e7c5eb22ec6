//! Files and folders to distort.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::iter;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::error::FilesError;
use super::item::{Given, Made, Maker, Others, Stop, needing_other};
use super::listing::{Listing, walk};
use super::names::{Owner, outputs, short};
use super::record::{self, Record};
use super::skipped::{SkipReason, Skipped};
use super::{atomic_write, workers};
use crate::{DistortError, Distortion, Limits, item_seed, seed};

/// How images are made into files; see the [module](super).
#[derive(Debug, Clone)]
pub struct Batch {
    distortion: Distortion,
    seed: u64,
    threads: NonZero<usize>,
    limits: Limits,
    other: Option<PathBuf>,
}

/// What a folder was made into.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Files that were made.
    pub made: usize,
    /// Files that were there.
    pub there: usize,
    /// Images without a file, sorted by path.
    pub skipped: Vec<Skipped>,
}

/// What happens while a folder is worked on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Files that are there will be checked, before anything is made; left out where there are none.
    Checking {
        /// How many.
        there: usize,
    },
    /// One of them was.
    Checked {
        /// The path of its image in the folder.
        image: &'a Path,
        /// The file.
        out: &'a Path,
    },
    /// The making begins: of all images so many have their file.
    Started {
        /// Files that are there.
        there: usize,
        /// Images, and links that are not followed.
        total: usize,
    },
    /// An image has its file.
    Made {
        /// Its path in the folder.
        image: &'a Path,
        /// The file.
        out: &'a Path,
    },
    /// An image cannot have one.
    Skipped(&'a Skipped),
}

impl Batch {
    /// One thread, seed 0, the default limits.
    pub fn new(distortion: Distortion) -> Self {
        Self { distortion, seed: 0, threads: NonZero::<usize>::MIN, limits: Limits::default(), other: None }
    }

    /// Sets the seed, from which each image's follows.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how many images are worked on at a time. Each takes some ten bytes a pixel.
    pub fn with_threads(mut self, threads: NonZero<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// Sets what an image file may take.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the image that the families take which bring in another one. It is read once for all images.
    pub fn with_other(mut self, other: impl Into<PathBuf>) -> Self {
        self.other = Some(other.into());
        self
    }

    /// Makes one file of one image, unless it is there. Its seed is that of an image with its name in a folder.
    ///
    /// # Errors
    ///
    /// [`FilesError::Distort`] if the distortion or the image cannot be used, [`Alone`](FilesError::Alone) if another image
    /// is needed and not given, [`NotPng`](FilesError::NotPng) if `out` does not end in `.png`;
    /// [`Exists`](FilesError::Exists), [`Damaged`](FilesError::Damaged) or [`OtherOrigin`](FilesError::OtherOrigin) if something else is there;
    /// [`Io`](FilesError::Io).
    pub fn file(&self, image: impl AsRef<Path>, out: impl AsRef<Path>) -> Result<Made, FilesError> {
        let (image, out) = (image.as_ref(), out.as_ref());
        let given = self.check()?;
        atomic_write::check_name(out)?;
        if let (Some(family), None) = (needing_other(&self.distortion), &given) {
            return Err(FilesError::Alone { family: family.name(), path: image.to_owned() });
        }
        let others = given.as_ref().map_or(Others::First(iter::empty()), Others::Given);
        let seed = item_seed(self.seed, key(image.file_name().unwrap_or_default().as_ref()));
        self.maker().make(image, out, seed, others).map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Image(error) | Stop::NoOther { source: error, .. } => error.into(),
            Stop::BadName { out, source } => FilesError::io("write", &out)(source),
        })
    }

    /// Makes a file of each image in a folder that has none yet; see the [module](super). `tell` is called on this thread, in
    /// the order in which images are finished.
    ///
    /// # Errors
    ///
    /// Before anything is written: [`FilesError::Distort`] if the distortion or the other image that was set cannot be
    /// used, [`NoImages`](FilesError::NoImages), [`Alone`](FilesError::Alone), [`Inside`](FilesError::Inside), and
    /// whatever speaks against the folder to write to: [`NotOurs`](FilesError::NotOurs),
    /// [`OtherSettings`](FilesError::OtherSettings), [`Record`](FilesError::Record), [`Orphan`](FilesError::Orphan),
    /// [`Exists`](FilesError::Exists), [`Damaged`](FilesError::Damaged), [`OtherOrigin`](FilesError::OtherOrigin),
    /// [`Locked`](FilesError::Locked).
    /// At any time [`Io`](FilesError::Io); what is finished stays.
    pub fn folder(
        &self,
        images: impl AsRef<Path>,
        out: impl AsRef<Path>,
        mut tell: impl FnMut(Event<'_>),
    ) -> Result<Outcome, FilesError> {
        let (images, out) = (images.as_ref(), out.as_ref());
        let given = self.check()?;
        let set = Set::of(images, out)?;
        if let (Some(family), None, [only]) = (needing_other(&self.distortion), &given, &set.images[..]) {
            return Err(FilesError::Alone { family: family.name(), path: images.join(only) });
        }
        let record = Record::new(self.distortion.to_string(), self.seed);
        if record.fits(out)? {
            set.claim_all(out, images)?;
        }
        let _lock = record.begin(out)?;

        let total = set.tasks.len() + set.skipped.len();
        let mut outcome = Outcome { skipped: set.skipped, ..Outcome::default() };
        let (there, missing): (Vec<&Task>, Vec<&Task>) = set.tasks.iter().partition(|task| task.out.exists());
        let (root, images) = (&set.root, &set.images);
        let make = |task: &Task| {
            let seed = item_seed(self.seed, key(&images[task.image]));
            let of_the_set = || {
                let others = others(task.image, images.len(), seed);
                Others::First(others.map(|other| root.join(&images[other])))
            };
            let others = given.as_ref().map_or_else(of_the_set, Others::Given);
            self.maker().make(&root.join(&images[task.image]), &task.out, seed, others)
        };
        // all of it first, so that nothing is written where something else is found
        if !there.is_empty() {
            tell(Event::Checking { there: there.len() });
        }
        self.each(&there, &make, |task, made| {
            outcome.add(&images[task.image], made)?;
            tell(Event::Checked { image: &images[task.image], out: &task.out });
            Ok(())
        })?;
        tell(Event::Started { there: outcome.there, total });
        outcome.skipped.iter().for_each(|skipped| tell(Event::Skipped(skipped)));
        self.each(&missing, &make, |task, made| {
            let skipped = outcome.skipped.len();
            outcome.add(&images[task.image], made)?;
            tell(match outcome.skipped.get(skipped) {
                Some(skipped) => Event::Skipped(skipped),
                None => Event::Made { image: &images[task.image], out: &task.out },
            });
            Ok(())
        })?;
        outcome.skipped.sort_by(|a, b| a.image.cmp(&b.image));
        Ok(outcome)
    }

    fn maker(&self) -> Maker<'_> {
        Maker { distortion: &self.distortion, limits: &self.limits }
    }

    /// Whatever would fail for all images alike. Gives the other image that was set.
    fn check(&self) -> Result<Option<Given>, DistortError> {
        self.distortion.validate()?;
        if let Some(family) = self.distortion.families().find(|family| family.needs_model()) {
            return Err(DistortError::NeedsModel { family: family.name() });
        }
        self.other.as_ref().map(|other| Given::read(other, &self.limits)).transpose()
    }

    fn each(
        &self,
        tasks: &[&Task],
        make: &(impl Fn(&Task) -> Result<Made, Stop> + Sync),
        mut done: impl FnMut(&Task, Result<Made, Stop>) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let work = |index: usize| make(tasks[index]);
        workers::each(self.threads, tasks.len(), work, |index, made| done(tasks[index], made))
    }
}

impl Outcome {
    fn add(&mut self, image: &Path, made: Result<Made, Stop>) -> Result<(), FilesError> {
        let reason = match made {
            Ok(Made::Now) => {
                self.made += 1;
                return Ok(());
            }
            Ok(Made::Before) => {
                self.there += 1;
                return Ok(());
            }
            Err(Stop::Image(error)) => SkipReason::Image(error),
            Err(Stop::NoOther { family, source }) => SkipReason::NoOther { family, source },
            Err(Stop::BadName { out, source }) => SkipReason::BadName { out, source },
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.skipped.push(Skipped { image: image.to_owned(), reason });
        Ok(())
    }
}

/// An image and its file.
struct Task {
    /// Index of the image.
    image: usize,
    out: PathBuf,
}

/// The images of a folder and their files.
struct Set {
    /// The folder without links.
    root: PathBuf,
    /// Paths in it, sorted.
    images: Vec<PathBuf>,
    tasks: Vec<Task>,
    skipped: Vec<Skipped>,
}

impl Set {
    fn of(folder: &Path, out: &Path) -> Result<Self, FilesError> {
        let root = folder.canonicalize().map_err(FilesError::io("open the folder", folder))?;
        if resolved(out)?.starts_with(&root) {
            return Err(FilesError::Inside { out: out.to_owned(), images: folder.to_owned() });
        }
        let Listing { images, mut skipped } = Listing::of(&root)?;
        if images.is_empty() {
            return Err(FilesError::NoImages { path: folder.to_owned() });
        }
        let mut tasks = Vec::with_capacity(images.len());
        let names = outputs(&images, Path::new(record::NAME));
        for (image, name) in names.iter().enumerate() {
            let reason = match name {
                Ok(name) => {
                    tasks.push(Task { image, out: out.join(name) });
                    continue;
                }
                Err(Owner::Image(by)) => {
                    let out = names[*by].clone().unwrap_or_default();
                    SkipReason::SameName { out, by: images[*by].clone() }
                }
                Err(Owner::Other) => SkipReason::NoPlace { out: short(&images[image]) },
            };
            skipped.push(Skipped { image: images[image].clone(), reason });
        }
        Ok(Self { root, images, tasks, skipped })
    }

    /// Sees that each PNG file in the other folder is one of an image.
    fn claim_all(&self, out: &Path, images: &Path) -> Result<(), FilesError> {
        let ours: BTreeSet<&Path> = self.tasks.iter().map(|task| task.out.as_path()).collect();
        let mut orphan: Option<PathBuf> = None;
        walk(out, |path, _| {
            let path = out.join(path);
            let is_file = atomic_write::check_name(&path).is_ok();
            if is_file && !ours.contains(path.as_path()) && orphan.as_ref().is_none_or(|first| path < *first)
            {
                orphan = Some(path);
            }
        })?;
        match orphan {
            Some(path) => Err(FilesError::Orphan { path, images: images.to_owned() }),
            None => Ok(()),
        }
    }
}

/// The other images for an image, the one chosen first, and those behind it if that one cannot be used.
fn others(image: usize, count: usize, item_seed: u64) -> impl Iterator<Item = usize> {
    let others = count - 1;
    let first = seed::others(item_seed).below(others);
    (0..others).map(move |step| {
        let place = (first + step) % others;
        place + usize::from(place >= image)
    })
}

/// What stands for an image in its seed: the names on its path with `/` between them, whatever the system has.
fn key(path: &Path) -> Vec<u8> {
    path.iter().map(OsStr::as_encoded_bytes).collect::<Vec<_>>().join(&b'/')
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> Result<PathBuf, FilesError> {
    let full = std::path::absolute(path).map_err(FilesError::io("find", path))?;
    let there = full.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    Ok(match there {
        Some((part, real)) => real.join(full.strip_prefix(part).unwrap_or(Path::new(""))),
        None => full,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_all_but_the_image_itself() {
        for seed in 0..50 {
            for image in 0..4 {
                let mut chosen: Vec<_> = others(image, 4, seed).collect();
                chosen.push(image);
                chosen.sort_unstable();
                assert_eq!(chosen, [0, 1, 2, 3]);
            }
        }
        let firsts: BTreeSet<_> = (0..50).filter_map(|seed| others(1, 4, seed).next()).collect();
        assert_eq!(firsts, [0, 2, 3].into());
        assert_eq!(others(0, 1, 7).count(), 0);
    }

    #[test]
    fn keys_are_paths_with_slashes() {
        let path: PathBuf = ["a", "b", "c.jpg"].iter().collect();
        assert_eq!(key(&path), b"a/b/c.jpg");
    }
}
