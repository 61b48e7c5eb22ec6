//! The images of a folder with the paths of their copies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bpo_distort::choose_other;
use bpo_pairs::files::FileError;
use bpo_pairs::{SkipReason, Skipped, UntrustedPath};

use super::error::DistortFilesError;
use super::listing::{Listing, walk};
use super::names::{copy_names, short_name};
use super::origin::is_png;
use crate::paths::resolve;

/// An image and its copy.
pub(super) struct Task {
    /// Index of the image.
    pub(super) image: usize,
    pub(super) out: PathBuf,
}

/// The images of a folder with the paths of their copies.
pub(super) struct ImageSet {
    /// The folder, without links.
    pub(super) root: PathBuf,
    /// Paths in the folder, sorted.
    pub(super) images: Vec<PathBuf>,
    pub(super) tasks: Vec<Task>,
    pub(super) skipped: Vec<Skipped>,
}

impl ImageSet {
    pub(super) fn new(folder: &Path, out: &Path) -> Result<Self, DistortFilesError> {
        let io = || FileError::io("open the folder", folder);
        let root = folder.canonicalize().map_err(io())?;
        if resolve(out).map_err(io())?.starts_with(&root) {
            return Err(DistortFilesError::Inside { out: out.to_owned(), images: folder.to_owned() });
        }
        let Listing { images, mut skipped } = Listing::of(&root)?;
        if images.is_empty() {
            return Err(DistortFilesError::NoImages { path: folder.to_owned() });
        }
        let mut tasks = Vec::with_capacity(images.len());
        for (image, name) in copy_names(&images).into_iter().enumerate() {
            match name {
                Some(name) => tasks.push(Task { image, out: out.join(name) }),
                None => {
                    let detail = format!("the name {} is taken", UntrustedPath(&short_name(&images[image])));
                    let skip = Skipped::new(images[image].to_string_lossy(), SkipReason::OutputName);
                    skipped.push(skip.with_detail(detail));
                }
            }
        }
        skipped.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Self { root, images, tasks, skipped })
    }

    /// Checks that each PNG file in the output folder is the copy of an image.
    pub(super) fn check_orphans(&self, out: &Path, images: &Path) -> Result<(), DistortFilesError> {
        let copies: BTreeSet<&Path> = self.tasks.iter().map(|task| task.out.as_path()).collect();
        let mut orphans = BTreeSet::new();
        for entry in walk(out).take_while(|_| out.exists()) {
            let path = entry?.into_path();
            if is_png(&path) && !copies.contains(path.as_path()) {
                orphans.insert(path);
            }
        }
        orphans
            .pop_first()
            .map_or(Ok(()), |path| Err(DistortFilesError::Orphan { path, images: images.to_owned() }))
    }

    /// The candidates for the second image of an image: the chosen one first, then those after it.
    pub(super) fn others(&self, image: usize, item_seed: u64) -> impl Iterator<Item = PathBuf> + '_ {
        others(image, self.images.len(), item_seed).map(|other| self.root.join(&self.images[other]))
    }
}

fn others(image: usize, count: usize, item_seed: u64) -> impl Iterator<Item = usize> {
    let others = count - 1;
    let first = choose_other(item_seed, others);
    (0..others).map(move |step| {
        let place = (first + step) % others;
        place + usize::from(place >= image)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_all_images_but_the_image_itself() {
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
}
